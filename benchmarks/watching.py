"""What watching a training costs at its default period, in processor time.

    python benchmarks/watching.py [--mixers GLA SA] [--width 64] [--length 128] [--batch 32]
                                  [--probe 4] [--steps 200] [--rate 2e-3] [--plot PATH] [--json]

The Trainer of transformers trains a synthetic model on multi-query recall, on one thread, with
`hf_ess.ESSCallback`. The share is that of all measurements but the one after the last step, in
the time of the steps; a short training has but the one before its first step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

import hf_ess
from hf_ess.synthetics import SyntheticConfig, build_model, multi_query_recall
from hf_ess.training import Thresholds, plot_watched

VOCABULARY = 64


def watched_training(options: argparse.Namespace) -> dict[str, Any]:
    """Times of one training, in seconds of the processor."""
    sizes = {"length": options.length, "pairs": options.length // 8, "vocabulary": VOCABULARY}
    config = SyntheticConfig(
        options.mixers, vocab_size=VOCABULARY, hidden_size=options.width, num_attention_heads=4
    )
    probe = multi_query_recall(options.probe, **sizes, seed=0).input_ids
    quiet = Thresholds(collapse=0, saturation=2)
    callback = hf_ess.ESSCallback(probe, thresholds=quiet)
    callback.clock = time.process_time
    texts = multi_query_recall(options.batch * options.steps, **sizes, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=options.batch,
            max_steps=options.steps,
            learning_rate=options.rate,
            logging_steps=options.steps,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        )
        rows = zip(texts.input_ids, texts.labels, strict=True)
        data = [{"input_ids": ids, "labels": labels} for ids, labels in rows]
        trainer = Trainer(
            build_model(config, seed=0), arguments, train_dataset=data, callbacks=[callback]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if options.plot:
        plot_watched(callback.history, options.plot)
    pace = callback.pace
    return {
        "mixers": options.mixers,
        "steps": [step for step, _ in callback.history],
        "step_seconds": pace.seconds_trained / options.steps,
        "measurement_seconds": pace.latest,
        "share": (pace.seconds_measured - pace.latest) / pace.seconds_trained,
    }


def main() -> None:
    """Trains, and prints what watching took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixers", nargs="+", default=["GLA", "SA"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--probe", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--plot", type=Path, help="where to draw entropy-ESS over the steps")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = watched_training(options)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"a step: {1e3 * found['step_seconds']:.0f} ms")
    print(f"a measurement: {1e3 * found['measurement_seconds']:.0f} ms")
    print(f"measured after steps: {', '.join(map(str, found['steps']))}")
    print(f"share of the time of the steps: {found['share']:.2%}")


if __name__ == "__main__":
    main()
