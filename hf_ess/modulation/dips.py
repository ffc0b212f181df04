"""How far a curve falls at separators, against matched cuts elsewhere in the same text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError

Floats = NDArray[np.float64]
Spans = Sequence[tuple[int, int]]

FARTHEST, NEAREST = 24, 2
MATCHED = 20
FEWEST_ELSEWHERE = 10
FEWEST_RESAMPLED = 2
LEVEL = 0.95
ROUNDING = 1e-12


@dataclass(frozen=True)
class Surroundings:
    """Cuts that a separator is compared with: more than `near` and at most `far` tokens away."""

    near: int
    far: int


@dataclass(frozen=True)
class Dips:
    """How far one curve falls at the separators of one text, and whether other cuts do, too.

    A `ModulatedText` has them by metric.

    A depth is 1 minus the lowest value at the cuts of a separator (before it, after each of its
    tokens) over the median of its surroundings: 0 for no dip, 1 for a state that is dropped.

    Where the state is empty around all separators there is nothing to fall: every number is NaN.

    Attributes:
        depths: for each separator; NaN where the surroundings are not all measured, or zero.
        of_attainable: for each separator the same fall in shares of the attainable size: median of
            the surroundings minus the lowest; NaN where nothing is attainable.
        elsewhere: number of cuts elsewhere, whatever their distance from the ends.
        expected: mean depth of cuts elsewhere at the same distances from the ends.
        deepest_elsewhere: of any of these cuts.
        excess: mean depth of the separators minus `expected`.
        low: lower end of an interval of 95 % around it, by resampling separators and cuts
            elsewhere; NaN for a single separator. With fewer than about ten it is rough.
        high: its upper end.
        p_value: share of random choices of matched cuts with a mean depth at least as large.
    """

    depths: tuple[float, ...]
    of_attainable: tuple[float, ...]
    elsewhere: int
    expected: float = np.nan
    deepest_elsewhere: float = np.nan
    excess: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p_value: float = np.nan

    @property
    def depth(self) -> float:
        """Mean over the separators with a depth."""
        known = [depth for depth in self.depths if np.isfinite(depth)]
        return float(np.mean(known)) if known else np.nan

    @property
    def fall(self) -> float:
        """Mean of `of_attainable` over the separators that have one."""
        known = [share for share in self.of_attainable if np.isfinite(share)]
        return float(np.mean(known)) if known else np.nan


def surroundings_for(shortest_passage: int) -> Surroundings:
    """What fits between separators: half of the shortest passage, at most 24 tokens.

    Raises:
        InvalidInputError: the passage is too short.

    Example:
        >>> surroundings_for(14), surroundings_for(100)
        (Surroundings(near=2, far=7), Surroundings(near=4, far=24))
    """
    far = min(FARTHEST, shortest_passage // 2)
    near = max(NEAREST, far // 6)
    if far < 2 * near:
        raise InvalidInputError(
            f"A passage of {shortest_passage} tokens is too short to see a dip beside it.",
            fix=f"Give passages of at least {4 * NEAREST} tokens.",
        )
    return Surroundings(near, far)


def find_dips(
    curve: Floats,
    attainable: Floats,
    spans: Spans,
    around: Surroundings,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Dips:
    """Depths at separators and their test against matched cuts.

    The null is made of cuts whose surroundings hold no separator. To each separator belong the 20
    of them whose distances to the nearer end of the text are closest to its own, since every state
    is small near the ends. The p-value compares the mean depth with `draws` random choices of one
    matched cut for each separator (ours).

    Args:
        curve: `[L + 1]`, by position; NaN where there is none.
        attainable: `[L + 1]`, the largest value that each could have.
        spans: first token of each separator, and the one after its last.
        around: what is compared with.
        draws: of the test and of the interval.
        seed: of both.

    Raises:
        InvalidInputError: no separator has all of its surroundings, or fewer than 10 cuts are far
            from separators.

    Example:
        >>> curve = np.full(201, 10.0)
        >>> curve[[60, 61]] = 4.0
        >>> dips = find_dips(curve, np.full(201, 20.0), [(60, 61)], Surroundings(2, 12))
        >>> dips.depths, dips.of_attainable, dips.expected
        ((0.6,), (0.3,), 0.0)
    """
    beside = np.array([_lowest_and_median(curve, *span, around) for span in spans])
    if not np.isfinite(beside).all(axis=1).any():
        raise InvalidInputError(
            "No separator has measured surroundings on both sides.",
            causes=["the text is too short", "the window is too large for it"],
            fix="Put more text before the first and after the last separator, or take a smaller "
            "window.",
        )
    depths = tuple(_depth(*pair) for pair in beside.tolist())
    shares = np.full(len(curve), np.nan)
    np.divide(curve, attainable, out=shares, where=attainable > 0)
    of_attainable = tuple(_fall(shares, *span, around) for span in spans)
    by_width = {
        width: _elsewhere(curve, spans, width, around) for width in {1, *map(_width, spans)}
    }
    known = [number for number, depth in enumerate(depths) if np.isfinite(depth)]
    length = len(curve) - 1
    matched = [
        _matched(by_width[_width(spans[number])], spans[number][0], length) for number in known
    ]
    if not len(known) or any(len(null) < FEWEST_ELSEWHERE for null in matched):
        return Dips(depths, of_attainable, elsewhere=len(by_width[1]))
    observed = np.array([depths[number] for number in known])
    random = np.random.default_rng(seed)
    picked = np.stack([random.choice(null, draws) for null in matched])
    expected = float(np.mean([null.mean() for null in matched]))
    mean = float(observed.mean())
    low, high = _interval(observed, matched, draws, random)
    # A tie is no fall: what is equal up to rounding counts as at least as large.
    as_large = int((picked.mean(axis=0) >= mean - ROUNDING).sum())
    return Dips(
        depths=depths,
        of_attainable=of_attainable,
        elsewhere=len(by_width[1]),
        expected=expected,
        deepest_elsewhere=float(max(null.max() for null in matched)),
        excess=mean - expected,
        low=low,
        high=high,
        p_value=(1 + as_large) / (1 + draws),
    )


def _cuts(start: int, stop: int) -> range:
    """Before the separator and after each of its tokens; where there is none, as for one token."""
    return range(start, max(stop, start + 1) + 1)


def _width(span: tuple[int, int]) -> int:
    """From the first cut to the last."""
    return len(_cuts(*span)) - 1


def _lowest_and_median(
    curve: Floats, start: int, stop: int, around: Surroundings
) -> tuple[float, float]:
    """NaN where any of the values is missing."""
    cuts = _cuts(start, stop)
    before = np.arange(cuts[0] - around.far, cuts[0] - around.near)
    after = np.arange(cuts[-1] + around.near + 1, cuts[-1] + around.far + 1)
    if before[0] < 1 or after[-1] >= len(curve):
        return np.nan, np.nan
    beside = curve[np.concatenate([before, after])]
    # min and median give NaN for any NaN.
    return float(curve[cuts[0] : cuts[-1] + 1].min()), float(np.median(beside))


def _depth(lowest: float, median: float) -> float:
    return 1 - lowest / median if median > 0 else np.nan


def _fall(shares: Floats, start: int, stop: int, around: Surroundings) -> float:
    lowest, median = _lowest_and_median(shares, start, stop, around)
    return median - lowest


def _elsewhere(curve: Floats, spans: Spans, width: int, around: Surroundings) -> Floats:
    """Positions and depths, `[n, 2]`, of cuts with no separator among what they are compared with.

    Raises:
        InvalidInputError: there are too few.
    """
    borders = [(start, _cuts(start, stop)[-1]) for start, stop in spans]
    found = []
    for position in range(1, len(curve)):
        is_far = all(
            position + width < first - around.far or position > last + around.far
            for first, last in borders
        )
        if not is_far:
            continue
        pair = _lowest_and_median(curve, position, position + width, around)
        if np.isfinite(pair).all():
            found.append((position, _depth(*pair)))
    if len(found) < FEWEST_ELSEWHERE:
        raise InvalidInputError(
            f"The text has {len(found)} cuts far from separators and ends; a test needs "
            f"{FEWEST_ELSEWHERE}.",
            causes=["the text is too short", "the window is too large for it"],
            fix="Put more text after the last separator, or take a smaller window.",
        )
    return np.array(found, dtype=np.float64)


def _matched(found: Floats, start: int, length: int) -> Floats:
    """Depths of the cuts elsewhere that are about as far from the nearer end as the separator."""
    found = found[np.isfinite(found[:, 1])]
    distances = np.minimum(found[:, 0], length - found[:, 0])
    apart = np.abs(distances - min(start, length - start))
    return np.asarray(found[np.argsort(apart, kind="stable")[:MATCHED], 1])


def _interval(
    observed: Floats, matched: Sequence[Floats], draws: int, random: np.random.Generator
) -> tuple[float, float]:
    """Percentiles of the mean excess over resampled separators and resampled matched cuts."""
    if len(observed) < FEWEST_RESAMPLED:
        return np.nan, np.nan
    excess = np.stack(
        [
            depth - random.choice(null, (draws, len(null))).mean(axis=1)
            for depth, null in zip(observed, matched, strict=True)
        ],
        axis=1,
    )
    chosen = random.integers(len(observed), size=(draws, len(observed)))
    means = np.take_along_axis(excess, chosen, axis=1).mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
