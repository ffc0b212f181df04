"""ESS of layers of the shapes of large models, on a GPU or any device, against the listing there.

    python benchmarks/gpu_shapes.py [falcon] [llama] [--device cuda] [--layers 1] [--json]

falcon  Falcon-Mamba-7B: 64 layers of 8192 channels, N = 16, 2048 tokens, 64 positions
llama   Llama-3-8B: 32 layers of 32 heads of 128 channels, 2048 tokens: exact at 64 positions,
        and entropy with three tolerances certified at all positions

Features are random, of the true shapes and in bfloat16, one layer at a time on the device.
`--layers` of them are measured and scaled to all; give 64 or 32 to run a model in full. The
listing (`torch.svd`, float32, on the same device) is measured at a sample of the positions of one
head or channel, and scaled. Peak memory is that above the features of the layer.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measuring import PeakMemory, evenly_spread
from recurrent import selective_state_space
from torch import Tensor

from hf_ess.operators import LinearOperator, SoftmaxAttentionOperator
from hf_ess.spectra import block_singular_values, certified_metrics

TOLERANCES = (1e-1, 1e-3, 1e-5)
FALCON_LAYERS, LLAMA_LAYERS = 64, 32
MEBIBYTE = 2**20


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds, and the growth of memory on the device in MiB."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    with PeakMemory() as memory:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    if device.type == "cuda":
        return seconds, (torch.cuda.max_memory_allocated(device) - before) / MEBIBYTE
    return seconds, memory.mebibytes


def listing(matrix: Tensor, positions: list[int]) -> None:
    """The paper's loop over one operator `[L, L]`."""
    for position in positions:
        torch.svd(matrix[position:, :position])


def certified(operator: LinearOperator, memory_budget: int) -> None:
    """All positions of all heads, as many at a time as fit into half of the budget."""
    for heads in operator.group_chunks(memory_budget, share=2):
        matrices = operator.to_dense(heads)[0]
        positions = range(1, operator.length)
        certified_metrics(matrices, positions, TOLERANCES, memory_budget=memory_budget)


def attention(options: argparse.Namespace, device: torch.device, layer: int) -> LinearOperator:
    """A layer of grouped heads, four to each pair of keys and values."""
    generator = torch.Generator().manual_seed(layer)
    width, length = options.head_size, options.length
    query = 1.5 * torch.randn(1, options.heads, length, width, generator=generator)
    key = torch.randn(1, max(1, options.heads // 4), length, width, generator=generator)
    query, key = (features.to(device, torch.bfloat16) for features in (query, key))
    return SoftmaxAttentionOperator(query, key)


def measure(
    layers: int,
    all_layers: int,
    make: Callable[[int], LinearOperator],
    work: Callable[[LinearOperator], object],
    positions: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One way through some layers, scaled to all, and against the listing."""
    device = torch.device(options.device)
    work(make(0))
    seconds, peaks = [], []
    for layer in range(layers):
        spent, peak = timed(partial(work, make(layer)), device)
        seconds.append(spent)
        peaks.append(peak)
    operator = make(0)
    matrix = operator.to_dense(slice(0, 1))[0, 0].float()
    sampled = evenly_spread(operator.length, options.listing_positions)
    listing(matrix, sampled[:1])
    spent, _ = timed(partial(listing, matrix, sampled), device)
    per_layer = sum(seconds) / layers
    listed = spent / len(sampled) * positions * operator.groups
    return {
        "groups": operator.groups,
        "length": operator.length,
        "positions": positions,
        "layers_measured": layers,
        "layers": all_layers,
        "seconds_per_layer": per_layer,
        "seconds_of_all_layers": per_layer * all_layers,
        "scaled": layers < all_layers,
        "peak_memory_mib": max(peaks),
        "listing_measured_at_positions": len(sampled),
        "listing_seconds_per_layer_scaled": listed,
        "times_faster_than_listing": listed / per_layer,
    }


def falcon(options: argparse.Namespace) -> dict[str, Any]:
    """Recurrences, exact at some positions."""
    positions = evenly_spread(options.length, options.positions)

    def make(layer: int) -> LinearOperator:
        shape = options.channels, options.states, options.length
        return selective_state_space(*shape, torch.bfloat16, options.device)

    work = partial(block_singular_values, positions=positions, memory_budget=options.memory_budget)
    layers = min(options.layers, FALCON_LAYERS)
    return {"exact": measure(layers, FALCON_LAYERS, make, work, len(positions), options)}


def llama(options: argparse.Namespace) -> dict[str, Any]:
    """Attention, exact at some positions and certified at all."""
    positions = evenly_spread(options.length, options.positions)
    make = partial(attention, options, torch.device(options.device))
    budget = options.memory_budget
    exact = partial(block_singular_values, positions=positions, memory_budget=budget)
    every = partial(certified, memory_budget=budget)
    layers = min(options.layers, LLAMA_LAYERS)
    return {
        "exact": measure(layers, LLAMA_LAYERS, make, exact, len(positions), options),
        "certified": measure(layers, LLAMA_LAYERS, make, every, options.length - 1, options),
    }


PARTS = {"falcon": falcon, "llama": llama}


def main() -> None:
    """Runs the parts that are asked for and prints a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--layers", type=int, default=1, help="how many are measured")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--positions", type=int, default=64)
    parser.add_argument("--channels", type=int, default=8192, help="of a layer of Falcon-Mamba")
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--heads", type=int, default=32, help="of a layer of Llama")
    parser.add_argument("--head-size", type=int, default=128)
    parser.add_argument("--listing-positions", type=int, default=8)
    parser.add_argument("--memory-budget", type=int, default=2**34, help="bytes on the device")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    results = {part: PARTS[part](options) for part in options.parts or PARTS}
    if options.json:
        print(json.dumps({"device": name, "results": results}, indent=2))
        return
    print(f"on {name}")
    for part, ways in results.items():
        for way, result in ways.items():
            print(f"{part}, {way}")
            for key, value in result.items():
                print(f"  {key.replace('_', ' '):36s}{value}")


if __name__ == "__main__":
    main()
