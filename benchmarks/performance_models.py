"""The end of docs/performance.md: cost models with fitted rates, and a projection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cost_models import (
    ASSUMED_EFFICIENCY,
    ENTROPY_SHIFTS,
    H100_FLOPS,
    LLAMA_70B,
    certified_shifts,
    dividing_flops,
    gram_flops,
    projections,
    recurrence_flops,
    window_flops,
)

YARDSTICK = "1024"
LENGTH, WINDOW, TOLERANCES = 32_768, 128, 3

FORMULAS = """\
## Cost models

Flops of one head or channel, leading terms; L tokens, h = L / 2, P positions, S shifts, N numbers
of a state, windows of w. Rates below are these flops over the measured time, of everything.

| way | flops | bytes held |
|---|---|---|
| cumulative Gram and eigenvalues | (10/3 + P/3) h^3 | 8 L^2 + a few times 8 h^2 |
| divide and conquer, all positions | 2 (16/7 + 104/63 S) h^3 | 8 L^2 + 88 h^2 for one shift |
| recurrence | 4 L N^2 + 4 P N^3 | 8 P N^2 at the most, 16 sqrt(P) N^2 at the least |
| windows | 10/3 w^3 P, and 2 L^2 D to form the rows of D channels | 32 w L |

S is 10 for entropy (up to 12 where intervals are wide; most of them in float32), 2 for each
certified tolerance, 1 for each that is only counted. Divide and conquer does its work in products,
an eigensolver a part of it at the speed of memory, which is why the rates differ.
"""


@dataclass(frozen=True)
class Rate:
    """What a way reached in one run.

    Args:
        way: "gram", "dividing", "recurrence" or "windows".
        what: was measured.
        gflops: flops of the model over the time.
    """

    way: str
    what: str
    gflops: float


def rates_of(runs: Mapping[str, Any]) -> Iterator[Rate]:
    """The rates of one machine; long operators come last."""
    for name in ("attention", "attention-2048"):
        if name in runs:
            yield from _attention_rates(runs[name]["output"])
    if "recurrence" in runs:
        speed = runs["recurrence"]["output"]["speed"]
        flops = speed["channels"] * recurrence_flops(
            speed["length"], speed["states"], speed["positions"]
        )
        what = f"{speed['channels']} channels, N = {speed['states']}, {speed['threads']} threads"
        yield Rate("recurrence", what, 1e-9 * flops / speed["ours_seconds"])
    if "windows" in runs:
        for result in runs["windows"]["output"]["results"]:
            flops = window_flops(result["window"], 1)
            what = f"window {result['window']}, L = {result['length']}"
            yield Rate("windows", what, 1e-6 * flops / result["spectra_ms"])


def _attention_rates(output: Any) -> Iterator[Rate]:
    for result in output["results"]:
        length, methods = result["length"], result["methods"]
        tolerances = len(result["tolerances"])
        exact = gram_flops(length, methods["exact"]["positions"])
        for way, name, flops in (
            ("gram", "exact", exact),
            ("dividing", "counts", dividing_flops(length, tolerances)),
            ("dividing", "entropy", dividing_flops(length, ENTROPY_SHIFTS)),
            ("dividing", "certified", dividing_flops(length, certified_shifts(tolerances))),
        ):
            gflops = 1e-6 * flops / methods[name]["ms_per_head"]
            yield Rate(way, f"L = {length}, {name}, {result['threads']} threads", gflops)


def efficiency_of(runs: Mapping[str, Any]) -> dict[str, float]:
    """Shares of the rate of products, of the ways that were measured with as many threads."""
    if "products" not in runs:
        return {}
    yardstick = runs["products"]["output"]["gflops"][YARDSTICK]
    rates = list(rates_of(runs))
    dividing = [rate.gflops for rate in rates if rate.way == "dividing"]
    windows = [rate.gflops for rate in rates if rate.what.startswith(f"window {WINDOW},")]
    found = {"dividing": dividing[-1:], "windows": windows[-1:]}
    return {way: gflops[0] / yardstick for way, gflops in found.items() if gflops}


def models_section(stored: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Formulas, rates and the projection."""
    yield FORMULAS
    yield "| way | measured | GFlop/s | share of float64 products | measured on |"
    yield "|---|---|---|---|---|"
    measured: dict[str, float] = {}
    lines = []
    for number, result in enumerate(stored, 1):
        runs = result["runs"]
        products = runs.get("products", {}).get("output", {}).get("gflops", {}).get(YARDSTICK)
        # The yardstick is a single thread's.
        for rate in rates_of(runs):
            comparable = products and rate.way in ("dividing", "gram", "windows")
            share = f"{rate.gflops / products:.0%}" if comparable else ""
            lines.append(f"| {rate.way} | {rate.what} | {rate.gflops:.3g} | {share} | {number} |")
        measured = efficiency_of(runs) | measured
    yield from lines or ["| all | not measured | | | |"]
    yield ""
    yield from projection_section(measured)


def projection_section(measured: Mapping[str, float]) -> Iterator[str]:
    """What a model of 70B would take; never measured."""
    model = LLAMA_70B
    yield f"## Projection, not measured: {model.name} at {LENGTH:,} tokens"
    yield ""
    yield (
        f"**Nothing of this was run.** {model.layers} layers of {model.heads} heads, one text, "
        f"all positions. Assumed: {H100_FLOPS / 1e12:g} TFlop/s of float64 products on each GPU\n"
        "(what the maker of the H100 gives for its tensor cores), of which each way reaches the\n"
        "share in the table; heads shared evenly; the time of the forward pass left out."
    )
    yield ""
    yield "| what | flops | GiB for a head | share of the rate | 8 GPUs | 64 GPUs |"
    yield "|---|---|---|---|---|---|"
    efficiency = {**ASSUMED_EFFICIENCY, **measured}
    ways = ("windows", "dividing")
    made = projections(model, LENGTH, WINDOW, TOLERANCES, efficiency)
    for way, projection in zip(ways, made, strict=True):
        source = "measured on a CPU" if way in measured else "assumed"
        yield (
            f"| {projection.what} | {projection.flops:.2g} "
            f"| {projection.bytes_per_head / 2**30:.2g} "
            f"| {projection.efficiency:.2g}, {source} | {duration(projection.hours(8))} "
            f"| {duration(projection.hours(64))} |"
        )
    yield ""
    yield (
        "Small eigenvalue problems reach a far smaller share on GPUs than on CPUs, so that the\n"
        "row of windows is the less certain one. The weights, about 131 GiB in bfloat16, are\n"
        "spread over the GPUs or come layer by layer ([large models](large-models.md))."
    )


def duration(hours: float) -> str:
    """Hours, minutes or seconds.

    Example:
        >>> duration(2.0), duration(0.1), duration(0.001)
        ('2 h', '6 min', '3.6 s')
    """
    if hours >= 1:
        return f"{hours:.2g} h"
    return f"{hours * 60:.2g} min" if hours >= 1 / 60 else f"{hours * 3600:.2g} s"
