"""Time of `hf_ess.analyze` as a multiple of the model's plain forward pass, and its peak memory.

    python benchmarks/whole_model.py [--tokens 512] [--repetitions 3] [--model PATH] [--json]

Forward pass and analysis alternate in one process; the medians and their ratio are reported.
Peak memory is that of the process above what it held with the model loaded and warmed up.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import torch
from measuring import PeakMemory, cost_of
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
    multiple_in_processor_time: float
    peak_memory_above_model: float


def measure(model_path: str, tokens: int, positions: str, repetitions: int) -> Result:
    """Alternates forward passes and analyses of one text."""
    loaded = load(model_path, dtype=torch.float32)
    model, tokenizer = loaded.model, loaded.tokenizer
    with open(DEMO_TEXT, encoding="utf-8") as file:
        text = file.read()
    ids = tokenizer(text * (1 + tokens // 400), return_tensors="pt")["input_ids"][:, :tokens]
    reports = []

    def forward() -> None:
        with torch.no_grad():
            model(ids, use_cache=False)

    def analysis() -> None:
        reports.append(hf_ess.analyze(model, ids, positions=positions, progress=False))

    forward()
    with PeakMemory() as memory:
        plain, analyzed = cost_of(forward, analysis, repetitions=repetitions)
    report = reports[-1]
    return Result(
        model=str(report.provenance["model"]),
        tokens=ids.shape[1],
        heads=sum(layer.groups for layer in report.layers),
        positions=len(report.positions),
        threads=torch.get_num_threads(),
        forward_seconds=round(plain.seconds, 3),
        analyze_seconds=round(analyzed.seconds, 3),
        multiple_of_forward=round(analyzed.seconds / plain.seconds, 2),
        multiple_in_processor_time=round(analyzed.processor_seconds / plain.processor_seconds, 2),
        peak_memory_above_model=round(memory.mebibytes),
    )


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
