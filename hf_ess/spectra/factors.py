"""Small dense kernels of the factored route: reducing rows, and spectra of products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hf_ess.operators.recurrent import Stretch
from hf_ess.operators.steps import DiagonalSteps
from hf_ess.spectra.bounds import ROUNDING, UNDERFLOW
from hf_ess.spectra.lanes import TriangleMerger
from hf_ess.spectra.powers import error_times_powers, powers_above, times_powers

# Rows of noise: enough that none is likely to miss a direction that grows.
PROBES = 4


def reduced(rows: Tensor) -> Tensor:
    """At most N rows with the same Gram matrix as `[B, g, r, N]`: the R of a QR decomposition."""
    count, width = rows.shape[-2:]
    if count < width:
        return rows
    if width == 1:
        return _norm(rows)
    triangle: Tensor = torch.linalg.qr(rows, mode="r").R
    return triangle


def _norm(matrices: Tensor) -> Tensor:
    """Norm of each of `[..., a, b]`, `[..., 1, 1]`, safe from overflow and underflow of squares."""
    scale = powers_above(matrices.abs().amax((-2, -1), keepdim=True))
    norm: Tensor = scale * torch.linalg.vector_norm(matrices / scale, dim=(-2, -1), keepdim=True)
    return norm


def library_singular_values(matrices: Tensor, notes: set[str]) -> Tensor:
    """`[..., min(a, b)]` descending; a single row or column needs no decomposition.

    A GPU's solver that fails leaves the matrices to LAPACK on the CPU, and that is noted.
    """
    if min(matrices.shape[-2:]) == 1:
        return _norm(matrices)[..., 0]
    try:
        values: Tensor = torch.linalg.svdvals(matrices)
    except RuntimeError as error:  # LinAlgError, or what a library of the device reports
        if matrices.device.type == "cpu" or isinstance(error, torch.OutOfMemoryError):
            raise
        notes.add(f"some blocks on the CPU, since the solver of the device failed: {error}")
        values = torch.linalg.svdvals(matrices.cpu()).to(matrices.device)
    return values


@dataclass(frozen=True)
class Factor:
    """A triangular factor on its way through the sequence.

    Args:
        rows: `[B, g, r, N]`, r at most N.
        noise: `[B, g, k, N]`, rows of the size of the rounding errors made so far, which the
            transitions change as they change the errors. Empty where no number of the state
            reaches another: the errors then stay in proportion to their columns.
    """

    rows: Tensor
    noise: Tensor

    @property
    def batch(self) -> int:
        """Samples, B."""
        return self.rows.shape[0]

    @property
    def groups(self) -> int:
        """Groups of these rows, g."""
        return self.rows.shape[1]

    @property
    def width(self) -> int:
        """N."""
        return self.rows.shape[-1]

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.rows.device

    @classmethod
    def empty(cls, batch: int, groups: int, width: int, *, noisy: bool, device: Any) -> Factor:
        """No rows yet."""
        shape = batch, groups, PROBES if noisy else 0, width
        noise = torch.zeros(shape, dtype=torch.float64, device=device)
        return cls(noise[:, :, :0], noise)

    def forward(self, stretch: Stretch) -> Factor:
        """The factor of the past after a stretch."""
        probes = self.noise.shape[-2]
        out = stretch.steps.forward(torch.cat([self.noise, self.rows], -2), stretch.write)
        return Factor(*_settled(out[:, :, probes:], out[:, :, :probes], stretch.length))

    def backward(self, stretch: Stretch) -> Factor:
        """The factor of the future before a stretch."""
        out = stretch.steps.backward(torch.cat([self.rows, self.noise], -2), stretch.read)
        split = out.shape[-2] - self.noise.shape[-2]
        return Factor(*_settled(out[:, :, :split], out[:, :, split:], stretch.length))

    def padded(self) -> Tensor:
        """An upper triangle `[B, g, N, N]`."""
        missing = self.width - self.rows.shape[-2]
        if not missing:
            return self.rows
        return reduced(torch.nn.functional.pad(self.rows, (0, 0, 0, missing)))

    def scaled(self) -> tuple[Factor, Tensor]:
        """The factor with entries below one, and the power of two that was divided out `[B, g]`."""
        power = powers_above(self.rows.abs().amax((-2, -1)))
        return Factor(
            self.rows / power[..., None, None], self.noise / power[..., None, None]
        ), power


def _settled(rows: Tensor, noise: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Reduced rows, and noise with what the steps and the reduction add to it."""
    if noise.shape[-2]:
        signs = _signs(noise.shape[-1]).to(noise.device)
        noise = noise + steps * ROUNDING * _norm(rows) * signs
    return reduced(rows), noise


def _signs(width: int) -> Tensor:
    """Unit rows of pseudo-random signs, the same for every call, `[PROBES, width]`."""
    generator = torch.Generator().manual_seed(width)
    drawn = torch.randint(0, 2, (PROBES, width), generator=generator)
    return (2.0 * drawn.to(torch.float64) - 1) / math.sqrt(width)


