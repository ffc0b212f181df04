"""Which positions of a sequence are analysed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError

AUTO_POSITIONS = 64

Positions = str | int | Sequence[int] | Tensor


def resolve_positions(positions: Positions, length: int) -> tuple[int, ...]:
    """The positions i of the blocks `M[i:, :i]` that a request stands for, ascending.

    Args:
        positions: `"auto"` (at most 64, evenly spread), `"all"` (1..L-1), a stride, or integers
            within 1..L-1 in any order (a list, a tuple, a range, an integer array or tensor).
        length: L, the sequence length.

    Raises:
        InvalidInputError: a sequence shorter than two tokens; no, repeated or out-of-range
            positions; an unknown word.
        InvalidTypeError: anything but whole numbers.

    Source: Parnichkun et al., ICML 2025, section 3: the block at position i maps the inputs
    before i to the outputs from i on, so that i runs from 1 to L - 1.

    Example:
        >>> from hf_ess.spectra import resolve_positions
        >>> resolve_positions("all", 5)
        (1, 2, 3, 4)
        >>> resolve_positions(4, 16)
        (4, 8, 12)
        >>> len(resolve_positions("auto", 512))
        63
    """
    if length < 2:
        raise InvalidInputError(
            f"A sequence of length {length} is too short: a past and a future need two tokens.",
            fix="Analyse a text of at least two tokens.",
        )
    if isinstance(positions, str):
        return _named(positions, length)
    if _is_integer(positions):
        return _strided(int(positions), length)  # type: ignore[arg-type]
    return _listed(positions, length)


def _named(word: str, length: int) -> tuple[int, ...]:
    if word == "all":
        return tuple(range(1, length))
    if word == "auto":
        return _strided(-(-length // AUTO_POSITIONS), length)
    raise InvalidInputError(
        f"Unknown positions {word!r}.",
        fix="Pass 'auto', 'all', a stride, or a sequence of integers.",
    )


def _strided(stride: int, length: int) -> tuple[int, ...]:
    if not 1 <= stride < length:
        raise InvalidInputError(
            f"A stride of {stride} leaves no position within a sequence of length {length}.",
            fix=f"Pass a stride between 1 and {length - 1}.",
        )
    return tuple(range(stride, length, stride))


def _listed(positions: object, length: int) -> tuple[int, ...]:
    listed = positions.tolist() if hasattr(positions, "tolist") else positions
    if not isinstance(listed, Sequence) or not all(map(_is_integer, listed)):
        raise InvalidTypeError(
            f"Positions must be whole numbers, got {positions!r}.",
            fix="Pass 'auto', 'all', a stride, or a sequence of integers.",
        )
    ordered = sorted(map(int, listed))
    if not ordered:
        raise InvalidInputError("No positions are given.", fix="Pass at least one position.")
    if ordered[0] < 1 or ordered[-1] >= length:
        wrong = ordered[0] if ordered[0] < 1 else ordered[-1]
        raise InvalidInputError(
            f"Position {wrong} is out of range for a sequence of length {length}.",
            fix=f"Pass positions between 1 and {length - 1}.",
        )
    for before, after in pairwise(ordered):
        if before == after:
            raise InvalidInputError(f"Position {after} is given twice.", fix="Give it once.")
    return tuple(ordered)


def _is_integer(value: object) -> bool:
    """Whole numbers of Python, numpy and torch; bool is a subclass of int but no position."""
    if isinstance(value, bool | Tensor):
        return (
            isinstance(value, Tensor)
            and value.ndim == 0
            and value.dtype != torch.bool
            and not value.is_floating_point()
            and not value.is_complex()
        )
    return hasattr(value, "__index__") and getattr(value, "ndim", 0) == 0
