"""Causal matrices for tests, and a naive oracle for the spectra of their blocks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def peaked_attention(length: int, seed: int = 0, sharpness: float = 4.0) -> Tensor:
    query, key = torch.randn(2, length, 16, generator=generator(seed), dtype=torch.float64)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores = (sharpness / 4 * query @ key.T).masked_fill(hidden, -torch.inf)
    return torch.softmax(scores, -1)


def sliding_average(length: int, window: int) -> Tensor:
    """Each token averages over itself and the `window - 1` before it, with random weights."""
    weights = torch.rand(length, length, generator=generator(window), dtype=torch.float64) + 0.1
    weights = weights.tril().triu(1 - window)
    return weights / weights.sum(-1, keepdim=True)


def chunked(length: int, chunk: int) -> Tensor:
    index = torch.arange(length) // chunk
    return random_causal(length) * (index[:, None] == index)


def random_causal(length: int, seed: int = 0) -> Tensor:
    return torch.randn(length, length, generator=generator(seed), dtype=torch.float64).tril()


def low_rank(length: int, rank: int, seed: int = 0) -> Tensor:
    left, right = torch.randn(2, length, rank, generator=generator(seed), dtype=torch.float64)
    return (left @ right.T).tril()


def uniform_average(length: int) -> Tensor:
    return (
        torch.ones(length, length, dtype=torch.float64).tril()
        / torch.arange(1, length + 1)[:, None]
    )


def previous_token(length: int) -> Tensor:
    return torch.eye(length, dtype=torch.float64).roll(1, 0).tril()


def orthogonal(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator(seed), dtype=torch.float64))[
        0
    ]


def with_block(block: Tensor) -> Tensor:
    """A causal matrix that is zero but for its block at position `block.shape[1]`."""
    rows, columns = block.shape
    matrix = torch.zeros(rows + columns, rows + columns, dtype=torch.float64)
    matrix[columns:, :columns] = block
    return matrix


def block_with_values(values: Tensor, rows: int, seed: int = 0) -> Tensor:
    columns = len(values)
    return orthogonal(rows, seed)[:, :columns] * values @ orthogonal(columns, seed + 1)


def naive_values(matrix: Tensor, position: int, window: tuple[int, int] | None = None) -> Tensor:
    """Block by block with numpy's SVD."""
    future, past = window or (len(matrix), len(matrix))
    block = matrix.numpy()[position : position + future, max(0, position - past) : position]
    return torch.from_numpy(np.linalg.svd(block, compute_uv=False))


def entropy(values: Tensor) -> float:
    share = values[values > 0] / values.sum()
    return float(torch.exp(-(share * share.log()).sum())) if len(share) else 0.0
