"""Sweeps that need factors of the past and of the future together, in little memory."""

from __future__ import annotations

import math


def segments_of(positions: int, kept: int) -> list[range]:
    """Cuts positions into as few segments as `kept` factors allow.

    With S segments of at most k positions, `S - 1` factors wait at the starts of segments while
    the factors of one segment, k of them, are computed again from its start: `S - 1 + k` are kept.
    All positions in one segment need no second computation, else all but the last segment are
    gone through twice. The least that works is about `2 sqrt(P)`.

    Example:
        >>> from hf_ess.spectra.checkpoints import segments_of
        >>> segments_of(10, 10), segments_of(10, 6)
        ([range(0, 10)], [range(0, 5), range(5, 10)])
    """
    size = max(
        (k for k in range(1, positions + 1) if math.ceil(positions / k) - 1 + k <= kept),
        default=_root(positions),
    )
    return [range(start, min(start + size, positions)) for start in range(0, positions, size)]


def least_kept(positions: int) -> int:
    """The fewest factors that `segments_of` can do with.

    Example:
        >>> from hf_ess.spectra.checkpoints import least_kept
        >>> least_kept(63), least_kept(131071)
        (15, 724)
    """
    size = _root(positions)
    return math.ceil(positions / size) - 1 + size


def _root(positions: int) -> int:
    """The square root, rounded up, at least one."""
    return math.isqrt(max(0, positions - 1)) + 1
