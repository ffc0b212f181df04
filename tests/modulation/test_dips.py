"""Dips against loops over positions."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from hf_ess.errors import InvalidInputError
from hf_ess.modulation.dips import Surroundings, find_dips, surroundings_for

LENGTH = 160
AROUND = Surroundings(near=2, far=9)
SPANS = [(40, 41), (62, 64), (81, 81)]


@pytest.fixture
def curve():
    """Smooth, small at both ends, with noise."""
    random = np.random.default_rng(3)
    positions = np.arange(LENGTH + 1)
    values = 5 + np.minimum(positions, LENGTH - positions) ** 0.5 + random.random(LENGTH + 1)
    values[[0, -1]] = np.nan
    return values


@pytest.fixture
def attainable():
    values = np.minimum(np.arange(LENGTH + 1), LENGTH - np.arange(LENGTH + 1)) * 3.0
    values[[0, -1]] = np.nan
    return values


def slow_depth(curve, first, last):
    cuts = [curve[position] for position in range(first, last + 1)]
    beside = [
        curve[position]
        for position in range(1, LENGTH)
        if AROUND.near < first - position <= AROUND.far
        or AROUND.near < position - last <= AROUND.far
    ]
    return cuts, beside


def oracle(curve, span):
    first, last = span[0], max(span[1], span[0] + 1)
    cuts, beside = slow_depth(curve, first, last)
    return min(cuts), statistics.median(beside)


def oracle_matched(curve, span):
    width = max(span[1], span[0] + 1) - span[0]
    far = []
    for position in range(1, LENGTH):
        if position - AROUND.far < 1 or position + width + AROUND.far > LENGTH - 1:
            continue
        touched = set(range(position - AROUND.far, position + width + AROUND.far + 1))
        cuts_of_all = {cut for a, b in SPANS for cut in range(a, max(b, a + 1) + 1)}
        if not touched & cuts_of_all:
            lowest, median = oracle(curve, (position, position + width))
            apart = abs(min(position, LENGTH - position) - min(span[0], LENGTH - span[0]))
            far.append((apart, position, 1 - lowest / median))
    return [depth for _, _, depth in sorted(far)[:20]], len(far)


def test_depths_are_those_of_loops(curve, attainable):
    dips = find_dips(curve, attainable, SPANS, AROUND)
    for span, depth, share in zip(SPANS, dips.depths, dips.of_attainable, strict=True):
        lowest, median = oracle(curve, span)
        assert depth == pytest.approx(1 - lowest / median, abs=1e-12)
        lowest, median = oracle(curve / attainable, span)
        assert share == pytest.approx(median - lowest, abs=1e-12)
    assert dips.depth == pytest.approx(statistics.mean(dips.depths), abs=1e-12)


def test_what_is_expected_comes_from_matched_cuts(curve, attainable):
    dips = find_dips(curve, attainable, SPANS, AROUND)
    matched = [oracle_matched(curve, span)[0] for span in SPANS]
    expected = statistics.mean(map(statistics.mean, matched))
    assert dips.expected == pytest.approx(expected, abs=1e-12)
    assert dips.deepest_elsewhere == pytest.approx(max(map(max, matched)), abs=1e-12)
    assert dips.excess == pytest.approx(dips.depth - expected, abs=1e-12)
    assert dips.elsewhere == oracle_matched(curve, SPANS[0])[1]


def test_p_value_of_one_separator_is_the_share_of_its_matched_cuts(curve, attainable):
    span = (40, 41)
    rank = {}
    for height in (0.0, 0.02, 0.2):
        lowered = curve.copy()
        lowered[40:42] -= height * lowered[40]
        dips = find_dips(lowered, attainable, [span], AROUND, draws=40000)
        everywhere = find_dips(lowered, attainable, [span], AROUND, draws=1)
        assert everywhere.depths == dips.depths
        rank[height] = dips.p_value
        assert math.isnan(dips.low)
    assert rank[0.2] == pytest.approx(1 / 40001, abs=1e-12)
    assert rank[0.0] > rank[0.02] > rank[0.2]
    # A share of 20 cuts, up to the error of 40000 draws.
    assert rank[0.0] * 20 == pytest.approx(round(rank[0.0] * 20), abs=0.3)


def test_the_interval_holds_the_excess_and_shrinks_to_it_without_variation(attainable):
    flat = np.full(LENGTH + 1, 10.0)
    for start, stop in SPANS:
        flat[start : max(stop, start + 1) + 1] = 7.0
    dips = find_dips(flat, attainable, SPANS, AROUND)
    assert dips.depths == pytest.approx((0.3, 0.3, 0.3), abs=1e-12)
    assert (dips.low, dips.high) == pytest.approx((0.3, 0.3), abs=1e-12)
    assert dips.expected == 0
    assert dips.p_value == pytest.approx(1 / 2001, abs=1e-12)


def test_a_curve_without_dips_has_none(attainable):
    dips = find_dips(np.full(LENGTH + 1, 4.0), attainable, SPANS, AROUND)
    assert (dips.depth, dips.excess, dips.p_value) == (0, 0, 1)


def test_results_repeat_by_their_seed(curve, attainable):
    first, again, other = (
        find_dips(curve, attainable, SPANS, AROUND, draws=50, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.low != other.low


def test_intervals_cover_the_true_excess():
    """Of noise around a known dip: 34 to 40 of 40 intervals of 95 %, with 12 separators."""
    random = np.random.default_rng(0)
    length, spans = 700, [(40 * k, 40 * k + 1) for k in range(1, 13)]
    shape = np.full(length + 1, 100.0)
    for start, stop in spans:
        shape[start : stop + 1] -= 30
    covered = 0
    for seed in range(40):
        noisy = shape + random.normal(size=length + 1)
        dips = find_dips(noisy, shape, spans, AROUND, draws=200, seed=seed)
        covered += dips.low <= 0.3 <= dips.high
    assert 34 <= covered <= 40


def test_an_empty_state_has_no_depth(attainable):
    dips = find_dips(np.zeros(LENGTH + 1), attainable, SPANS, AROUND)
    assert all(map(math.isnan, [*dips.depths, dips.depth, dips.excess, dips.p_value]))


def test_too_little_text_is_refused(curve, attainable):
    with pytest.raises(InvalidInputError, match="measured surroundings on both sides"):
        find_dips(curve, attainable, [(3, 4)], AROUND)
    with pytest.raises(InvalidInputError, match="cuts far from separators"):
        find_dips(curve[:60], attainable[:60], [(20, 21), (38, 39)], AROUND)
    with pytest.raises(InvalidInputError, match="6 tokens is too short"):
        surroundings_for(6)
