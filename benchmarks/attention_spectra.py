"""How long the block spectra of attention take, against the paper's listing and plain routes.

The baseline, "listing", is the loop of Parnichkun et al. (ICML 2025): a full `torch.svd` with
both sets of vectors, float32, of every block. All methods see the same operators and positions,
take turns within each repetition, and the median of the repetitions counts. "gram" decomposes
each block's own Gram, "ours" is `block_singular_values`, which the package uses.

    python benchmarks/attention_spectra.py --lengths 256 512 1024 --heads 4 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_ess.spectra import block_singular_values, resolve_positions

Method = Callable[[Tensor, tuple[int, ...]], list[Tensor]]


def peaked_attention(heads: int, length: int, seed: int) -> Tensor:
    """Causal attention that favours few and near tokens, `[heads, L, L]` float64."""
    generator = torch.Generator().manual_seed(seed)
    query, noise = torch.randn(2, heads, length, 64, generator=generator, dtype=torch.float64)
    scores = (query @ (0.6 * query + noise).mT) / 8 * 2
    steps = torch.arange(length, dtype=torch.float64)
    scores -= 0.02 * (steps[:, None] - steps).clamp(min=0)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)


def listing(matrices: Tensor, positions: tuple[int, ...]) -> list[Tensor]:
    """The paper's loop: full SVD of every block in float32."""
    single = matrices.float()
    return [torch.svd(m[i:, :i]).S for m in single for i in positions]


def svdvals(matrices: Tensor, positions: tuple[int, ...]) -> list[Tensor]:
    """Only the singular values of every block, in float32."""
    single = matrices.float()
    return [torch.linalg.svdvals(m[i:, :i]) for m in single for i in positions]


def gram(matrices: Tensor, positions: tuple[int, ...]) -> list[Tensor]:
    """Eigenvalues of the smaller Gram of every block, in float64."""
    values = []
    for matrix in matrices:
        for i in positions:
            block = matrix[i:, :i] if 2 * i <= len(matrix) else matrix[i:, :i].mT
            squares = torch.linalg.eigvalsh(block.mT @ block)
            values.append(squares.flip(-1).clamp(min=0).sqrt())
    return values


def ours(matrices: Tensor, positions: tuple[int, ...]) -> list[Tensor]:
    """The package's own way."""
    spectra = block_singular_values(matrices, positions)
    return list(spectra.values.flatten(0, 1))


METHODS: dict[str, Method] = {"listing": listing, "svdvals": svdvals, "gram": gram, "ours": ours}


def largest_error(values: list[Tensor], exact: list[Tensor]) -> float:
    """Largest error of any value, relative to the largest value of its block."""
    pairs = zip(values, exact, strict=True)
    return max(
        ((got[: len(true)].double() - true).abs().max() / true[0]).item() for got, true in pairs
    )


def measure(length: int, heads: int, repeats: int, seed: int) -> dict[str, Any]:
    """Times and errors of every method at one length."""
    matrices = peaked_attention(heads, length, seed)
    positions = resolve_positions("auto", length)
    exact = [torch.linalg.svdvals(m[i:, :i]) for m in matrices for i in positions]
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    errors: dict[str, float] = {}
    for _ in range(repeats):
        for name, method in METHODS.items():
            start = time.perf_counter()
            values = method(matrices, positions)
            times[name].append((time.perf_counter() - start) * 1e3 / heads)
            errors[name] = largest_error(values, exact)
    medians = {name: statistics.median(runs) for name, runs in times.items()}
    return {
        "length": length,
        "heads": heads,
        "positions": len(positions),
        "repeats": repeats,
        "ms_per_head": medians,
        "ms_per_head_of_each_repeat": times,
        "times_faster_than_listing": {n: medians["listing"] / t for n, t in medians.items()},
        "largest_relative_error": errors,
    }


def table(results: list[dict[str, Any]]) -> str:
    """The results as text."""
    lines = [f"{'L':>5} {'method':>8} {'ms/head':>9} {'vs listing':>11} {'max error/s1':>13}"]
    for result in results:
        lines.extend(
            f"{result['length']:>5} {name:>8} {result['ms_per_head'][name]:>9.1f} "
            f"{result['times_faster_than_listing'][name]:>10.2f}x "
            f"{result['largest_relative_error'][name]:>13.1e}"
            for name in METHODS
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="Times block spectra of attention.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    results = [
        measure(length, options.heads, options.repeats, options.seed) for length in options.lengths
    ]
    if options.json:
        print(json.dumps({"threads": torch.get_num_threads(), "results": results}, indent=2))
    else:
        print(table(results))


if __name__ == "__main__":
    main()
