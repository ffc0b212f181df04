"""Does the state of SmolLM2 fall at separators? Total ESS there, against its surroundings.

    python benchmarks/separators.py [--model PATH] [--json]

The demo text holds six passages on unrelated subjects, separated by the end-of-text token, and
goes on for about 115 tokens after the last separator. For each metric the total ESS at a cut next
to a separator is divided by the median of the cuts 4 to 23 tokens away on both sides. The null is
the same ratio at every cut that is more than 28 tokens away from separators and ends.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from numpy.typing import NDArray
from smollm2 import smollm2_path

import hf_ess
from model_adapters.loading import load

SEPARATOR = "<|endoftext|>"
NEAR, FAR, MARGIN = 4, 24, 28


def ratio_to_surroundings(curve: NDArray[np.float64], position: int) -> float:
    """Total at a position over the median of its surroundings; curve starts at position 1."""
    at = position - 1
    around = np.r_[curve[max(0, at - FAR) : at - NEAR], curve[at + NEAR : at + FAR]]
    return float(curve[at] / np.median(around))


def main() -> None:
    """Measures every position and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="SmolLM2 from the package by default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    loaded = load(options.model or smollm2_path(), dtype=torch.float32)
    with open("hf_ess/data/demo.txt", encoding="utf-8") as file:
        report = hf_ess.analyze(loaded.model, file.read(), loaded.tokenizer, positions="all")
    tokens = report.samples[0].tokens or []
    separators = [number for number, token in enumerate(tokens) if token == SEPARATOR]
    elsewhere = [
        position
        for position in range(MARGIN, len(tokens) - MARGIN)
        if min(abs(position - separator) for separator in separators) > MARGIN
    ]
    rows = {}
    for metric in report.metrics:
        curve = report.total_ess_by_position(metric)
        null = [ratio_to_surroundings(curve, position) for position in elsewhere]
        rows[report.metric_label(metric)] = {
            "cut before the separator": [ratio_to_surroundings(curve, s) for s in separators],
            "cut after the separator": [ratio_to_surroundings(curve, s + 1) for s in separators],
            "null: lowest": min(null),
            "null: median": float(np.median(null)),
        }
    if options.json:
        print(json.dumps({"separators": separators, "ratios": rows}, indent=2))
        return
    print(f"separators at tokens {separators}")
    for label, row in rows.items():
        print(label)
        for name, value in row.items():
            shown = [value] if isinstance(value, float) else value
            print(f"  {name:26s}" + " ".join(f"{number:.2f}" for number in shown))


if __name__ == "__main__":
    main()
