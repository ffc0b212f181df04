"""A report's numbers against an SVD of every block in float64, within what the report states."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from analysis.slow_oracle import entropy
from operators_recurrent.naive import block_values

from hf_ess.report import LayerESS
from hf_ess.spectra.bounds import gram_error

# Of the largest singular value: what forming M and an SVD in float64 may err at up to 130 tokens.
ROUNDING = 2e-12
# Divide and conquer counts at a tolerance within this fraction of the one asked for.
TOLERANCE_ETA = 1e-7
# How much of a report is looked at; drawn, since an SVD of each block would take seconds.
POSITIONS, GROUPS = 4, 6


@dataclass(frozen=True)
class Block:
    """One block of one group of one text, and where it stands in the report."""

    place: tuple[int, int, int]
    values: np.ndarray
    position: int
    length: int

    @property
    def rounding(self) -> float:
        return ROUNDING * float(self.values[0])


def some_blocks(
    layer: LayerESS, sample: int, dense: np.ndarray, window: tuple[int, int] | None, random: Random
) -> Iterator[Block]:
    """Blocks of a text's operator `[G, L, L]`: the first, the last and some other positions."""
    length = dense.shape[-1]
    within = [place for place, i in enumerate(layer.positions.tolist()) if i < length]
    if not within:
        return
    between = random.sample(within, min(POSITIONS - 2, len(within)))
    groups = sorted(random.sample(range(layer.groups), min(GROUPS, layer.groups)))
    for place in sorted({within[0], within[-1], *between}):
        position = int(layer.positions[place])
        values = block_values(dense[groups], position, window)
        for group, row in zip(groups, values, strict=True):
            yield Block((sample, group, place), row, position, length)


def entropy_problem(layer: LayerESS, block: Block) -> str:
    """What is wrong with an entropy-ESS, empty if nothing is."""
    found = float(layer.entropy_ess[block.place])
    if not block.values.any():
        return "" if found == 0 else f"entropy-ESS {found} of an empty block"
    true = entropy(block.values.tolist())
    width = float(layer.entropy_half_width[block.place])
    slack = width * found + _entropy_slack(block, _errors(layer, block))
    if abs(found - true) <= slack:
        return ""
    return f"entropy-ESS {found!r} at {block.place}, the SVD gives {true!r} +- {slack:.1e}"


def values_problem(layer: LayerESS, block: Block) -> str:
    """What is wrong with the singular values that a report holds, empty if nothing is."""
    errors = _errors(layer, block)
    largest = float(layer.largest_singular_value[block.place])
    if not math.isnan(largest) and abs(largest - block.values[0]) > errors[0]:
        return f"largest singular value {largest!r} at {block.place}, not {block.values[0]!r}"
    if layer.singular_values is None:
        return ""
    kept = layer.singular_values[block.place].astype(np.float64)
    width = max(len(kept), len(block.values))
    found, true = (np.pad(row, (0, width - len(row))) for row in (kept, block.values))
    # They are kept in float32, which knows no number below this one.
    room = np.pad(errors, (0, width - len(errors))) + true * 2.0**-23 + 2.0**-149
    wrong = np.abs(found - true) > room
    return f"{wrong.sum()} singular values at {block.place} are off" if wrong.any() else ""


def _errors(layer: LayerESS, block: Block) -> np.ndarray:
    """How far each singular value may be from the true one."""
    bound = float(layer.error_bound[block.place])
    if math.isnan(bound):  # divide and conquer; what it decomposes, it decomposes by Grams
        sides = torch.tensor([block.length - block.position, block.position], dtype=torch.float64)
        bound = float(gram_error(torch.tensor(block.values[0]), *sides))
    stated = np.full(block.values.shape, bound)
    if layer.method in (
        "gram",
        "divide-and-conquer",
    ):  # roots of squares, whose error is that of the squares
        # A block of zeros is exact: its bound is zero, too.
        larger = np.maximum(block.values, max(bound, np.finfo(np.float64).tiny))
        stated = bound * (bound / larger)
    return stated + block.rounding


def _entropy_slack(block: Block, errors: np.ndarray) -> float:
    """How much such errors may change `exp(H)`: `dH = -sum (log p + H) dp`, and as much again."""
    total = block.values.sum() or 1.0
    shares = np.maximum(block.values, errors) / total
    # An error scales all shares too, which the last term is for.
    change = (errors / total * (np.abs(np.log(np.minimum(shares, 1.0))) + 1.0)).sum()
    effective = math.exp(float(-(shares * np.log(np.minimum(shares, 1.0))).sum()))
    return float(2 * effective * change * (1 + math.log(max(effective, 1.0))))


def count_problem(layer: LayerESS, block: Block, tolerance: float, relative: bool) -> str:
    """What is wrong with a tolerance-ESS, empty if nothing is.

    Values within their error of the threshold may count or not, where the report says so.
    """
    if bool(layer.below_floor[tolerance][block.place]):
        return ""
    found = float(layer.tolerance_ess[tolerance][block.place])
    unsure = float(layer.undecided[tolerance][block.place])
    threshold = tolerance * float(block.values[0]) if relative else tolerance
    eta = TOLERANCE_ETA if "divide-and-conquer" in layer.method else 0.0
    least = (block.values > threshold * (1 + eta) + block.rounding).sum()
    most = (block.values > threshold * (1 - eta) - block.rounding).sum()
    if not least <= found + unsure or not found - unsure <= most:
        return (
            f"tolerance-ESS({tolerance:g}) {found} at {block.place}, {unsure:g} of them undecided; "
            f"the SVD gives {least} to {most}"
        )
    attainable = float(layer.attainable_by_group[block.place])
    if found - unsure > attainable:
        return f"tolerance-ESS({tolerance:g}) {found} at {block.place} exceeds {attainable}"
    return ""


def attainable_problem(layer: LayerESS, block: Block, window: tuple[int, int] | None) -> str:
    """What is wrong with the attainable state size, empty if nothing is."""
    attainable = float(layer.attainable_by_group[block.place])
    room = min(block.position, block.length - block.position, *(window or ()))
    capacity = float(layer.capacity[block.place])
    rank = int((block.values > 10 * block.rounding).sum())
    if attainable > min(room, capacity):
        return f"attainable {attainable} at {block.place}: {room} fit, the capacity is {capacity}"
    return "" if rank <= attainable else f"rank {rank} at {block.place} exceeds {attainable}"
