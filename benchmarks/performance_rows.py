"""The rows of docs/performance.md from the outputs of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        key: names it in `targets.json`.
        what: was measured.
        value: what a target is compared with.
        text: the figure for readers.
    """

    key: str
    what: str
    value: float
    text: str


Rows = Callable[[Any], Iterator[Row]]
METHODS = {
    "listing": "the paper's listing",
    "exact": "exact",
    "counts": "counts at three tolerances, not certified",
    "entropy": "entropy, certified",
    "certified": "entropy and three tolerances, certified",
}


def number(value: float) -> str:
    """Three digits, without exponents for usual sizes.

    Example:
        >>> number(123.456), number(0.01234), number(12345.6)
        ('123', '0.0123', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def attention(output: Any) -> Iterator[Row]:
    """Time per head, and how many times faster than the listing."""
    for result in output["results"]:
        length = result["length"]
        for name, row in result["methods"].items():
            what = f"L = {length}, {METHODS[name]}, {row['positions']} positions"
            faster = row["times_faster_than_listing"]
            text = f"{number(row['ms_per_head'])} ms a head"
            if name != "listing":
                scaled = row["positions"] != result["listing_measured_at_positions"]
                text += f"; {number(faster)} times faster{' (listing scaled)' if scaled else ''}"
            if "largest_half_width" in row:
                text += f"; largest half width {row['largest_half_width']:.2%}"
            yield Row(f"attention.{length}.{name}", what, faster, text)


def correctness(output: Any) -> Iterator[Row]:
    """Wrong counts and violated intervals."""
    for result in output["results"]:
        check = result.get("check")
        if check is None:
            continue
        where = f"L = {result['length']}, all positions of {check['heads']} heads"
        key = f"correctness.{result['length']}.{check['heads']}-heads"
        for name, what, of in (
            ("raw_count_mismatches", "counts that are not those of the singular values", "counts"),
            ("certified_count_violations", "certified counts that are wrong", "counts"),
            ("interval_violations", "entropies outside of their interval", "intervals"),
        ):
            wrong = check[name]
            yield Row(f"{key}.{name}", f"{where}: {what}", wrong, f"{wrong} of {check[of]:,}")
        number_of, error = check["decomposed"], check["largest_decomposed_error"]
        what = f"{where}: largest error of entropy of {number_of:,} blocks that were decomposed"
        yield Row(f"{key}.decomposed", what, error, f"{error:.0e}")
        width, error = check["largest_half_width"], check["largest_entropy_error"]
        text = f"{width:.2%}; the largest error is {error:.2%}"
        yield Row(f"{key}.half_width", f"{where}: largest half width of entropy", width, text)


def whole_model(output: Any) -> Iterator[Row]:
    """Multiples of the forward pass, and memory."""
    for result in output["results"]:
        what = (
            f"{result['heads']} heads, {result['tokens']} tokens, {result['positions']} positions, "
            f"{result['accuracy']}, {result['threads']} threads"
        )
        key = f"whole-model.{result['tokens']}.{result['accuracy']}"
        multiple = result["multiple_of_forward"]
        text = (
            f"{number(multiple)} times the forward pass of {number(result['forward_seconds'])} s; "
            f"{number(result['peak_memory_above_model'])} MiB above the model"
        )
        yield Row(key, what, multiple, text)


def recurrence(output: Any) -> Iterator[Row]:
    """Against dense methods."""
    speed = output["speed"]
    what = (
        f"{speed['channels']} channels, N = {speed['states']}, L = {speed['length']}, "
        f"{speed['positions']} positions, {speed['threads']} threads"
    )
    for key, name in (("svdvals", "svdvals_float64"), ("listing", "listing_float32")):
        faster = speed[f"times_faster_than_{name}"]
        text = f"{number(faster)} times faster"
        yield Row(f"recurrence.{key}", f"{what}, against {key}", faster, text)
    seconds, peak = speed["ours_seconds"], speed["peak_memory_mib"]
    text = f"{number(seconds)} s; peak of {number(peak)} MiB"
    yield Row("recurrence.seconds", what, seconds, text)
    every = output["every"]
    text = f"{number(every['seconds'])} s; peak of {number(every['peak_memory_mib'])} MiB"
    what = f"{every['channels']} channels, all {every['positions']} positions"
    yield Row("recurrence.every", what, every["seconds"], text)


def growth(output: Any) -> Iterator[Row]:
    """What twice the tokens cost, and a million of them."""
    doubled = output["growth"]
    lengths = sorted(map(int, doubled["seconds"]))
    what = (
        f"{doubled['channels']} channels, {doubled['positions']} positions, "
        f"each doubling from {lengths[0]} to {lengths[-1]} tokens"
    )
    factor = doubled["largest_factor_per_doubling"]
    yield Row("recurrence.doubling", what, factor, f"at most {number(factor)} times longer")
    million = output["million"]
    for name, seconds in million.items():
        if not name.startswith("seconds_at_"):
            continue
        at = name.removeprefix("seconds_at_")
        # No peak: what an earlier run left to the process would hide it.
        held = million[f"of_that_result_mib_at_{at}"]
        text = f"{number(seconds)} s; {number(held)} MiB of results"
        what = f"{million['channels']} channels, a million tokens, {at.replace('_', ' ')}"
        yield Row(f"recurrence.million.{at}", what, seconds, text)


def falcon(output: Any) -> Iterator[Row]:
    """One layer on the CPU."""
    layer = output["falcon"]
    peak = layer["peak_memory_above_layer_mib"]
    what = f"{layer['channels']} channels, N = 16, L = 2048, {layer['positions']} positions"
    text = f"{number(layer['seconds'])} s; {number(peak)} MiB above the layer"
    yield Row("falcon-layer.seconds", what, layer["seconds"], text)


def windows(output: Any) -> Iterator[Row]:
    """Milliseconds per position."""
    for result in output["results"]:
        spectra = result["spectra_ms"]
        text = (
            f"{number(spectra)} ms a position, rows {number(result['rows_ms'])} ms; "
            f"peak of {number(result['peak_memory'])} MiB"
        )
        what = f"window {result['window']}, L = {result['length']}"
        yield Row(f"windows.{result['window']}.{result['length']}", what, spectra, text)
    for window, factor in output["growth"].items():
        what = f"window {window}, spectra of the longest text over those of the shortest"
        yield Row(f"windows.{window}.growth", what, factor, f"{number(factor)} times")


def processes(output: Any) -> Iterator[Row]:
    """Speed-ups."""
    for result in output:
        faster, processor = result["speed_up"], result["speed_up_in_processor_time"]
        what = f"{result['processes']} processes, {result['samples']} texts of {result['tokens']}"
        text = f"{number(faster)} times faster, {number(processor)} in processor time"
        yield Row(f"processes.{result['samples']}", f"{what} tokens", faster, text)


def offload(output: Any) -> Iterator[Row]:
    """Memory of weights on disk."""
    share = output["peak_on_disk_by_weights"]
    what = f"{number(output['weights'])} MiB of weights, all on disk"
    text = (
        f"peak of {number(output['peak_on_disk'])} MiB; {number(output['peak_in_memory'])} MiB "
        f"with the weights in memory; the same report: {'yes' if output['same_report'] else 'no'}"
    )
    yield Row("offload.peak_by_weights", what, share, text)


def gpu(output: Any) -> Iterator[Row]:
    """Whole models of random features."""
    for part, ways in output["results"].items():
        for way, result in ways.items():
            what = (
                f"{part} shapes, {way}, {result['layers']} layers of {result['groups']}, "
                f"L = {result['length']}, {result['positions']} positions, {output['device']}"
            )
            seconds = result["seconds_of_all_layers"]
            measured = f" (scaled from {result['layers_measured']})" if result["scaled"] else ""
            text = (
                f"{number(seconds)} s{measured}; peak of {number(result['peak_memory_mib'])} MiB; "
                f"{number(result['times_faster_than_listing'])} times faster (listing scaled)"
            )
            yield Row(f"gpu.{part}.{way}", what, seconds, text)
