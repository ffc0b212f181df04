"""How long ESS of attention takes at some or all positions, against the paper's listing.

The baseline, "listing", is the loop of Parnichkun et al. (ICML 2025): a full `torch.svd` with
both sets of vectors, float32, of every block. All methods see the same heads of SmolLM2 with the
same number of threads, take turns within each repetition, and the median of the repetitions counts.

    python benchmarks/attention_spectra.py [--lengths 512 1024] [--heads 4] [--repeats 3]
        [--threads 1] [--check none|heads|all] [--synthetic] [--model PATH] [--json]

listing    the paper's loop at 63 positions; where others take all L-1 positions, its time is
           scaled by (L-1)/63, since nobody waits for it
exact      `block_singular_values` at the same 63 positions
counts     `counts_above`: counts at three tolerances, all positions, uncertified
entropy    `certified_metrics`: entropy-ESS with an interval of at most 1 %, all positions
certified  entropy and counts at three tolerances, both certified, all positions

`--check heads` compares all positions of the measured heads with singular values, `all` every head.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from attention_heads import RealAttention, peaked_attention
from correctness import compare
from measuring import Cost, cost_of
from torch import Tensor

from hf_ess.spectra import (
    block_singular_values,
    certified_metrics,
    counts_above,
    resolve_positions,
)

TOLERANCES = (1e-1, 1e-3, 1e-5)
CHECKS = ("none", "heads", "all")


def listing(matrices: Tensor, positions: Iterable[int]) -> list[Tensor]:
    """The paper's loop: full SVD of every block in float32."""
    single = matrices.float()
    return [torch.svd(m[i:, :i]).S for m in single for i in positions]


def methods_of(matrices: Tensor) -> dict[str, tuple[Callable[[], object], int]]:
    """What each method does, and at how many positions."""
    length = matrices.shape[-1]
    some, every = resolve_positions("auto", length), resolve_positions("all", length)
    return {
        "listing": (partial(listing, matrices, some), len(some)),
        "exact": (partial(block_singular_values, matrices, some), len(some)),
        "counts": (partial(counts_above, matrices, TOLERANCES), len(every)),
        "entropy": (partial(certified_metrics, matrices, every, []), len(every)),
        "certified": (partial(certified_metrics, matrices, every, TOLERANCES), len(every)),
    }


def measure(matrices: Tensor, repeats: int) -> dict[str, Any]:
    """Times of every method on some heads `[n, L, L]`."""
    heads, length = matrices.shape[:2]
    methods = methods_of(matrices)
    costs = cost_of(*(work for work, _ in methods.values()), repetitions=repeats)
    base, sampled = costs[0], methods["listing"][1]
    every = resolve_positions("all", length)
    widths = {
        "entropy": certified_metrics(matrices, every, []).half_width,
        "certified": certified_metrics(matrices, every, TOLERANCES).half_width,
    }
    return {
        "length": length,
        "heads": heads,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "tolerances": TOLERANCES,
        "listing_measured_at_positions": sampled,
        "methods": {
            name: _row(cost, base, positions / sampled, heads)
            | {"positions": positions}
            | ({"largest_half_width": float(widths[name].amax())} if name in widths else {})
            for (name, (_, positions)), cost in zip(methods.items(), costs, strict=True)
        },
    }


def _row(cost: Cost, listing_cost: Cost, more_positions: float, heads: int) -> dict[str, float]:
    wall, processor = cost.seconds, cost.processor_seconds
    return {
        "ms_per_head": 1e3 * wall / heads,
        "processor_ms_per_head": 1e3 * processor / heads,
        "times_faster_than_listing": listing_cost.seconds * more_positions / wall,
        "times_less_processor_than_listing": (
            listing_cost.processor_seconds * more_positions / processor
        ),
    }


def table(results: list[dict[str, Any]]) -> str:
    """The results as text."""
    head = f"{'L':>5} {'method':>9} {'positions':>9} {'ms/head':>9} {'vs listing':>10} "
    lines = [f"{head}{'processor':>9} {'half width':>10}"]
    for result in results:
        for name, row in result["methods"].items():
            width = row.get("largest_half_width")
            lines.append(
                f"{result['length']:>5} {name:>9} {row['positions']:>9} {row['ms_per_head']:>9.1f} "
                f"{row['times_faster_than_listing']:>9.2f}x "
                f"{row['times_less_processor_than_listing']:>8.2f}x "
                f"{'' if width is None else f'{width:.2%}':>10}"
            )
        sampled = result["listing_measured_at_positions"]
        lines.append(
            f"      where a method takes all {result['length'] - 1} positions, the listing's time "
            f"at {sampled} is scaled by {result['length'] - 1}/{sampled}"
        )
        if "check" in result:
            lines += [f"      {name}: {value}" for name, value in result["check"].items()]
    return "\n".join(lines)


def measure_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One result for every length."""
    real = None if options.synthetic else RealAttention(options.model)
    results = []
    for length in options.lengths:
        chosen = (
            real.some(options.heads, length)
            if real
            else peaked_attention(options.heads, length, options.seed)
        )
        result = measure(chosen, options.repeats) | {
            "attention": "synthetic" if options.synthetic else "real"
        }
        if options.check != "none":
            checked = real.every(length) if real and options.check == "all" else [chosen]
            result["check"] = asdict(compare(checked, TOLERANCES))
        results.append(result)
    return results


def main() -> None:
    """Runs the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of every method alike")
    parser.add_argument("--check", choices=CHECKS, default="none")
    parser.add_argument("--synthetic", action="store_true", help="attention without a model")
    parser.add_argument("--model", default=None, help="SmolLM2 from the package by default")
    parser.add_argument("--seed", type=int, default=0, help="of synthetic attention")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = measure_all(options)
    print(json.dumps({"results": results}, indent=2) if options.json else table(results))


if __name__ == "__main__":
    main()
