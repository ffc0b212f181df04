"""Spectra of operators that mix channels: exact where the matrix fits, else by random products."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from hf_ess.errors import MemoryBudgetError
from hf_ess.operators import JacobianOperator, MimoOperator
from hf_ess.operators.chunks import mebibytes
from hf_ess.spectra.blocks import block_shape
from hf_ess.spectra.bounds import svd_error
from hf_ess.spectra.dispatch import operator_block_singular_values
from hf_ess.spectra.engine import DEFAULT_MEMORY_BUDGET, Request, dense_block_singular_values
from hf_ess.spectra.spectra import Spectra

# Of all error bounds of one operator together.
FAILURE_PROBABILITY = 1e-6
FEWEST_VALUES = 16
MOST_VALUES = 256
# Without a tolerance to resolve, values are sought down to this fraction of the largest.
RELATIVE_GOAL = 1e-6


@operator_block_singular_values.register
def mimo_operator_singular_values(
    operator: MimoOperator, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """The blocks `M[O*i:, :I*i]` of any multi-input multi-output operator; forms M."""
    channels = operator.channels_out, operator.channels_in
    parts = [
        mimo_block_singular_values(
            operator.to_dense(chunk), request, *channels, memory_budget=memory_budget
        )
        for chunk in operator.group_chunks(memory_budget)
    ]
    return Spectra.concatenate(parts, dim=1)


def mimo_block_singular_values(
    matrices: Tensor,
    request: Request,
    channels_out: int,
    channels_in: int,
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Spectra:
    """Singular values of the blocks `M[O*i:, :I*i]` of operators that are already formed.

    Args:
        matrices: `[..., L*O, L*I]` float64, tokens outside and channels inside. Not changed.
        request: positions and window count tokens.
        channels_out: O.
        channels_in: I.
        memory_budget: bytes that the matrices and the work on them may take together.

    Raises:
        NonFiniteError: NaN or infinite entries.

    Source: Parnichkun et al., ICML 2025, section 3 (the flattened operator of MIMO systems).

    Example:
        >>> import torch
        >>> from hf_ess.spectra import Request, mimo_block_singular_values
        >>> average = torch.ones(4, 4, dtype=torch.float64).tril()
        >>> two_channels = torch.kron(average, torch.eye(2).double())
        >>> spectra = mimo_block_singular_values(two_channels, Request((2,)), 2, 2)
        >>> (spectra.values > 1e-3).sum()
        tensor(2)
    """
    length = matrices.shape[-1] // channels_in
    width = max(channels_out, channels_in)
    window = request.window
    flat = replace(
        request,
        positions=tuple(width * position for position in request.positions),
        window=None if window is None else (width * window[0], width * window[1]),
    )
    square = _square(matrices, length, channels_out, channels_in)
    spectra = dense_block_singular_values(square, flat, memory_budget=memory_budget)
    shapes = [block_shape(position, length, window) for position in request.positions]
    widest = max(min(channels_out * rows, channels_in * columns) for rows, columns in shapes)
    return replace(
        spectra,
        values=spectra.values[..., :widest],
        positions=request.positions,
        window=window,
    )


def _square(matrices: Tensor, length: int, channels_out: int, channels_in: int) -> Tensor:
    """Zero channels where there are fewer outputs than inputs or the reverse.

    They change no singular value, and the engine leaves them out of its work.
    """
    if channels_out == channels_in:
        return matrices
    width, leading = max(channels_out, channels_in), matrices.shape[:-2]
    padded = matrices.new_zeros(*leading, length, width, length, width)
    blocks = matrices.reshape(*leading, length, channels_out, length, channels_in)
    padded[..., :channels_out, :, :channels_in] = blocks
    return padded.reshape(*leading, length * width, length * width)


@operator_block_singular_values.register
def jacobian_singular_values(
    operator: JacobianOperator, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """The blocks of a Jacobian, from its matrix where that fits into the budget.

    Raises:
        MemoryBudgetError: not even a few products fit.
        UnsupportedMixerError: the matrix does not fit, and products `M v` cannot be had.
    """
    if operator.dense_bytes_per_group() > memory_budget:
        return randomized_block_singular_values(operator, request, memory_budget=memory_budget)
    operator.form()
    spectra = mimo_operator_singular_values(operator, request, memory_budget=memory_budget)
    spectra = replace(spectra, method="jacobian", reason="the whole Jacobian fits into memory")
    if operator.is_float64:
        return spectra
    largest = spectra.values[..., 0]
    return replace(
        spectra,
        error_bound=spectra.error_bound + operator.rounding * largest,
        from_squares=torch.zeros_like(spectra.from_squares),
    )


def randomized_block_singular_values(
    operator: JacobianOperator,
    request: Request,
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    most_values: int = MOST_VALUES,
) -> Spectra:
    """The largest singular values of the blocks of a Jacobian, from products with it alone.

    A basis Q of the range of H_i comes from random products and one subspace iteration; the
    values are those of `Q' H_i`. Their squares are too small by at most `||R||**2`, those left out
    included, with R = `H_i - Q Q' H_i`, since `H_i' H_i = (Q' H_i)' (Q' H_i) + R' R`. The norm is
    at most the cube root of `2 sqrt(2 / pi) max |R R' R w|` over q fresh random vectors w, except
    with probability `2**-q` (lemma 4.1, alpha = 2); q is such that all bounds of one call hold
    together with probability 1 - 1e-6. The basis doubles until the bound is below half the
    smallest tolerance.

    Args:
        operator: the Jacobian.
        request: positions, window, and the smallest tolerance; the method is not asked.
        memory_budget: bytes for vectors; the products themselves take the operator's `work_bytes`.
        most_values: largest basis.

    Returns:
        values `[B, 1, P, K]`, K the largest basis that was needed; smaller values are left out
        and are below the error bound.

    Raises:
        MemoryBudgetError: not even a few products fit.
        UnsupportedMixerError: products `M v` cannot be had.

    Source: Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 2011,
    sections 4.3 and 4.5. Blocks and budgets are ours.
    """
    most = min(most_values, _vectors_within(operator, memory_budget))
    solved: list[_Solved] = []
    rank = min(FEWEST_VALUES, most)
    for position in request.positions:
        block = _Block(operator, position, request)
        probes = block.probes(tries=1 + math.ceil(math.log2(most / rank)))
        # Neighbouring blocks need bases of about the same size.
        solved.append(block.solve(rank, probes))
        while not solved[-1].resolves(request.tolerance_floor) and rank < block.largest_rank(most):
            rank = min(2 * rank, most)
            solved[-1] = block.solve(rank, probes)
    return _spectra(solved, request)


@dataclass(frozen=True)
class _Solved:
    """One block of B samples: values `[B, k]`, what the basis misses `[B]`, and rounding `[B]`."""

    values: Tensor
    remainder: Tensor
    rounding: Tensor

    def resolves(self, tolerance_floor: float | None) -> bool:
        """Whether a larger basis would change nothing that counts."""
        goal = RELATIVE_GOAL * self.values[:, 0]
        if tolerance_floor is not None:
            goal = torch.full_like(goal, tolerance_floor / 2)
        return bool((self.remainder <= torch.maximum(goal, self.rounding)).all())

    def error(self) -> tuple[Tensor, Tensor]:
        """Bound on the error of every value `[B]`, and whether it is one of their squares `[B]`."""
        largest = self.values[:, 0]
        rounding_of_squares = torch.hypot(
            (2 * largest).sqrt() * self.rounding.sqrt(), self.rounding
        )
        from_squares = self.remainder > rounding_of_squares
        of_squares = torch.hypot(self.remainder, rounding_of_squares)
        return torch.where(from_squares, of_squares, self.remainder + self.rounding), from_squares


def _spectra(solved: list[_Solved], request: Request) -> Spectra:
    widest = max(block.values.shape[-1] for block in solved)
    padded = [pad(block.values, (0, widest - block.values.shape[-1])) for block in solved]
    errors, from_squares = zip(*(block.error() for block in solved), strict=True)
    error_bound = torch.stack(errors, dim=-1)[:, None]
    return Spectra(
        values=torch.stack(padded, dim=-2)[:, None],
        error_bound=error_bound,
        sizes=torch.full_like(error_bound, widest, dtype=torch.int64),
        from_squares=torch.stack(from_squares, dim=-1)[:, None],
        positions=request.positions,
        window=request.window,
        method="jacobian (randomized)",
        reason="the whole Jacobian does not fit into memory",
    )


def _vectors_within(operator: JacobianOperator, memory_budget: int) -> int:
    """How many vectors fit: each is there as a sketch, a product, and a basis, with room to work.

    Raises:
        MemoryBudgetError: fewer than a few.
    """
    fitting = memory_budget // (4 * operator.vector_bytes())
    if fitting < FEWEST_VALUES:
        needed = 4 * FEWEST_VALUES * operator.vector_bytes()
        raise MemoryBudgetError(
            f"A Jacobian of {operator.length} tokens and {operator.channels_in} channels needs "
            f"{mebibytes(operator.dense_bytes_per_group())} as a matrix and {mebibytes(needed)} "
            f"for random products, the memory budget is {mebibytes(memory_budget)}.",
            fix=f"Raise memory_budget to {needed} bytes, lower batch_size, or analyse a shorter "
            "text.",
        )
    return fitting


class _Block:
    """The block of one position: products with M of vectors that are zero elsewhere."""

    def __init__(self, operator: JacobianOperator, position: int, request: Request) -> None:
        self.operator = operator
        rows, columns = block_shape(position, operator.length, request.window)
        self.rows = slice(position, position + rows)
        self.columns = slice(position - columns, position)
        self.row_count = rows * operator.channels_out
        self.column_count = columns * operator.channels_in
        self.blocks = operator.batch * len(request.positions)
        self._generator = torch.Generator().manual_seed(position)

    def largest_rank(self, most: int) -> int:
        """Largest basis: of `most` vectors, or of as many as the block has dimensions."""
        return min(most, self.row_count, self.column_count)

    def probes(self, tries: int) -> Tensor:
        """Products with the random vectors that the error bound is taken from, `[B, rows, q]`.

        They have no part in any basis; every basis of the block is tried on the same ones.
        """
        count = math.ceil(math.log2(self.blocks * tries / FAILURE_PROBABILITY))
        return self.times(self.random(self.column_count, count))

    def solve(self, rank: int, probes: Tensor) -> _Solved:
        """The values that a basis of at most `rank` vectors finds."""
        sketch = self.times(self.random(self.column_count, self.largest_rank(rank)))
        sketch = self.times(_basis(self.transposed_times(_basis(sketch))))
        basis = _basis(sketch)
        values = torch.linalg.svdvals(self.transposed_times(basis))
        rounding = svd_error(values[:, 0], self.row_count, self.column_count)
        return _Solved(
            values,
            self._remainder(basis, probes),
            rounding + self.operator.rounding * values[:, 0],
        )

    def _remainder(self, basis: Tensor, probes: Tensor) -> Tensor:
        """Bound `[B]` on the norm of `R = H_i - Q Q' H_i`, from `H_i w` for random w.

        The lemma is applied to `R R' R`, whose norm is the cube of that of R: the cube root takes
        away most of what it overestimates where many values are left out.
        """
        first, norm = _units(_without(basis, probes))
        second, norm_back = _units(self.transposed_times(first))
        _, norm_again = _units(_without(basis, self.times(second)))
        # Each root on its own: the product of small norms would be zero.
        roots = norm ** (1 / 3) * norm_back ** (1 / 3) * norm_again ** (1 / 3)
        bound: Tensor = (2 * math.sqrt(2 / math.pi)) ** (1 / 3) * roots.amax(-1)
        return bound

    def random(self, rows: int, count: int) -> Tensor:
        shape = self.operator.batch, rows, count
        drawn = torch.randn(shape, dtype=torch.float64, generator=self._generator)
        return drawn.to(self.operator.device)

    def times(self, vectors: Tensor) -> Tensor:
        """`H_i v`: `[B, columns, n]` to `[B, rows, n]`."""
        spread = self._spread(vectors, self.columns, self.operator.channels_in)
        return _gathered(self.operator.products(spread), self.rows)

    def transposed_times(self, vectors: Tensor) -> Tensor:
        """`H_i' w`: `[B, rows, n]` to `[B, columns, n]`."""
        spread = self._spread(vectors, self.rows, self.operator.channels_out)
        return _gathered(self.operator.transposed_products(spread), self.columns)

    def _spread(self, vectors: Tensor, tokens: slice, channels: int) -> Tensor:
        """`[B, n_t * C, n]` as `[n, B, L, C]`, zero at all other tokens."""
        operator, count = self.operator, vectors.shape[-1]
        spread = vectors.new_zeros(count, operator.batch, operator.length, channels)
        spread[:, :, tokens] = vectors.movedim(-1, 0).reshape(count, operator.batch, -1, channels)
        return spread


def _without(basis: Tensor, vectors: Tensor) -> Tensor:
    """What is left of vectors outside of a span; twice, since once leaves rounding of it."""
    for _ in range(2):
        vectors = vectors - basis @ (basis.mT @ vectors)
    return vectors


def _units(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """`[B, rows, q]` as vectors of length one, or zero, and their lengths `[B, q]`."""
    largest = vectors.abs().amax(1, keepdim=True)
    scaled = vectors / torch.where(largest > 0, largest, 1.0)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    units = scaled / torch.where(length > 0, length, 1.0)
    return units, (length * largest)[:, 0]


def _gathered(features: Tensor, tokens: slice) -> Tensor:
    """`[n, B, L, C]` at some tokens, as `[B, n_t * C, n]`."""
    return features[:, :, tokens].flatten(-2).movedim(0, -1)


def _basis(vectors: Tensor) -> Tensor:
    """Orthonormal columns with the same span, or more."""
    basis: Tensor = torch.linalg.qr(vectors)[0]
    return basis