@dataclass(frozen=True)
class LaneFactor:
    """A factor of few columns, kept batch-last as a whole triangle, where transitions allow it.

    Args:
        triangle: `[N, N, B * g]`, upper triangular, rows that are not there yet zero.
        merger: room for the work, shared by all factors of a sweep.
        batch, groups: B and g.
    """

    triangle: Tensor
    merger: TriangleMerger
    batch: int
    groups: int

    @property
    def width(self) -> int:
        """N."""
        return len(self.triangle)

    @property
    def device(self) -> torch.device:
        """Where the triangles are."""
        return self.triangle.device

    @classmethod
    def empty(
        cls, batch: int, groups: int, width: int, *, steps: int, device: torch.device
    ) -> LaneFactor:
        """No rows yet, and room for stretches of so many steps."""
        lanes = batch * groups
        merger = TriangleMerger(steps, width, lanes, dtype=torch.float64, device=device)
        triangle = torch.zeros(width, width, lanes, dtype=torch.float64, device=device)
        return cls(triangle, merger, batch, groups)

    def forward(self, stretch: Stretch) -> LaneFactor:
        """The factor of the past after a stretch of `DiagonalSteps`."""
        return self._merged(_diagonal(stretch).forward_into, stretch.write)

    def backward(self, stretch: Stretch) -> LaneFactor:
        """The factor of the future before a stretch of `DiagonalSteps`."""
        return self._merged(_diagonal(stretch).backward_into, stretch.read)

    def _merged(
        self, send: Callable[[Tensor, Tensor, Tensor, Tensor], None], new: Tensor
    ) -> LaneFactor:
        count = new.shape[-2]
        old, triangle, rows = map(
            self._by_groups, (self.triangle, self.merger.triangle, self.merger.rows(count))
        )
        send(triangle, rows, old, new)
        return replace(self, triangle=self.merger.merge(count))

    def _by_groups(self, rows: Tensor) -> Tensor:
        """`[r, N, B * g]` as `[B, g, r, N]`, the same memory."""
        split = rows.view(len(rows), self.width, self.batch, self.groups)
        return split.permute(2, 3, 0, 1)


def _diagonal(stretch: Stretch) -> DiagonalSteps:
    assert isinstance(stretch.steps, DiagonalSteps)
    return stretch.steps


def product_singular_values(
    future: Factor, past: Factor, *, steps: int, notes: set[str]
) -> tuple[Tensor, Tensor]:
    """Singular values of the product of two factors, and a bound on their error.

    Args:
        future: of a rows, for the outputs.
        past: of b rows, for the inputs.
        steps: how many steps the factors went through.
        notes: gets what a reader of the result should know about how it was computed.

    Returns:
        values `[B, g, min(a, b)]` descending (not finite where a factor is not), error `[B, g]`.
    """
    (future, after), (past, before) = future.scaled(), past.scaled()
    product = future.rows @ past.rows.mT
    finite = torch.isfinite(torch.linalg.vector_norm(product, ord=torch.inf, dim=(-2, -1)))
    # Masked without looking: a look would make a GPU wait at every position.
    values = library_singular_values(torch.where(finite[..., None, None], product, 0.0), notes)
    values = values.masked_fill(~finite[..., None], torch.nan)
    error = factored_error(future, past, steps=steps)
    values = times_powers(values, after[..., None], before[..., None])
    return values, error_times_powers(error, after, before)


def factored_error(future: Factor, past: Factor, *, steps: int) -> Tensor:
    """Bound on |error| of the singular values of a product of scaled factors, `[B, g]`.

    Householder QR, diagonal transitions and the product itself err in every column in proportion
    to that column (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, theorem 19.4),
    so that the error of `O R` is a multiple of `u sum_n |o_n| |r_n|`: no scaling of the state
    matters. The multiple grows with the steps, as their rounding errors agree in sign where all
    steps are alike.

    Where transitions mix columns, rounding errors may grow faster than what they sit on (a mode
    that grows, and that no input reaches). Then the noise that went along says how large they are.

    Not covered is what the product of decays loses below 2**-1022 within a stretch: 1e-308 of the
    largest write or read, which shows only where that is larger by 1e290 than the whole block.
    """
    width = future.rows.shape[-1]
    if future.noise.shape[-2] == 0:
        after = torch.linalg.vector_norm(future.rows, dim=-2)
        before = torch.linalg.vector_norm(past.rows, dim=-2)
        size = (after * before).sum(-1)
        return rounding_of(size, width, steps)
    (after, after_error), (before, before_error) = (
        (_size(factor.rows), _size(factor.noise)) for factor in (future, past)
    )
    product = (16 + 2 * width) * ROUNDING * after * before
    return product + after * before_error + after_error * before + UNDERFLOW


def rounding_of(size: Tensor, width: int, steps: int) -> Tensor:
    """The bound where errors stay in proportion to columns, of `size = sum_n |o_n| |r_n|`."""
    return (16 + 2 * width + steps) * ROUNDING * size + UNDERFLOW


def _size(rows: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(rows, dim=(-2, -1))
    return norm
