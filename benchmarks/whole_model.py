"""Time of `hf_ess.analyze` as a multiple of the model's plain forward pass, and its peak memory.

    python benchmarks/whole_model.py [--tokens 512] [--repetitions 3] [--model PATH] [--json]

Forward pass and analysis alternate in one process; the medians and their ratio are reported.
Peak memory is that of the process above what it held with the model loaded and warmed up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from dataclasses import asdict, dataclass

import psutil
import torch
from smollm2 import smollm2_path

import hf_ess
from model_adapters.loading import load

DEMO_TEXT = "hf_ess/data/demo.txt"


@dataclass(frozen=True)
class Result:
    """Seconds are medians, memory is in MiB."""

    model: str
    tokens: int
    heads: int
    positions: int
    threads: int
    forward_seconds: float
    analyze_seconds: float
    multiple_of_forward: float
    peak_memory_above_model: float


class PeakMemory:
    """Largest resident memory of this process while the block runs, sampled every 5 ms."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self.before = self._process.memory_info().rss
        self.peak = self.before
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        """Growth during the block."""
        return (self.peak - self.before) / 2**20


def measure(model_path: str, tokens: int, positions: str, repetitions: int) -> Result:
    """Alternates forward passes and analyses of one text."""
    loaded = load(model_path, dtype=torch.float32)
    model, tokenizer = loaded.model, loaded.tokenizer
    with open(DEMO_TEXT, encoding="utf-8") as file:
        text = file.read()
    ids = tokenizer(text * (1 + tokens // 400), return_tensors="pt")["input_ids"][:, :tokens]
    forwards, analyses = [], []
    with torch.no_grad():
        for _ in range(2):
            model(ids, use_cache=False)
    with PeakMemory() as memory:
        for _ in range(repetitions):
            forwards.append(_seconds(lambda: _forward(model, ids)))
            start = time.perf_counter()
            report = hf_ess.analyze(model, ids, positions=positions, progress=False)
            analyses.append(time.perf_counter() - start)
    forward, analysis = statistics.median(forwards), statistics.median(analyses)
    return Result(
        model=str(report.provenance["model"]),
        tokens=ids.shape[1],
        heads=sum(layer.groups for layer in report.layers),
        positions=len(report.positions),
        threads=torch.get_num_threads(),
        forward_seconds=round(forward, 3),
        analyze_seconds=round(analysis, 3),
        multiple_of_forward=round(analysis / forward, 2),
        peak_memory_above_model=round(memory.mebibytes),
    )


def _forward(model: torch.nn.Module, ids: torch.Tensor) -> None:
    with torch.no_grad():
        model(ids, use_cache=False)


def _seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    """Runs the benchmark and prints one table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="SmolLM2 from the package by default")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--positions", default="auto")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(
        options.model or str(smollm2_path()), options.tokens, options.positions, options.repetitions
    )
    if options.json:
        print(json.dumps(asdict(result), indent=2))
        return
    for name, value in asdict(result).items():
        print(f"{name.replace('_', ' '):28s}{value}")


if __name__ == "__main__":
    main()
