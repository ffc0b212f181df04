"""Spectra of recurrences against dense SVD: speed, growth with the length, memory.

    python benchmarks/recurrent.py                  every part
    python benchmarks/recurrent.py speed [--baseline-channels 8]
    python benchmarks/recurrent.py growth
    python benchmarks/recurrent.py falcon           one layer of the shape of Falcon-Mamba-7B

All parts take `--json`. The operators are selective state-spaces (Mamba-1) with random features
and the usual initialisation of rates and steps.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from measuring import PeakMemory, cost_of
from torch import Tensor

from hf_ess.operators import OuterDecay, StateSpaceOperator
from hf_ess.spectra import block_singular_values
from hf_ess.spectra.parallel import run_tasks

PARTS = ("speed", "growth", "falcon")


def selective_state_space(
    channels: int, states: int, length: int, dtype: torch.dtype = torch.float32
) -> StateSpaceOperator:
    """One sample of a Mamba-1 layer: rates -1..-N, steps spread from 1e-3 to 1e-1."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    rate = -torch.arange(1.0, states + 1).expand(channels, states)
    step = 10 ** (2 * torch.rand(1, channels, length, generator=generator) - 3)
    write, read = normal(1, 1, length, states), normal(1, 1, length, states)
    step, write, read = (tensor.to(dtype) for tensor in (step, write, read))
    return StateSpaceOperator(
        OuterDecay(rate, step), write, read, write_scale=step, direct=torch.ones(1, channels, 1)
    )


def dense_values(
    matrices: Tensor, positions: tuple[int, ...], decompose: Callable[[Tensor], object]
) -> None:
    """Every block on its own, channels over threads with single-threaded LAPACK inside."""

    def solve(channel: int, stop: threading.Event) -> None:
        for i in positions:
            if not stop.is_set():
                decompose(matrices[channel, i:, :i])

    tasks = [partial(solve, channel) for channel in range(len(matrices))]
    run_tasks(tasks, torch.get_num_threads())


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Ours on every channel; both baselines on a sample of them, scaled to all."""
    operator = selective_state_space(options.channels, options.states, options.length)
    block_singular_values(operator, "auto")
    with PeakMemory() as memory:
        (ours,) = cost_of(
            partial(block_singular_values, operator, "auto"), repetitions=options.repetitions
        )
    spectra = block_singular_values(operator, "auto")
    sample = options.baseline_channels
    dense = operator.to_dense(slice(0, sample))[0]
    svdvals, listing = cost_of(
        partial(dense_values, dense, spectra.positions, torch.linalg.svdvals),
        partial(dense_values, dense.float(), spectra.positions, torch.svd),
        repetitions=1,
    )
    errors = [
        _relative_error(spectra.values[0, 0, index], torch.linalg.svdvals(dense[0, i:, :i]))
        for index, i in enumerate(spectra.positions)
    ]
    scale = options.channels / sample
    result = {
        "channels": options.channels,
        "states": options.states,
        "length": options.length,
        "positions": len(spectra.positions),
        "threads": torch.get_num_threads(),
        "ours_seconds": round(ours.seconds, 3),
        "ours_processor_seconds": round(ours.processor_seconds, 3),
        "peak_memory_mib": memory.mebibytes,
        "dense_matrices_would_be_mib": options.channels * options.length**2 * 8 / 2**20,
        "baseline_channels_measured": sample,
        "largest_error_relative_to_s1": max(errors),
    }
    for name, baseline in (("svdvals_float64", svdvals), ("listing_float32", listing)):
        processor = baseline.processor_seconds * scale
        result[f"{name}_seconds_scaled"] = round(baseline.seconds * scale, 1)
        result[f"{name}_processor_seconds_scaled"] = round(processor, 1)
        result[f"times_faster_than_{name}"] = round(baseline.seconds * scale / ours.seconds)
        result[f"times_less_processor_than_{name}"] = round(processor / ours.processor_seconds)
    return result


def _relative_error(values: Tensor, true: Tensor) -> float:
    count = min(values.shape[-1], true.shape[-1])
    return float((values[:count] - true[:count]).abs().max() / true[0])


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Time and peak memory from 1k to 16k tokens, and the largest factor per doubling."""
    costs, memories = {}, {}
    for length in (1024, 2048, 4096, 8192, 16384):
        operator = selective_state_space(options.channels, options.states, length)
        with PeakMemory() as memory:
            (costs[length],) = cost_of(
                partial(block_singular_values, operator, "auto"), repetitions=options.repetitions
            )
        memories[length] = memory.mebibytes
    return {
        "seconds": {length: round(cost.seconds, 3) for length, cost in costs.items()},
        "processor_seconds": {
            length: round(cost.processor_seconds, 3) for length, cost in costs.items()
        },
        "peak_memory_mib": memories,
        "largest_factor_per_doubling": _largest_factor([c.seconds for c in costs.values()]),
        "largest_processor_factor_per_doubling": _largest_factor(
            [cost.processor_seconds for cost in costs.values()]
        ),
    }


def _largest_factor(times: list[float]) -> float:
    return round(max(later / earlier for earlier, later in pairwise(times)), 2)


def falcon(options: argparse.Namespace) -> dict[str, Any]:
    """8192 channels of 16 states, 2048 tokens, 64 positions; features in bfloat16."""
    operator = selective_state_space(options.falcon_channels, 16, 2048, torch.bfloat16)
    positions = [*range(32, 2048, 32), 2040]
    with PeakMemory() as memory:
        results = []
        (cost,) = cost_of(
            lambda: results.append(block_singular_values(operator, positions)), repetitions=1
        )
    return {
        "channels": options.falcon_channels,
        "positions": len(positions),
        "seconds": round(cost.seconds, 1),
        "processor_seconds": round(cost.processor_seconds, 1),
        "peak_memory_above_layer_mib": memory.mebibytes,
        "of_that_result_mib": round(results[0].values.numel() * 8 / 2**20, 1),
    }


def main() -> None:
    """Runs the parts that are asked for and prints a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--baseline-channels", type=int, default=8)
    parser.add_argument("--falcon-channels", type=int, default=8192)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    run = {"speed": speed, "growth": growth, "falcon": falcon}
    results = {part: run[part](options) for part in options.parts or PARTS}
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for part, result in results.items():
        print(part)
        for name, value in result.items():
            print(f"  {name.replace('_', ' '):34s}{value}")


if __name__ == "__main__":
    main()
