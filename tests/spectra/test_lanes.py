"""Decompositions in step against LAPACK, on matrices that are hard for either."""

from __future__ import annotations

import pytest
import torch

from hf_ess.spectra.lanes import (
    TriangleMerger,
    bidiagonal_,
    product_of_triangles,
    values_of_bidiagonal,
)

ROUNDING = 2.0**-53
LANES = 300


def drawn(n):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(LANES, n, n, generator=generator, dtype=torch.float64)


def grades(n, last):
    return torch.logspace(0, last, n, dtype=torch.float64)


def two_blocks(n):
    """Equal large values below equal small ones, which never meet."""
    small = 1e-6 * (torch.ones(n // 2, n // 2) + torch.eye(n // 2))
    return torch.block_diag(small.double(), torch.linalg.qr(drawn(n - n // 2)[0]).Q)[None]


KINDS = {
    "random": drawn,
    "graded columns": lambda n: drawn(n) * grades(n, -30),
    "graded rows": lambda n: drawn(n) * grades(n, -300)[:, None],
    "graded upwards": lambda n: drawn(n) * grades(n, -14).flip(0),
    "rank one": lambda n: drawn(n)[:, :, :1] @ drawn(n)[:, :1],
    "orthogonal": lambda n: torch.linalg.qr(drawn(n)).Q,
    "two clusters": lambda n: torch.linalg.qr(drawn(n)).Q * (1e-9 ** (torch.arange(n) % 2)),
    "diagonal": lambda n: torch.diag_embed(drawn(n)[:, 0]),
    "triangular": lambda n: drawn(n).triu(),
    "constant": lambda n: torch.ones(1, n, n, dtype=torch.float64),
    "identity": lambda n: torch.eye(n, dtype=torch.float64)[None],
    "two blocks": two_blocks,
    "corner": lambda n: drawn(n) * (torch.arange(n) < n - 1)[:, None] * (torch.arange(n) < n - 1),
    "single row": lambda n: drawn(n) * (torch.arange(n) == 1)[:, None],
    "Jordan": lambda n: (torch.eye(n) + torch.eye(n).roll(1, 1).triu()).double()[None],
}


def batch_last(matrices):
    return matrices.permute(1, 2, 0).clone()


@pytest.mark.parametrize("n", [2, 3, 8, 16, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_singular_values_are_those_of_lapack(kind, n):
    notes = set()
    matrices = KINDS[kind](n)
    matrices = matrices / matrices.abs().amax((-2, -1), keepdim=True)
    expected = torch.linalg.svdvals(matrices).mT
    values = values_of_bidiagonal(*bidiagonal_(batch_last(matrices)), notes)
    # Many equal values beside others take LAPACK.
    assert not notes or kind in ("two blocks", "two clusters")
    assert ((values - expected).abs() <= (16 + 2 * n) * ROUNDING * expected[0]).all()
    assert (values.diff(dim=0) <= 0).all()


@pytest.mark.parametrize("coupling", [1e-16, 1e-14, 1e-12, 1e-10])
def test_couplings_of_equal_values_are_dropped_only_below_rounding(coupling):
    # Diagonals are as large as this where a matrix has 32 columns with entries of size one.
    diagonal = torch.full((2, 1), 30.0, dtype=torch.float64)
    above = torch.full((1, 1), coupling, dtype=torch.float64)
    expected = diagonal + coupling / 2 * torch.tensor([[1.0], [-1.0]])
    values = values_of_bidiagonal(diagonal, above)
    assert ((values - expected).abs() <= 20 * ROUNDING * 30).all()


def test_lanes_that_do_not_converge_are_left_to_lapack(monkeypatch):
    monkeypatch.setattr("hf_ess.spectra.lanes.MOST_SWEEPS", 2)
    generator = torch.Generator().manual_seed(0)
    diagonal = torch.rand(6, 9, generator=generator, dtype=torch.float64)
    above = torch.rand(5, 9, generator=generator, dtype=torch.float64)
    above[:, 0] = 0
    matrices = torch.diag_embed(diagonal.mT) + torch.diag_embed(above.mT, offset=1)
    values = values_of_bidiagonal(diagonal, above)
    torch.testing.assert_close(values, torch.linalg.svdvals(matrices).mT, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("exponent", [-900, -300, 0, 300, 900])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_merged_triangles_have_the_gram_of_all_rows(count, exponent):
    triangles, more = drawn(7).triu(), torch.cat([drawn(7)] * 6, 1)[:, :count]
    merger = TriangleMerger(40, 7, LANES, dtype=torch.float64, device=torch.device("cpu"))
    for unit in (2.0**exponent, 1.0):
        merger.triangle.copy_(batch_last(triangles * unit))
        merger.rows(count).copy_(batch_last(more * unit))
        merged = (merger.merge(count) / unit).permute(2, 0, 1)
        expected = triangles.mT @ triangles + more.mT @ more
        torch.testing.assert_close(merged.mT @ merged, expected, rtol=1e-13, atol=1e-13)
        assert (merged.tril(-1) == 0).all()


def test_columns_of_zeros_stay_so():
    merger = TriangleMerger(3, 4, 2, dtype=torch.float64, device=torch.device("cpu"))
    merger.triangle.zero_()
    merger.rows(3).copy_(torch.ones(3, 4, 2, dtype=torch.float64))
    merger.rows(3)[:, 1] = 0
    merged = merger.merge(3)
    assert (merged[:, 1] == 0).all()
    assert merged[0, 0, 0] == pytest.approx(3**0.5)


def test_products_of_triangles_are_those_of_whole_matrices():
    futures, pasts = drawn(7).triu(), drawn(7).flip(0).triu()
    product = product_of_triangles(batch_last(futures), batch_last(pasts)).permute(2, 0, 1)
    torch.testing.assert_close(product, futures @ pasts.mT, rtol=1e-14, atol=1e-14)
