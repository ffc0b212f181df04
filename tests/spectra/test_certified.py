"""Divide and conquer against singular values of every block."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_ess.errors import InvalidInputError, NonFiniteError
from hf_ess.spectra import certified_metrics, counts_above
from hf_ess.spectra.elimination import (
    Workspace,
    eliminate_definite,
    eliminate_indefinite,
    log_pivots,
    negative_eigenvalues,
)
from hf_ess.spectra.half import ENTROPY_HALF_WIDTH
from hf_ess.spectra.position_tree import PositionTree, half_length
from hf_ess.spectra.quadrature import (
    NODES,
    Blocks,
    CountBracket,
    entropy_bracket,
    node_limit,
    node_shifts,
)
from hf_ess.spectra.routes import DIVIDE_AND_CONQUER, chosen_route

TOLERANCES = (1e-1, 1e-3, 1e-5)


def attention(length, seed=0, sharpness=2.0):
    generator = torch.Generator().manual_seed(seed)
    query, noise = torch.randn(2, length, 16, generator=generator, dtype=torch.float64)
    scores = sharpness * query @ (0.6 * query + noise).mT / 4
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(hidden, -math.inf), -1)


def average(length, seed=0):
    return torch.ones(length, length, dtype=torch.float64).tril() / torch.arange(1, length + 1.0)[
        :, None
    ].to(torch.float64)


def decaying(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    steps = torch.arange(length, dtype=torch.float64)
    noise = torch.randn(length, length, generator=generator, dtype=torch.float64)
    return (noise * torch.exp(-0.3 * (steps[:, None] - steps))).tril()


def sparse(length, seed=0):
    """Most rows and columns are zero, so that whole blocks are."""
    matrix = torch.zeros(length, length, dtype=torch.float64)
    matrix[length // 2, length // 3] = 3.0
    matrix[length // 2 + 1, length // 4] = 1e-4
    return matrix


def graded(length, seed=0):
    return attention(length, seed) * torch.logspace(0, -8, length, dtype=torch.float64)[:, None]


KINDS = {f.__name__: f for f in (attention, average, decaying, sparse, graded)}


def spectra(matrix):
    """Singular values of every block by numpy."""
    entries = matrix.numpy()
    return [np.linalg.svd(entries[i:, :i], compute_uv=False) for i in range(1, len(entries))]


def entropy(values):
    weights = values[values > 0] / values.sum() if values.any() else np.ones(0)
    return np.exp(-(weights * np.log(weights)).sum()) if weights.size else 0.0


@pytest.mark.parametrize("length", [15, 16, 31, 48, 100, 129, 150, 224])
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_the_tree_at_every_position(kind, length):
    matrix = KINDS[kind](length)
    half = half_length(length)
    tree = PositionTree(matrix[None, :, :half].tril(-1))
    shifts = torch.tensor([[5.0, 0.3, 1.7e-2, 2.3e-4]], dtype=torch.float64)
    workspace = Workspace(torch.float64, shifts.device)
    logs = tree.log_determinants(shifts, workspace)[0].numpy()
    counts = tree.counts(shifts, workspace)[0].numpy()
    norms = tree.squared_norms()[0].numpy()
    for place, values in enumerate(spectra(matrix)[:half]):
        np.testing.assert_allclose(norms[place], (values**2).sum(), rtol=1e-12, atol=0)
        for row, shift in enumerate(shifts[0].tolist()):
            expected = np.log1p((values / shift) ** 2).sum()
            size = 1e-13 * (1 + (values[0] / shift) ** 2)
            np.testing.assert_allclose(logs[row, place], expected, rtol=1e-11, atol=size)
            assert counts[row, place] == (values > shift).sum()


@pytest.mark.parametrize("length", [3, 47, 64, 129, 160, 250])
@pytest.mark.parametrize("kind", KINDS)
def test_certificates_hold(kind, length):
    matrix = KINDS[kind](length, seed=length)
    metrics = certified_metrics(matrix[None], range(1, length), TOLERANCES)
    assert metrics.half_width.max() <= ENTROPY_HALF_WIDTH
    for place, values in enumerate(spectra(matrix)):
        error = abs(float(metrics.entropy[0, place]) - entropy(values))
        width = float(metrics.half_width[0, place])
        # Values from squares of rank one blocks: 23 times 1.4e-7 of the largest is rounding.
        assert error <= max(width, 2e-5) * max(entropy(values), 1e-300), (place, error)
        for tolerance in TOLERANCES:
            low = int(metrics.counts[tolerance][0, place])
            count = int((values > tolerance).sum())
            assert low <= count <= low + int(metrics.undecided[tolerance][0, place])


def test_counts_of_attention_are_decided_and_exact():
    matrices = torch.stack([attention(260, seed) for seed in range(3)])
    metrics = certified_metrics(matrices, range(1, 260), TOLERANCES)
    raw = counts_above(matrices, TOLERANCES)
    for number, matrix in enumerate(matrices):
        expected = np.array([[(s > t).sum() for s in spectra(matrix)] for t in TOLERANCES])
        np.testing.assert_array_equal(raw[number].numpy(), expected)
        for row, tolerance in enumerate(TOLERANCES):
            decided = metrics.undecided[tolerance][number].numpy() == 0
            found = metrics.counts[tolerance][number].numpy()
            assert decided.mean() > 0.99
            np.testing.assert_array_equal(found[decided], expected[row][decided])


@given(scale=st.floats(-150, 150), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_scaling_scales_tolerances_and_leaves_entropy(scale, seed):
    matrix, factor = attention(140, seed), 10.0**scale
    plain = certified_metrics(matrix[None], range(1, 140), [1e-2])
    scaled = certified_metrics(factor * matrix[None], range(1, 140), [factor * 1e-2])
    torch.testing.assert_close(scaled.entropy, plain.entropy, rtol=1e-4, atol=0)
    assert torch.equal(scaled.counts[factor * 1e-2], plain.counts[1e-2])


def test_transposed_and_flipped_operators_have_the_same_blocks():
    matrix = attention(170, 5)
    forth = certified_metrics(matrix[None], range(1, 170), TOLERANCES)
    back = certified_metrics(matrix.mT.flip(0, 1)[None], range(1, 170), TOLERANCES)
    assert torch.equal(forth.counts[1e-1], back.counts[1e-1].flip(-1))
    assert torch.equal(forth.counts[1e-3], back.counts[1e-3].flip(-1))
    torch.testing.assert_close(forth.entropy, back.entropy.flip(-1), rtol=1e-5, atol=0)


def test_some_positions_are_those_of_all_positions():
    matrix = attention(150)[None]
    every = certified_metrics(matrix, range(1, 150), [1e-3])
    some = certified_metrics(matrix, [3, 70, 149], [1e-3])
    chosen = [2, 69, 148]
    torch.testing.assert_close(some.entropy, every.entropy[:, chosen], rtol=1e-9, atol=0)
    assert torch.equal(some.counts[1e-3], every.counts[1e-3][:, chosen])


def test_many_operators_and_a_tight_budget_change_nothing():
    matrices = torch.stack([attention(200, seed) for seed in range(3)])
    together = certified_metrics(matrices, range(1, 200), TOLERANCES)
    tight = certified_metrics(matrices, range(1, 200), TOLERANCES, memory_budget=1)
    torch.testing.assert_close(tight.entropy, together.entropy, rtol=1e-5, atol=0)
    for tolerance in TOLERANCES:
        assert torch.equal(tight.counts[tolerance], together.counts[tolerance])


def test_tolerances_below_rounding_are_named():
    metrics = certified_metrics(attention(200)[None], [100], [1e-1, 1e-13])
    assert metrics.below_floor[1e-13].all()
    assert not metrics.below_floor[1e-1].any()
    assert metrics.undecided[1e-13].item() == 100


def test_nan_is_refused_and_the_input_is_left_alone():
    matrix = attention(130)[None]
    kept = matrix.clone()
    certified_metrics(matrix, [60], [0.1])
    assert torch.equal(matrix, kept)
    matrix[0, 100, 3] = math.nan
    with pytest.raises(NonFiniteError, match="1 of 1"):
        certified_metrics(matrix, [60], [0.1])


@given(
    values=st.lists(st.floats(-7, 0), min_size=1, max_size=40),
    counted=st.booleans(),
    nodes=st.integers(NODES, node_limit()),
)
@settings(max_examples=300, deadline=None)
def test_intervals_around_entropy_hold_for_any_spectrum(values, counted, nodes):
    spectrum = 10 ** torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    norm = spectrum.norm().reshape(1, 1)
    shifts = node_shifts(norm, nodes)
    logs = torch.log1p((spectrum / shifts[..., None]) ** 2).sum(-1)[..., None]
    brackets = []
    if counted:
        for tolerance in (0.1, 1e-3):
            count = (spectrum > tolerance).sum().reshape(1, 1)
            brackets.append(CountBracket(torch.full((1, 1), tolerance), count, count))
    ranks = torch.tensor([float(len(values) + 3)], dtype=torch.float64)
    middle, half = entropy_bracket(logs, [2.0**-53] * nodes, Blocks(norm, ranks, brackets))
    true = entropy(spectrum.numpy())
    assert abs(middle.item() - true) <= half.item() * middle.item()


def symmetric(size, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(2, size, size, generator=generator, dtype=torch.float64)
    return matrix + matrix.mT, torch.randn(2, size, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 7, 32, 33, 70])
def test_elimination(size):
    matrix, rest = symmetric(size, size)
    expected = rest.mT @ torch.linalg.solve(matrix, rest)
    panel = torch.cat([matrix, rest], -1)
    done = eliminate_indefinite(panel.clone(), torch.empty_like(panel))
    torch.testing.assert_close(done.rows.mT @ done.scaled_rows, expected, rtol=1e-6, atol=1e-6)
    negative = (torch.linalg.eigvalsh(matrix) < 0).sum(-1)
    assert torch.equal(done.statistic.long(), negative)
    assert torch.equal(negative_eigenvalues(matrix), negative)
    definite = matrix @ matrix + torch.eye(size, dtype=torch.float64)
    done = eliminate_definite(torch.cat([definite, rest], -1))
    expected = rest.mT @ torch.linalg.solve(definite, rest)
    torch.testing.assert_close(done.rows.mT @ done.scaled_rows, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(done.statistic, torch.logdet(definite), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        log_pivots(definite.permute(1, 2, 0).contiguous()),
        torch.logdet(definite),
        rtol=1e-10,
        atol=1e-10,
    )


def test_the_route_follows_length_positions_and_accuracy():
    assert chosen_route(1024, range(1, 1024), 3).method == DIVIDE_AND_CONQUER
    assert chosen_route(1024, range(1, 1024), 3, accuracy="exact").method == "auto"
    assert chosen_route(1024, range(1, 1024), 3, needs_values="kept") == chosen_route(
        64, [3], 3, needs_values="kept"
    )
    assert chosen_route(1024, [512], 3).reason == "few positions"
    assert chosen_route(128, range(1, 128), 3).reason == "short"
    assert chosen_route(1024, [512], 3, method="svd").method == "svd"
    assert chosen_route(9, [3], 1, method=DIVIDE_AND_CONQUER).method == DIVIDE_AND_CONQUER
    for options in ({"accuracy": "exact"}, {"needs_values": "kept"}):
        with pytest.raises(InvalidInputError, match="computes no singular values"):
            chosen_route(1024, [512], 3, method=DIVIDE_AND_CONQUER, **options)
