"""Singular values of blocks from their Gram matrices, shared between positions.

With `H_i = M[i:, :i]`, going down from the middle, `H_i' H_i` is the leading part of the Gram
before it plus the squares of the rows in between; going up, `H_i H_i'` is the trailing part plus
the squares of the columns in between. Only squares are added, so nothing cancels. The smaller
side of each block is used: nothing larger than L/2 x L/2 is ever decomposed. (Ours.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hf_ess.spectra.blocks import Region

# Longer sums round with the same sign where entries repeat: see bounds.py.
SUMMED_AT_ONCE = 128
# Flops of an eigenvalue decomposition count for more than those of a matrix product.
EIGENVALUE_COST = 4


def gram_of_columns(block: Tensor) -> Tensor:
    """`block' block` of `[n, rows, columns]`, summed in short runs, `[n, columns, columns]`."""
    first, *others = torch.split(block, SUMMED_AT_ONCE, dim=1)
    total: Tensor = first.mT @ first
    for run in others:
        total += run.mT @ run
    return total


def block_grams(region: Region) -> Iterator[tuple[int, Tensor, int, int]]:
    """Position, Gram `[n, k, k]`, rows and columns that are not zero, for every block.

    Takes whichever of two exact ways needs less work: the Gram cumulated over positions, or each
    block on its own without its zeros (windows, sliding windows, chunked masks).
    """
    if region.window is not None or _separate_is_cheaper(region):
        return _separate(region)
    return _cumulated(region)


def _separate_is_cheaper(region: Region) -> bool:
    separate = cumulated = 0
    for rows, columns in zip(*region.used_counts(), strict=True):
        smaller = min(rows, columns)
        separate += 2 * rows * columns * smaller + EIGENVALUE_COST * smaller**3
        cumulated += 2 * SUMMED_AT_ONCE * columns**2 + EIGENVALUE_COST * columns**3
    return separate < cumulated


def _separate(region: Region) -> Iterator[tuple[int, Tensor, int, int]]:
    for position in region.positions:
        block = region.block(position)
        rows, columns = block.shape[1:]
        yield position, gram_of_columns(block if rows >= columns else block.mT), rows, columns


def _cumulated(region: Region) -> Iterator[tuple[int, Tensor, int, int]]:
    matrices, first_row = region.matrices, region.positions[0]
    used_rows, used_columns = region.used_counts()
    before = region.positions[-1]
    base = gram_of_columns(matrices[:, before - first_row :])
    recent, recent_rows, additions = torch.zeros_like(base), 0, 0
    # Every addition rounds all that was there. Few rows at a time gather beside the base, so that
    # no entry takes part in more additions than about twice the root of their number.
    most = math.isqrt(len(region.positions)) + 1
    for index in reversed(range(len(region.positions))):
        position = region.positions[index]
        new_rows = matrices[:, position - first_row : before - first_row, :position]
        recent = recent[:, :position, :position]
        for run in torch.split(new_rows, SUMMED_AT_ONCE, dim=1):
            recent.baddbmm_(run.mT, run)
        recent_rows, before, additions = recent_rows + new_rows.shape[1], position, additions + 1
        gram = base[:, :position, :position] + recent
        if recent_rows >= SUMMED_AT_ONCE or additions >= most:
            base, recent, recent_rows, additions = gram, recent.zero_(), 0, 0
        columns = used_columns[index]
        if columns < position:
            used = region.used_columns(position)
            gram = gram.index_select(1, used).index_select(2, used)
        yield position, gram, used_rows[index], columns
