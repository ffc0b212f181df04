"""Time of `hf_ess.analyze` as a multiple of the model's plain forward pass, and its peak memory.

    python benchmarks/whole_model.py [--tokens 512 1024] [--repetitions 3] [--threads N]
        [--positions auto|all|N] [--accuracy exact|certified] [--model PATH] [--json]

By default two analyses: exact at 63 positions, and entropy with three tolerances certified at
all positions. With `--positions` or `--accuracy` it is one; N is a number of positions. Forward
pass and analyses alternate in one process; medians and their ratios are reported. Peak memory is
that of the process above what it held before, with the model loaded and warmed up.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import PeakMemory, cost_of, evenly_spread
from smollm2 import demo_ids, smollm2_path
from torch import Tensor, nn

import hf_ess
from hf_ess.report import ESSReport
from hf_ess.spectra import Positions, resolve_positions
from model_adapters.loading import load


@dataclass(frozen=True)
class Result:
    """Seconds are medians, memory is in MiB."""

    model: str
    tokens: int
    accuracy: str
    heads: int
    positions: int
    threads: int
    forward_seconds: float
    analyze_seconds: float
    multiple_of_forward: float
    multiple_in_processor_time: float
    peak_memory_above_model: float


@dataclass
class Analysis:
    """One way to analyse, with what it gave and the largest memory that it took."""

    accuracy: str
    positions: Positions
    report: ESSReport | None = None
    peak: float = 0.0

    def of(self, model: nn.Module, ids: Tensor) -> Callable[[], None]:
        """The work to be timed."""

        def work() -> None:
            with PeakMemory() as memory:
                self.report = hf_ess.analyze(
                    model, ids, positions=self.positions, accuracy=self.accuracy, progress=False
                )
            self.peak = max(self.peak, memory.mebibytes)

        return work


def analyses_of(tokens: int, positions: str | None, accuracy: str | None) -> list[Analysis]:
    """What the command line asks for."""
    sampled = resolve_positions("auto", tokens)
    if positions is None and accuracy is None:
        return [Analysis("exact", sampled), Analysis("certified", "all")]
    chosen: Positions = positions if positions in ("auto", "all") else sampled
    if positions is not None and positions.isdecimal():
        chosen = evenly_spread(tokens, int(positions))
    return [Analysis(accuracy or "certified", chosen)]


def measure(loaded: Any, tokens: int, analyses: list[Analysis], repetitions: int) -> list[Result]:
    """Alternates forward passes and analyses of one text."""
    model = loaded.model
    ids = demo_ids(loaded.tokenizer, tokens)

    def forward() -> None:
        with torch.no_grad():
            model(ids, use_cache=False)

    forward()
    works = [analysis.of(model, ids) for analysis in analyses]
    plain, *costs = cost_of(forward, *works, repetitions=repetitions)
    results = []
    for analysis, cost in zip(analyses, costs, strict=True):
        report = analysis.report
        assert report is not None
        multiple = cost.processor_seconds / plain.processor_seconds
        results.append(
            Result(
                model=Path(str(report.provenance["model"])).name,
                tokens=ids.shape[1],
                accuracy=analysis.accuracy,
                heads=sum(layer.groups for layer in report.layers),
                positions=len(report.positions),
                threads=torch.get_num_threads(),
                forward_seconds=round(plain.seconds, 3),
                analyze_seconds=round(cost.seconds, 3),
                multiple_of_forward=round(cost.seconds / plain.seconds, 2),
                multiple_in_processor_time=round(multiple, 2),
                peak_memory_above_model=round(analysis.peak),
            )
        )
    return results


def main() -> None:
    """Runs the benchmark and prints one table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="SmolLM2 from the package by default")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--positions", default=None, help="auto, all, or how many")
    parser.add_argument("--accuracy", choices=["exact", "certified"], default=None)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loaded = load(options.model or str(smollm2_path()), dtype=torch.float32)
    results = [
        result
        for tokens in options.tokens
        for result in measure(
            loaded,
            tokens,
            analyses_of(tokens, options.positions, options.accuracy),
            options.repetitions,
        )
    ]
    if options.json:
        print(json.dumps({"results": [asdict(result) for result in results]}, indent=2))
        return
    for result in results:
        for name, value in asdict(result).items():
            print(f"{name.replace('_', ' '):28s}{value}")
        print()


if __name__ == "__main__":
    main()
