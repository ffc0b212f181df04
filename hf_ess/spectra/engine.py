"""Spectra of operators that are already formed: the one engine behind every dense route."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, NonFiniteError
from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.spectra.blocks import Region, block_shape, region_of
from hf_ess.spectra.bounds import gram_error, svd_error
from hf_ess.spectra.gram import block_grams, singular_values
from hf_ess.spectra.parallel import Task, run_tasks
from hf_ess.spectra.spectra import Spectra

DEFAULT_MEMORY_BUDGET = 2**31

METHODS = ("auto", "gram", "svd")
# Up to this length SVD costs next to nothing, and its error is that of the entries.
SHORT = 64

_REASONS = {
    "gram": "exact to its error bound and several times faster than SVD",
    "svd": "asked for",
    "gram+svd": "SVD where the error of the Gram reaches the smallest tolerance",
    "short": "short enough for an SVD of each block",
}


@dataclass(frozen=True)
class Request:
    """What to compute: positions, window, method, and the smallest tolerance to count at."""

    positions: tuple[int, ...]
    window: tuple[int, int] | None = None
    method: str = "auto"
    tolerance_floor: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidInputError(
                f"Unknown method {self.method!r}.",
                fix=f"Choose one of {', '.join(map(repr, METHODS))}.",
            )
        floor = self.tolerance_floor
        if floor is not None and not floor >= 0:
            raise InvalidInputError(f"tolerance_floor must be >= 0 or None, got {floor!r}.")

    def method_for(self, length: int) -> str:
        """The method for operators of a length: short ones are decomposed one by one."""
        return "svd" if self.method == "auto" and length <= SHORT else self.method


def dense_block_singular_values(
    matrices: Tensor, request: Request, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Spectra:
    """Singular values of the blocks of operators that are already formed.

    Args:
        matrices: `[..., L, L]` float64; only entries below the diagonal are read. Not changed.
        request: positions (as `resolve_positions` gives them), window, method.
        memory_budget: bytes that the matrices and the work on them may take together; fewer
            threads run where it is tight. The result comes on top.

    Raises:
        NonFiniteError: NaN or infinite entries.

    Source: spectra of `H_i = M[i:, :i]`, Parnichkun et al., ICML 2025, section 3; the cumulative
    Gram and the error bounds are ours (`gram.py`, `bounds.py`).

    Example:
        >>> import torch
        >>> from hf_ess.spectra.engine import Request, dense_block_singular_values
        >>> shift = torch.eye(4, dtype=torch.float64).roll(1, 0).tril()
        >>> dense_block_singular_values(shift, Request((1, 2, 3))).values[:, 0]
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    with torch.inference_mode(False), torch.no_grad():
        flat = matrices.detach().reshape(-1, *matrices.shape[-2:])
        _refuse_non_finite(flat)
        store = _Store.empty(flat, request)
        tasks = list(_tasks(flat, request, store))
        spare = max(0, memory_budget - flat.numel() * FLOAT64_BYTES)
        workers = min(torch.get_num_threads(), spare // _task_bytes(flat))
        run_tasks(tasks, workers if flat.device.type == "cpu" else 1)
        return store.spectra(matrices.shape[:-2], request, matrices.shape[-1])


def _refuse_non_finite(matrices: Tensor) -> None:
    norms = torch.linalg.vector_norm(matrices, ord=torch.inf, dim=(-2, -1))
    wrong = (~torch.isfinite(norms)).nonzero()[:, 0].tolist()
    if wrong:
        raise NonFiniteError(
            f"{len(wrong)} of {len(norms)} operators have NaN or infinite entries, "
            f"the first is number {wrong[0]}.",
            causes=["the model overflowed in half precision", "a row of the mask hides every key"],
            fix="Run the model in float32 or bfloat16 and check its outputs.",
        )


def _task_bytes(matrices: Tensor) -> int:
    """Peak of one task: a region of half an operator, and a few Grams of a quarter of one."""
    together = 1 if matrices.device.type == "cpu" else len(matrices)
    return 2 * together * matrices.shape[-1] ** 2 * FLOAT64_BYTES


def _tasks(matrices: Tensor, request: Request, store: _Store) -> Iterator[Task]:
    """One task for each half of the positions of each operator; all operators on a GPU."""
    length = matrices.shape[-1]
    step = 1 if matrices.device.type == "cpu" else len(matrices)
    indices = range(len(request.positions))
    early = [n for n in indices if 2 * request.positions[n] <= length]
    late = [n for n in reversed(indices) if 2 * request.positions[n] > length]
    for start in range(0, len(matrices), step):
        chosen = slice(start, start + step)
        for half, flipped in ((early, False), (late, True)):
            if half:
                yield partial(_solve_half, matrices, chosen, half, flipped, request, store)


def _solve_half(
    matrices: Tensor,
    chosen: slice,
    half: list[int],
    flipped: bool,
    request: Request,
    store: _Store,
    stop: threading.Event,
) -> None:
    with torch.inference_mode(False), torch.no_grad():
        positions = tuple(request.positions[n] for n in half)
        region = region_of(matrices[chosen], positions, request.window, flipped=flipped)
        index_of = dict(zip(region.positions, half, strict=True))
        by_svd = request.method_for(matrices.shape[-1]) == "svd"
        solutions = _by_svd(region) if by_svd else _by_gram(region, request)
        for solved in solutions:
            store.put(chosen, index_of[solved.position], solved)
            if stop.is_set():
                return


@dataclass(frozen=True)
class _Solved:
    """One block of n operators: values `[n, k]`, error `[n]`, and which came from squares `[n]`."""

    position: int
    values: Tensor
    error: Tensor
    from_squares: Tensor


def _by_gram(region: Region, request: Request) -> Iterator[_Solved]:
    for position, gram, rows, columns in block_grams(region):
        scaled = singular_values(gram)[:, : min(rows, columns)]
        values = region.unscale(scaled)
        error = region.unscale(_error(scaled, rows, columns, gram_error))
        from_squares = torch.ones_like(error, dtype=torch.bool)
        if request.method == "auto" and request.tolerance_floor is not None:
            coarse = error >= request.tolerance_floor
            if coarse.any():
                exact = _svd_of(region, position)
                values = torch.where(coarse[:, None], exact.values, values)
                error = torch.where(coarse, exact.error, error)
                from_squares = ~coarse
        yield _Solved(position, values, error, from_squares)


def _by_svd(region: Region) -> Iterator[_Solved]:
    for position in region.positions:
        yield _svd_of(region, position)


def _svd_of(region: Region, position: int) -> _Solved:
    block = region.block(position)
    scaled = torch.linalg.svdvals(block)
    error = region.unscale(_error(scaled, block.shape[1], block.shape[2], svd_error))
    return _Solved(
        position, region.unscale(scaled), error, torch.zeros_like(error, dtype=torch.bool)
    )


def _error(
    values: Tensor, rows: int, columns: int, bound: Callable[[Tensor, int, int], Tensor]
) -> Tensor:
    """The bound for values `[n, k]`; a block without entries is exact."""
    if values.shape[1] == 0:
        return values.new_zeros(values.shape[0])
    return bound(values[:, 0], rows, columns)


@dataclass(frozen=True)
class _Store:
    """Where tasks put their results, each its own part."""

    values: Tensor
    error: Tensor
    sizes: Tensor
    from_squares: Tensor

    @classmethod
    def empty(cls, matrices: Tensor, request: Request) -> _Store:
        length, device = matrices.shape[-1], matrices.device
        widest = max(min(block_shape(i, length, request.window)) for i in request.positions)
        shape = len(matrices), len(request.positions)
        return cls(
            torch.zeros(*shape, widest, dtype=torch.float64, device=device),
            torch.zeros(shape, dtype=torch.float64, device=device),
            torch.zeros(shape, dtype=torch.int64, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
        )

    def put(self, chosen: slice, index: int, solved: _Solved) -> None:
        size = solved.values.shape[1]
        self.values[chosen, index, :size] = solved.values
        self.error[chosen, index] = solved.error
        self.sizes[chosen, index] = size
        self.from_squares[chosen, index] = solved.from_squares

    def spectra(self, leading: torch.Size, request: Request, length: int) -> Spectra:
        name = method = request.method_for(length)
        reason = _REASONS["short" if request.method != method else "svd"]
        if method == "gram":
            reason = "asked for"
        elif method == "auto" and self.from_squares.all():
            name, reason = "gram", _REASONS["gram"]
        elif method == "auto":
            name = "gram+svd" if self.from_squares.any() else "svd"
            reason = _REASONS["gram+svd"]
        spectra = Spectra(
            self.values,
            self.error,
            self.sizes,
            self.from_squares,
            positions=request.positions,
            window=request.window,
            method=name,
            reason=reason,
        )
        return spectra.reshape(leading)
