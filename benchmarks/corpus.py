"""Time and memory of an analysis of many texts that keeps a checkpoint, on SmolLM2.

    python benchmarks/corpus.py [--texts 200] [--max-length 64] [--positions 8] [--json]

The texts are the paragraphs of this repository's pages. One run gives everything: seconds for each
text, the share of them that went into the checkpoint (describing the work, writing, reading back),
and the memory of the process after some texts and while the report is made.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from measuring import PeakMemory
from smollm2 import smollm2_path

import hf_ess
from hf_ess.analysis import run
from hf_ess.analysis.checkpoint import Checkpoint
from hf_ess.corpus import paragraphs
from model_adapters.loading import load

ROOT = Path(__file__).resolve().parents[1]
FEWEST_WORDS = 40
MEBIBYTE = 2**20


def texts_at_hand(count: int) -> list[str]:
    """The first paragraphs of some length on the pages of this repository."""
    pages = [*sorted((ROOT / "hf_ess" / "data").glob("*.txt")), *sorted((ROOT / "docs").glob("*"))]
    texts = [
        part
        for page in pages
        if page.suffix in (".txt", ".md")
        for part in paragraphs(page.read_text(encoding="utf-8"))
        if len(part.split()) >= FEWEST_WORDS
    ]
    return texts[:count]


class Stopwatch:
    """Processor time of some functions, which are put in the place of others."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.resident: list[float] = []

    def timed(self, work: Callable[..., Any], *, memory: bool = False) -> Callable[..., Any]:
        """The same function, timed."""

        def timed_work(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            result = work(*arguments, **options)
            self.seconds += time.process_time() - began
            if memory:
                self.resident.append(psutil.Process().memory_info().rss / MEBIBYTE)
            return result

        return timed_work


def measured(texts: list[str], max_length: int, positions: int) -> dict[str, Any]:
    """Figures of one analysis; memory in MiB."""
    loaded = load(smollm2_path())
    watch = Stopwatch()
    Checkpoint.write = watch.timed(Checkpoint.write, memory=True)  # type: ignore[method-assign]
    Checkpoint.read = watch.timed(Checkpoint.read)  # type: ignore[method-assign]
    run.described_work = watch.timed(run.described_work)
    hf_ess.analyze(loaded.model, texts[0], loaded.tokenizer, max_length=max_length)
    with tempfile.TemporaryDirectory() as folder, PeakMemory() as memory:
        began, wall = time.process_time(), time.perf_counter()
        report = hf_ess.analyze(
            loaded.model,
            texts,
            loaded.tokenizer,
            positions=positions,
            max_length=max_length,
            checkpoint=folder,
        )
        spent, waited = time.process_time() - began, time.perf_counter() - wall
        kept = sum(path.stat().st_size for path in Path(folder).iterdir()) / MEBIBYTE
    numbers = [count for count in (10, 25, 50, 100, 200, 400) if count <= len(texts)]
    return {
        "texts": len(texts),
        "tokens": sum(sample.length for sample in report.samples),
        "processor_seconds_per_text": round(spent / len(texts), 3),
        "seconds_per_text": round(waited / len(texts), 3),
        "checkpoint_share": round(watch.seconds / spent, 4),
        "checkpoint_mebibytes_per_text": round(kept / len(texts), 2),
        "memory_after_texts": {number: round(watch.resident[number - 1]) for number in numbers},
        "memory_before": round(memory.before / MEBIBYTE),
        "memory_while_the_report_is_made": round(memory.peak / MEBIBYTE),
        "verified_layers": sum(layer.verified for layer in report.layers),
    }


def main() -> None:
    """Runs it and prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--positions", type=int, default=8, help="one in so many is measured")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures = measured(texts_at_hand(options.texts), options.max_length, options.positions)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
