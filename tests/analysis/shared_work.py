"""What each process does that a launcher starts for `test_processes`: analyses, and what came out.

    shared_work.py RESULTS SCENARIO

Writes one JSON object into the folder RESULTS under the number of the process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from tiny_models import build_tiny, tiny_input_ids
from torch import distributed
from transformers import BatchEncoding

import hf_ess
from hf_ess.analysis import processes
from hf_ess.analysis.measurement import OperatorMeasurer
from hf_ess.analysis.run import AnalysisRun

RANK = int(os.environ["RANK"])
LENGTH = 60
BROKEN_TOKEN = 7
LENGTHS = (60, 34, 60, 20, 47)


def texts_of_different_lengths(model):
    ids = tiny_input_ids(model, batch=len(LENGTHS), length=LENGTH)
    mask = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]
    return BatchEncoding({"input_ids": ids, "attention_mask": mask.long()})


def cases():
    llama = build_tiny("llama")
    yield (
        "samples",
        llama,
        texts_of_different_lengths(llama),
        {"batch_size": 2, "tolerances": [1e-3, 1e-15], "keep_singular_values": True},
    )
    for name, model_type, layers, options in (
        ("layers", "llama", 5, {}),
        ("heads", "llama", 1, {}),
        ("hybrid", "jamba", 2, {}),
        ("hybrid with convolutions", "jamba", 2, {"scope": "mixer"}),
        ("channels", "mamba", 1, {}),
        ("whole Jacobian", "llama", 1, {"method": "jacobian", "positions": [3, 9]}),
    ):
        model = build_tiny(model_type, num_hidden_layers=layers)
        length = 14 if options.get("method") else LENGTH
        yield name, model, tiny_input_ids(model, length=length), options


class Measured:
    """Notes how many groups of which layers this process measures."""

    def __enter__(self):
        self.groups = []
        self._original = OperatorMeasurer.measure

        def measure(measurer):
            self.groups.append((measurer.layer.name, measurer.layer.operator.groups))
            return self._original(measurer)

        OperatorMeasurer.measure = measure
        return self

    def __exit__(self, *_):
        OperatorMeasurer.measure = self._original


def analyze(model, inputs, **options):
    return hf_ess.analyze(model, inputs, progress=False, **options)


def equal_reports():
    for name, model, inputs, options in cases():
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            alone = analyze(model, inputs, distributed=False, **options)
        with warnings.catch_warnings(record=True) as heard, Measured() as measured:
            warnings.simplefilter("always")
            shared = analyze(model, inputs, **options)
        yield (
            name,
            {
                "alone": alone.fingerprint(),
                "shared": shared.fingerprint(),
                "created": shared.created_at,
                "report warnings": len(shared.warnings),
                "heard": sum(issubclass(w.category, UserWarning) for w in heard),
                "measured": measured.groups,
                "all groups": sum(layer.groups for layer in shared.layers) * len(shared.samples),
            },
        )


def outcome(model, inputs, **options):
    try:
        report = analyze(model, inputs, **options)
    except (hf_ess.HfEssError, KeyboardInterrupt) as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"layers": len(report.layers)}


def broken_in_one_text():
    model = build_tiny("llama")
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    ids[ids == BROKEN_TOKEN] = BROKEN_TOKEN + 1
    ids[1, 40] = BROKEN_TOKEN
    with torch.no_grad():
        model.get_input_embeddings().weight[BROKEN_TOKEN] = torch.nan
    return model, ids


def send_to_itself(model, number):
    """The process gets a signal when a text of full length reaches the second layer."""

    def press(module, args):
        if args[0].shape[1] == LENGTH:
            os.kill(os.getpid(), number)

    return model.model.layers[1].register_forward_pre_hook(press)


def no_room(*_, **__):
    raise hf_ess.MemoryBudgetError("no room for a report")


def stop(_progress):
    raise hf_ess.ReportError("seen enough")


def failures():
    yield "not a number", outcome(*broken_in_one_text())
    model = build_tiny("llama")
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    others = tiny_input_ids(model, batch=2, length=LENGTH, seed=RANK)
    yield "other texts", outcome(model, others)
    yield "other texts, alone", outcome(model, others, distributed=False)
    handle = send_to_itself(model, signal.SIGINT) if RANK == 1 else None
    yield "interrupted", outcome(model, ids)
    if handle is not None:
        handle.remove()
    report, AnalysisRun._report = AnalysisRun._report, no_room
    yield "no report", outcome(model, ids)
    AnalysisRun._report = report
    yield "bad option", outcome(model, ids, positions=[LENGTH + 1])
    told = []
    analyze(model, ids, on_progress=told.append)
    yield "told", [[progress.done, progress.total] for progress in told]
    yield "stopped", outcome(model, ids, on_progress=stop)
    yield "afterwards", outcome(model, ids)


def inside_another_program():
    distributed.init_process_group("gloo")
    model = build_tiny("llama", num_hidden_layers=4)
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    with Measured() as measured:
        analyze(model, ids)
    yield "auto", len(measured.groups)
    with Measured() as measured:
        analyze(model, ids, distributed=True)
    yield "asked for", len(measured.groups)
    if RANK == 1:
        send_to_itself(model, signal.SIGKILL)
    yield "killed", outcome(model, ids, distributed=True)
    # As torch asks of whoever started a group: its threads may abort an interpreter that ends.
    distributed.destroy_process_group()


def killed():
    model = build_tiny("llama")
    if RANK == 1:
        send_to_itself(model, signal.SIGKILL)
    yield "killed", outcome(model, tiny_input_ids(model, batch=2, length=LENGTH))


def nobody_else():
    processes.PATIENCE = timedelta(seconds=1)
    model = build_tiny("llama")
    yield "lonely", outcome(model, tiny_input_ids(model, length=LENGTH))


SCENARIOS = {
    "lonely": (nobody_else,),
    "work": (equal_reports, failures),
    "guest": (inside_another_program,),
    "killed": (killed,),
}


def main():
    folder, scenario = sys.argv[1:]
    torch.set_num_threads(1)
    results = {}
    for part in SCENARIOS[scenario]:
        results.update(part())
    Path(folder, f"{RANK}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
