"""Spectra of recurrences against dense SVD: speed, growth with the length, memory.

    python benchmarks/recurrent.py                  every part
    python benchmarks/recurrent.py speed [--baseline-channels 8]
    python benchmarks/recurrent.py every            the same operator at all positions
    python benchmarks/recurrent.py growth           1k to 128k tokens, 63 positions
    python benchmarks/recurrent.py million          a million tokens, few channels
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
from measuring import PeakMemory, cost_of, evenly_spread
from torch import Tensor

from hf_ess.operators import OuterDecay, StateSpaceOperator
from hf_ess.spectra import block_singular_values
from hf_ess.spectra.parallel import run_tasks

PARTS = ("speed", "every", "growth", "million", "falcon")


def selective_state_space(
    channels: int,
    states: int,
    length: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> StateSpaceOperator:
    """One sample of a Mamba-1 layer: rates -1..-N, steps spread from 1e-3 to 1e-1."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    rate = -torch.arange(1.0, states + 1).expand(channels, states)
    step = 10 ** (2 * torch.rand(1, channels, length, generator=generator) - 3)
    write, read = normal(1, 1, length, states), normal(1, 1, length, states)
    step, write, read = (tensor.to(device, dtype) for tensor in (step, write, read))
    direct = torch.ones(1, channels, 1, device=device)
    return StateSpaceOperator(
        OuterDecay(rate.to(device), step), write, read, write_scale=step, direct=direct
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
        result[f"times_faster_than_{name}"] = _three_digits(baseline.seconds * scale / ours.seconds)
        result[f"times_less_processor_than_{name}"] = _three_digits(
            processor / ours.processor_seconds
        )
    return result


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def _relative_error(values: Tensor, true: Tensor) -> float:
    count = min(values.shape[-1], true.shape[-1])
    return float((values[:count] - true[:count]).abs().max() / true[0])


def every(options: argparse.Namespace) -> dict[str, Any]:
    """All positions of the operator of `speed`."""
    operator = selective_state_space(options.channels, options.states, options.length)
    with PeakMemory() as memory:
        (cost,) = cost_of(partial(block_singular_values, operator, "all"), repetitions=1)
    return {
        "channels": options.channels,
        "positions": options.length - 1,
        "seconds": round(cost.seconds, 2),
        "processor_seconds": round(cost.processor_seconds, 2),
        "peak_memory_mib": memory.mebibytes,
        "of_that_result_mib": _result_mebibytes(operator, options.length - 1),
    }


def _result_mebibytes(operator: StateSpaceOperator, positions: int) -> float:
    return round(operator.groups * positions * operator.width * 8 / 2**20, 1)


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Time and peak memory from 1k to 128k tokens, and the largest factor per doubling."""
    costs, memories = {}, {}
    for length in (1024 * 2**doubling for doubling in range(8)):
        operator = selective_state_space(options.growth_channels, options.states, length)
        with PeakMemory() as memory:
            (costs[length],) = cost_of(
                partial(block_singular_values, operator, evenly_spread(length)),
                repetitions=options.repetitions,
            )
        memories[length] = memory.mebibytes
    return {
        "channels": options.growth_channels,
        "positions": len(evenly_spread(1024)),
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


def million(options: argparse.Namespace) -> dict[str, Any]:
    """A million tokens: 63 positions in the usual budget, and 10,000 in a budget of 64 MiB."""
    operator = selective_state_space(options.million_channels, options.states, 10**6)
    result: dict[str, Any] = {"channels": options.million_channels, "tokens": 10**6}
    for count, budget in ((63, 2**31), (10_000, 2**26)):
        with PeakMemory() as memory:
            (cost,) = cost_of(
                partial(
                    block_singular_values,
                    operator,
                    evenly_spread(10**6, count),
                    memory_budget=budget,
                ),
                repetitions=1,
            )
        result |= {
            f"seconds_at_{count}_positions": round(cost.seconds, 1),
            f"processor_seconds_at_{count}_positions": round(cost.processor_seconds, 1),
            f"peak_memory_mib_at_{count}_positions": memory.mebibytes,
            f"of_that_result_mib_at_{count}_positions": _result_mebibytes(operator, count),
        }
    return result


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
    parser.add_argument("--growth-channels", type=int, default=64)
    parser.add_argument("--million-channels", type=int, default=16)
    parser.add_argument("--falcon-channels", type=int, default=8192)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, help="for ours and the baselines alike")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    if options.threads:
        torch.set_num_threads(options.threads)
    run = {
        "speed": speed,
        "every": every,
        "growth": growth,
        "million": million,
        "falcon": falcon,
    }
    results = {part: run[part](options) for part in options.parts or PARTS}
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for part, result in results.items():
        print(part)
        for name, value in result.items():
            print(f"  {name.replace('_', ' '):44s}{value}")


if __name__ == "__main__":
    main()
