"""What certificates rest on: steps and tails of the quadrature, rounding, units of operators."""

from __future__ import annotations

import math

import pytest
import torch

from hf_ess.spectra import certified_metrics, half, quadrature
from hf_ess.spectra.elimination import negative_eigenvalues
from hf_ess.spectra.position_tree import half_length, splits
from hf_ess.spectra.quadrature import Blocks, CountBracket, entropy_bracket, node_shifts

NODES = 12
ROUNDING = 2.0**-53


def graded(length, decades):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(length, length, generator=generator, dtype=torch.float64).tril()
    return matrix * torch.logspace(0, -decades, length, dtype=torch.float64)[:, None]


def log_determinants(values, shifts):
    """`[n, S]` at shifts `[n, S]`, of one spectrum `[k]`."""
    return torch.log1p((values / shifts[..., None]) ** 2).sum(-1)


def known_of(values, tolerances=()):
    counts = [(values > tolerance).sum().reshape(1, 1) for tolerance in tolerances]
    brackets = [
        CountBracket(torch.full((1, 1), tolerance, dtype=torch.float64), count, count)
        for tolerance, count in zip(tolerances, counts, strict=True)
    ]
    rank = torch.tensor([float(len(values))], dtype=torch.float64)
    return Blocks(values.norm().reshape(1, 1), rank, brackets)


def one_above_many(count, share):
    """One value, and many equal ones that have a multiple of its sum."""
    return torch.tensor([1.0] + [share / count] * count, dtype=torch.float64)


def test_errors_of_the_quadrature_stay_below_the_bound_and_come_near_it():
    used = []
    for count in (1, 8, 120, 200, 500, 800, 1000):
        for share in (0.5, 1.0, 2.0):
            values = one_above_many(count, share)
            shifts = node_shifts(values.norm().reshape(1, 1), NODES)
            logs = log_determinants(values, shifts)[..., None]
            middle, width = entropy_bracket(logs, [ROUNDING] * NODES, known_of(values, (1e-3,)))
            true = torch.special.entr(values / values.sum()).sum().exp()
            used.append(float((middle - true).abs() / (width * middle)))
    assert 0.5 < max(used) <= 1


@pytest.mark.parametrize("decades", [0, 1, 4, 7])
@pytest.mark.parametrize("tolerances", [(), (0.1, 1e-3)])
def test_tails_hold_what_lies_beyond_the_nodes(decades, tolerances):
    values = torch.logspace(0, -decades, 30, dtype=torch.float64)
    blocks = known_of(values, tolerances)
    shifts = node_shifts(blocks.norms, quadrature.NODES)
    logs = log_determinants(values, shifts)[..., None]
    steps = torch.arange(1, 40, dtype=torch.float64)
    left = shifts[:, -1:] * torch.exp(-quadrature.STEP * steps)
    right = shifts[:, :1] * torch.exp(quadrature.STEP * steps)
    for tail, beyond in ((quadrature._left_tail, left), (quadrature._right_tail, right)):
        exact = float((beyond * log_determinants(values, beyond)).sum() * quadrature.STEP / math.pi)
        low, high = (float(sums.zeroth) for sums in tail(logs, shifts, blocks))
        # Both are cut off where less than this is left.
        assert low * (1 - 1e-6) <= exact <= high * (1 + 1e-3)


def test_counts_are_undecided_only_where_a_value_is_within_rounding_of_the_tolerance():
    matrix, tolerance = graded(150, 9), 1e-5
    metrics = certified_metrics(matrix[None], range(1, 150), [tolerance])
    undecided = metrics.undecided[tolerance][0]
    certified = metrics.half_width[0] > 0
    assert certified.sum() > 20
    for place in certified.nonzero()[:, 0].tolist():
        values = torch.linalg.svdvals(matrix[place + 1 :, : place + 1])
        distance = (values / tolerance - 1).abs().min()
        # u (F / t)^2, with F below 40.
        assert undecided[place] == 0 or distance < 2e-3
        assert metrics.counts[tolerance][0, place] <= (values > tolerance).sum()


def test_values_of_squares_that_are_rounding_are_not_counted_at_the_ends():
    average = torch.ones(60, 60, dtype=torch.float64).tril() / torch.arange(1.0, 61.0)[:, None]
    metrics = certified_metrics(average[None], range(1, 60), [1e-9])
    ends = half.LEAST_SIZE - 1
    for values in (metrics.counts[1e-9][0], 1 - metrics.undecided[1e-9][0]):
        assert (values[:ends] == 1).all()
        assert (values[-ends:] == 1).all()


def test_operators_of_very_different_units_share_a_batch():
    matrix, tolerance = graded(70, 2), 1e-3
    units = torch.tensor([2.0**500, 1.0, 2.0**-500], dtype=torch.float64)
    alone = certified_metrics(matrix[None], range(1, 70), [tolerance])
    together = certified_metrics(matrix * units[:, None, None], range(1, 70), [tolerance])
    torch.testing.assert_close(
        together.entropy, alone.entropy.expand(3, -1), rtol=2 * half.ENTROPY_HALF_WIDTH, atol=0
    )
    assert together.half_width.max() <= half.ENTROPY_HALF_WIDTH


def test_what_single_precision_cannot_do_is_done_in_double(monkeypatch):
    matrix = graded(70, 2)[None]
    expected = certified_metrics(matrix, range(1, 70), [1e-3])
    whole, asked = half.PositionTree.log_determinants, []

    def failing(tree, shifts, workspace):
        asked.append(workspace.dtype)
        logs = whole(tree, shifts, workspace)
        return logs.fill_(math.nan) if workspace.dtype == torch.float32 else logs

    monkeypatch.setattr(half.PositionTree, "log_determinants", failing)
    found = certified_metrics(matrix, range(1, 70), [1e-3])
    assert set(asked) == {torch.float32, torch.float64}
    torch.testing.assert_close(found.entropy, expected.entropy, rtol=1e-4, atol=0)
    assert (found.half_width <= expected.half_width).all()


def test_tolerances_come_in_the_order_asked_for():
    asked = [1e-3, 1e-1, 1e-5]
    metrics = certified_metrics(graded(40, 4)[None], [20], asked)
    for by_tolerance in (metrics.counts, metrics.undecided, metrics.below_floor):
        assert list(by_tolerance) == asked


def test_singular_matrices_have_no_more_negative_eigenvalues():
    assert negative_eigenvalues(torch.zeros(3, 3, dtype=torch.float64)) == 0
    assert negative_eigenvalues(torch.diag(torch.tensor([0.0, -2.0, 1.0]).double())) == 1


def test_halves_are_leaves_doubled_with_little_room_to_spare():
    for length in range(16, 700):
        width = whole = half_length(length)
        while splits(width):
            width //= 2
        assert 8 <= width <= 15
        assert 0 <= 2 * whole - length <= max(1, length / 8)
