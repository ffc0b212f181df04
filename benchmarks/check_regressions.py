"""Compares a short selection of ratios with the committed ones; fails where one is 30 % worse.

    python benchmarks/check_regressions.py            prints a table, status 1 for a regression
    python benchmarks/check_regressions.py --write    replaces benchmarks/results/ratios.json

Ratios are of processor time in one process and one thread, so that neither the speed of a machine
nor what else it does matters much. Takes less than three minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import attention_spectra
import recurrent
import torch
import whole_model
from attention_heads import peaked_attention
from run_all import RATIOS, machine
from smollm2 import smollm2_path

from model_adapters.loading import load

MOST_WORSE = 0.3


@dataclass(frozen=True)
class Ratio:
    """One ratio.

    Args:
        value: the ratio.
        more_is_better: True for times faster, False for multiples of a cost.
    """

    value: float
    more_is_better: bool


@dataclass(frozen=True)
class Comparison:
    """A ratio, now and as committed.

    Args:
        name: of the ratio.
        committed: None where it is new.
        now: None where it is no longer measured.
        worse_by: 0.3 where what was 10 times faster is 10 / 1.3 times; negative where it is better.
    """

    name: str
    committed: float | None
    now: float | None
    worse_by: float

    @property
    def failed(self) -> bool:
        """Whether it is a regression, or a ratio that disappeared."""
        return self.now is None or self.worse_by > MOST_WORSE


def compare(committed: Mapping[str, Ratio], now: Mapping[str, Ratio]) -> list[Comparison]:
    """Every ratio of either.

    Example:
        >>> (one,) = compare({"a": Ratio(10, True)}, {"a": Ratio(7, True)})
        >>> round(one.worse_by, 2), one.failed
        (0.43, True)
    """
    return [
        _comparison(name, committed.get(name), now.get(name))
        for name in dict.fromkeys([*committed, *now])
    ]


def _comparison(name: str, before: Ratio | None, now: Ratio | None) -> Comparison:
    if before is None or now is None:
        old, new = (ratio.value if ratio else None for ratio in (before, now))
        return Comparison(name, old, new, worse_by=0.0)
    worse = before.value / now.value if now.more_is_better else now.value / before.value
    return Comparison(name, before.value, now.value, worse - 1)


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparison as text."""
    lines = [f"{'ratio':42}{'committed':>11}{'now':>11}{'worse by':>10}"]
    for one in comparisons:
        values = "".join(
            f"{'-' if value is None else format(value, '.3g'):>11}"
            for value in (one.committed, one.now)
        )
        verdict = "  REGRESSION" if one.failed else "  new" if one.committed is None else ""
        lines.append(f"{one.name:42}{values}{one.worse_by:>9.0%} {verdict}".rstrip())
    return "\n".join(lines)


def attention_ratios(length: int, heads: int, repeats: int) -> dict[str, Ratio]:
    """Times less than the listing, on synthetic heads."""
    methods = attention_spectra.measure(peaked_attention(heads, length), repeats)["methods"]
    return {
        f"attention {length}: {name} over listing": Ratio(
            row["times_less_processor_than_listing"], more_is_better=True
        )
        for name, row in methods.items()
        if name != "listing"
    }


def forward_ratios(model: str, tokens: int, repetitions: int) -> dict[str, Ratio]:
    """Multiples of the forward pass."""
    loaded = load(model, dtype=torch.float32)
    analyses = whole_model.analyses_of(tokens, None, None)
    return {
        f"analysis of {tokens} tokens, {result.accuracy}, over forward": Ratio(
            result.multiple_in_processor_time, more_is_better=False
        )
        for result in whole_model.measure(loaded, tokens, analyses, repetitions)
    }


def recurrence_ratios(length: int, channels: int, repetitions: int) -> dict[str, Ratio]:
    """Times less than `svdvals`, which is measured on two channels."""
    options = argparse.Namespace(
        channels=channels, states=16, length=length, baseline_channels=2, repetitions=repetitions
    )
    faster = recurrent.speed(options)["times_less_processor_than_svdvals_float64"]
    return {f"recurrence {length}: over svdvals": Ratio(faster, more_is_better=True)}


def measure(model: str) -> dict[str, Ratio]:
    """The whole selection."""
    return {
        **attention_ratios(256, heads=3, repeats=5),
        **attention_ratios(512, heads=2, repeats=3),
        **forward_ratios(model, tokens=192, repetitions=3),
        **recurrence_ratios(512, channels=64, repetitions=5),
    }


def stored() -> dict[str, Ratio]:
    """The committed ratios."""
    ratios: dict[str, Any] = json.loads(RATIOS.read_text(encoding="utf-8"))["ratios"]
    return {name: Ratio(**ratio) for name, ratio in ratios.items()}


def write(ratios: Mapping[str, Ratio]) -> None:
    """Replaces the committed ratios."""
    rounded = {
        name: asdict(Ratio(float(f"{ratio.value:.4g}"), ratio.more_is_better))
        for name, ratio in ratios.items()
    }
    kept = {"machine": machine(), "ratios": rounded}
    RATIOS.parent.mkdir(parents=True, exist_ok=True)
    RATIOS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measures, compares, and says with its status whether something got worse."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="SmolLM2 from the package by default")
    parser.add_argument("--write", action="store_true", help="replace the committed ratios")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratios = measure(options.model or str(smollm2_path()))
    if options.write:
        write(ratios)
    comparisons = compare(stored(), ratios)
    failed = any(one.failed for one in comparisons)
    if options.json:
        rows = [asdict(one) | {"failed": one.failed} for one in comparisons]
        print(json.dumps({"failed": failed, "comparisons": rows}, indent=2))
    else:
        print(table(comparisons))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
