"""Memory and work of spectra of recurrences as the text and the positions grow."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from operators_recurrent.families import FAMILIES, Features

from hf_ess.errors import MemoryBudgetError
from hf_ess.operators import DiagonalDecay, RecurrentOperator, ScalarDecay, StateSpaceOperator
from hf_ess.spectra import block_singular_values
from hf_ess.spectra.checkpoints import least_kept, segments_of
from hf_ess.spectra.factored import LEAST_ROWS

LENGTH = 200


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Decompositions in step are for GPUs; nothing in them needs one."""
    monkeypatch.setattr("hf_ess.spectra.factored._Solver._fast_in_step", lambda _: True)


class Counted(StateSpaceOperator):
    """Counts the steps that are asked for."""

    processed = 0

    def stretch(self, groups, start, stop):
        Counted.processed += stop - start
        return super().stretch(groups, start, stop)


def steps_processed(operator, positions, **options):
    Counted.processed = 0
    block_singular_values(operator, positions, **options)
    return Counted.processed


def scalar_decay(length, states=4, kind=StateSpaceOperator):
    x = Features(length, seed=1)
    decay = ScalarDecay(-x.uniform(1, 1, length))
    return kind(decay, x.normal(1, 1, length, states), x.normal(1, 1, length, states))


def least_budget(operator, positions):
    """Factors at twice the root of all positions, one step, and a quarter for their products."""
    return operator.factor_bytes_per_group(least_kept(positions), 1) * 4 // 3 + 2


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_checkpoints_change_no_bit(name, monkeypatch):
    operator = FAMILIES[name](Features(LENGTH, seed=3)).operator
    whole = block_singular_values(operator, "all")
    monkeypatch.setattr(
        "hf_ess.spectra.factored.segments_of",
        lambda positions, _: segments_of(positions, least_kept(positions)),
    )
    cut = block_singular_values(operator, "all")
    assert torch.equal(cut.values, whole.values)
    assert torch.equal(cut.error_bound, whole.error_bound)


@pytest.mark.parametrize("name", ["mamba1", "gated_delta_rule", "rg_lru"])
def test_the_least_budget_is_enough(name):
    operator = FAMILIES[name](Features(LENGTH, seed=3)).operator
    whole = block_singular_values(operator, "all")
    budget = least_budget(operator, LENGTH - 1)
    small = block_singular_values(operator, "all", memory_budget=budget)
    torch.testing.assert_close(small.values, whole.values, rtol=1e-12, atol=1e-13)
    with pytest.raises(MemoryBudgetError, match="factors of one group"):
        block_singular_values(operator, "all", memory_budget=budget - 100)


@pytest.mark.parametrize("positions", [1, 2, 3, 10, 63, 1000, 131071])
def test_segments_cover_all_positions_within_what_may_be_kept(positions):
    least = least_kept(positions)
    assert least <= 2 * positions**0.5 + 1
    for kept in {least, least + 1, max(least, positions // 2), max(least, positions)}:
        segments = segments_of(positions, kept)
        assert [i for segment in segments for i in segment] == list(range(positions))
        assert len(segments) - 1 + max(map(len, segments)) <= kept
    assert len(segments_of(positions, positions)) == 1


def test_memory_of_factors_grows_like_the_root_of_the_positions():
    def needed(length):
        return least_budget(scalar_decay(length), length - 1)

    short, long = needed(1001), needed(100_001)
    assert long < 10 * short
    assert long < 100_000 * 4 * 4 * 8 / 50


def test_checkpoints_process_each_step_at_most_three_times():
    operator = scalar_decay(1000, kind=Counted)
    once = steps_processed(operator, "all")
    again = steps_processed(operator, "all", memory_budget=least_budget(operator, 999))
    # Every step forward and backward; a look at the first step tells about the operator.
    assert 2 * 1000 <= once + 2 <= 2 * 1000 + 10
    assert once < again <= 3 * 1000 + 10


def test_work_grows_linearly_with_the_length():
    worked = [
        steps_processed(scalar_decay(length, kind=Counted), length // 16)
        for length in (1024, 2048, 4096, 8192)
    ]
    assert all(later <= 2 * earlier for earlier, later in pairwise(worked))


def test_no_stretch_is_longer_than_a_block(monkeypatch):
    longest = []
    whole = RecurrentOperator.apply

    class Watched(StateSpaceOperator):
        def stretch(self, groups, start, stop):
            longest.append(stop - start)
            return super().stretch(groups, start, stop)

    operator = scalar_decay(3000, kind=Watched)
    block_singular_values(operator, [1500])
    whole(operator, torch.ones(1, 1, 3000, 1))
    assert max(longest) <= LEAST_ROWS


@pytest.mark.usefixtures("as_on_a_gpu")
def test_triangles_in_step_and_by_lapack_agree(monkeypatch):
    x = Features(90, seed=4)
    decay = 2 * x.uniform(1, 256, 90, 5) - 1  # signs too
    write, read = x.normal(1, 256, 90, 5), x.normal(1, 1, 90, 5)
    operator = StateSpaceOperator(DiagonalDecay(decay), write, read)
    in_step = block_singular_values(operator, 7)
    monkeypatch.setattr("hf_ess.spectra.factored._Solver._merges_triangles", lambda _: False)
    triangles = block_singular_values(operator, 7)
    monkeypatch.setattr("hf_ess.spectra.factored._Solver._fast_in_step", lambda _: False)
    by_lapack = block_singular_values(operator, 7)
    for other in (triangles, by_lapack):
        distance = (in_step.values - other.values).abs().amax(-1)
        assert (distance <= in_step.error_bound + other.error_bound).all()
        assert not torch.equal(in_step.values, other.values)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_triangles_in_step_have_the_spectra_of_dense_blocks(name):
    operator = FAMILIES[name](Features(65, seed=6)).operator
    in_step = block_singular_values(operator, "all")
    dense = block_singular_values(operator, "all", method="svd")
    distance = (in_step.values - dense.values[..., : in_step.values.shape[-1]]).abs().amax(-1)
    assert (distance <= in_step.error_bound + dense.error_bound).all()
    windows = block_singular_values(operator, "all", window=(5, 9))
    dense = block_singular_values(operator, "all", window=(5, 9), method="svd")
    distance = (windows.values - dense.values[..., : windows.values.shape[-1]]).abs().amax(-1)
    assert (distance <= windows.error_bound + dense.error_bound).all()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_did_not_converge_is_in_the_reason(monkeypatch):
    operator = scalar_decay(60)
    usual = block_singular_values(operator, "all")
    monkeypatch.setattr("hf_ess.spectra.lanes.MOST_SWEEPS", 2)
    noted = block_singular_values(operator, "all")
    assert "LAPACK" in noted.reason
    assert "LAPACK" not in usual.reason
    torch.testing.assert_close(noted.values, usual.values, rtol=0, atol=1e-13)
