"""Greedy choices of state channels, against dense matrices and all subsets."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from hf_ess.reduce.channel_choice import loss, removal_order, rescaling, ridge_of, units_gram

UNITS, ENTRIES = 6, 40


def matrices(seed: int, units: int = UNITS) -> Tensor:
    """Rows are the entries of operators of different size, not independent of each other."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(units, ENTRIES, generator=generator, dtype=torch.float64)
    mixed = rows + 0.7 * rows.roll(1, 0)
    return mixed * torch.rand(units, 1, generator=generator, dtype=torch.float64).exp()


def dense_loss(rows: Tensor, kept: list[int], *, rescale: bool) -> float:
    """`||M - sum w_n M_n||^2 / ||M||^2`, the factors by a decomposition of the rows."""
    whole = rows.sum(0)
    factors = torch.ones(len(kept), 1, dtype=torch.float64)
    if rescale:
        factors = torch.linalg.lstsq(rows[kept].mT, whole[:, None], driver="gelsd").solution
    left = whole - (factors * rows[kept]).sum(0)
    return float(left.square().sum() / whole.square().sum())


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_each_removal_is_the_best_one(seed: int, rescale: bool) -> None:
    rows = matrices(seed)
    order = removal_order(rows @ rows.mT, rescale=rescale)
    assert sorted(order) == list(range(UNITS))
    kept = list(range(UNITS))
    for unit in order[:-1]:
        losses = {
            other: dense_loss(rows, [k for k in kept if k != other], rescale=rescale)
            for other in kept
        }
        assert losses[unit] <= min(losses.values()) + 1e-12
        kept.remove(unit)


@pytest.mark.parametrize("size", range(1, UNITS + 1))
@pytest.mark.parametrize("rescale", [True, False])
def test_the_loss_is_near_that_of_the_best_of_all_subsets(size: int, rescale: bool) -> None:
    shares = []
    for seed in range(8):
        rows = matrices(seed)
        gram = rows @ rows.mT
        kept = sorted(removal_order(gram, rescale=rescale)[UNITS - size :])
        factors = rescaling(gram, kept) if rescale else torch.ones(size, dtype=torch.float64)
        found = loss(gram, kept, factors)
        assert found == pytest.approx(dense_loss(rows, kept, rescale=rescale), abs=1e-8)
        best = min(
            dense_loss(rows, list(subset), rescale=rescale)
            for subset in combinations(range(UNITS), size)
        )
        assert found >= best - 1e-10
        shares.append(found - best)
    assert sum(share < 1e-10 for share in shares) >= 4
    assert max(shares) < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_factors_are_those_of_least_squares(seed: int) -> None:
    rows = matrices(seed)
    kept = [0, 2, 5]
    solved = torch.linalg.lstsq(rows[kept].mT, rows.sum(0)[:, None], driver="gelsd").solution[:, 0]
    torch.testing.assert_close(rescaling(rows @ rows.mT, kept), solved, rtol=1e-8, atol=1e-10)


def test_scales_of_units_change_neither_order_nor_numbering() -> None:
    rows = matrices(3)
    gram = rows @ rows.mT
    order = removal_order(gram, rescale=True)
    assert removal_order(gram * 1e-12, rescale=True) == order
    shuffled = torch.tensor([4, 1, 5, 0, 3, 2])
    moved = removal_order(gram[shuffled][:, shuffled], rescale=True)
    assert [int(shuffled[unit]) for unit in moved] == order


@pytest.mark.parametrize("rescale", [True, False])
def test_of_equals_the_last_goes_first(rescale: bool) -> None:
    gram = torch.eye(5, dtype=torch.float64)
    assert removal_order(gram, rescale=rescale) == [4, 3, 2, 1, 0]
    noise = 1e-15 * torch.randn(
        5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    assert removal_order(gram + noise + noise.mT, rescale=rescale) == [4, 3, 2, 1, 0]


def test_one_of_two_equal_units_is_made_up_for() -> None:
    rows = matrices(0, units=3)
    gram = torch.cat([rows, rows[1:2]]) @ torch.cat([rows, rows[1:2]]).mT
    assert removal_order(gram, rescale=True)[0] == 3
    factors = rescaling(gram, [0, 1, 2])
    torch.testing.assert_close(
        factors, torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64), rtol=1e-9, atol=0.0
    )
    assert loss(gram, [0, 1, 2], factors) < 1e-15


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_factors_of_half_precision_are_no_large_ones_that_cancel(dtype) -> None:
    kept, losses = [0, 1, 2], torch.zeros(2)
    for seed in range(20):  # rounding is by chance
        rows = matrices(seed)
        rows[1] = rows[0] + 1e-4 * rows[1]  # nearly the same
        rows[5] = 1e3 * (rows[1] - rows[0])  # which only their difference makes up for
        gram = rows @ rows.mT
        exact, priced = rescaling(gram, kept), rescaling(gram, kept, ridge_of(dtype))
        assert exact.abs().max() > max(100, 10 * priced.abs().max())
        rounded = (factors.to(dtype).double() for factors in (exact, priced))
        losses += torch.tensor([loss(gram, kept, factors) for factors in rounded])
    assert losses[1] < losses[0]


def test_units_without_effect_go_first() -> None:
    gram = torch.diag(torch.tensor([2.0, 0.0, 1.0, 0.0], dtype=torch.float64))
    for rescale in (True, False):
        assert set(removal_order(gram, rescale=rescale)[:2]) == {1, 3}
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    assert removal_order(nothing, rescale=True) == [2, 1, 0]
    assert loss(nothing, [0], rescaling(nothing, [0])) == 0.0


def test_pairs_are_the_sums_of_their_channels() -> None:
    rows = matrices(1)
    units = torch.tensor([[0, 3], [1, 4], [2, 5]])
    pairs = rows[units].sum(1)
    torch.testing.assert_close(units_gram(rows @ rows.mT, units), pairs @ pairs.mT)
