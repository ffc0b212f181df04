"""Spectra of operators that are already formed: the one engine behind every dense route."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, NonFiniteError
from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.spectra.blocks import Region, block_shape, region_of
from hf_ess.spectra.bounds import gram_error, svd_error
from hf_ess.spectra.gram import block_grams
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
        NonFiniteError: NaN or infinite entries, or singular values that overflow float64.

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
        refuse_non_finite(flat)
        store = Store.empty(len(flat), flat.shape[-1], flat.device, request)
        tasks = list(_tasks(flat, request, store))
        spare = max(0, memory_budget - flat.numel() * FLOAT64_BYTES)
        workers = min(torch.get_num_threads(), spare // _task_bytes(flat))
        run_tasks(tasks, workers if flat.device.type == "cpu" else 1)
        return store.spectra(matrices.shape[:-2], request, matrices.shape[-1])


def refuse_non_finite(matrices: Tensor) -> None:
    """Refuses operators `[n, ...]` of which one holds NaN or infinity.

    Raises:
        NonFiniteError: says how many do.
    """
    # Sums are several times faster than norms; they may overflow, but hide nothing.
    if bool(torch.isfinite(matrices.sum())):
        return
    norms = torch.linalg.vector_norm(matrices, ord=torch.inf, dim=(-2, -1))
    wrong = (~torch.isfinite(norms)).nonzero()[:, 0].tolist()
    if wrong:
        raise NonFiniteError(
            f"{len(wrong)} of {len(norms)} operators have NaN or infinite entries, "
            f"the first is number {wrong[0]}.",
            causes=["the model overflowed in half precision", "a row of the mask hides every key"],
            fix="Run the model in float32 or bfloat16 and check its outputs.",
        )


def refuse_overflow(values: Tensor, what: str) -> None:
    """Refuses singular values that are larger than float64 can hold.

    Raises:
        NonFiniteError: names what they are of.
    """
    if not bool(torch.isfinite(values).all()):
        raise NonFiniteError(
            f"Singular values of {what} overflow float64.",
            causes=["entries near 1e308: a block's norm is up to L times as large"],
            fix="Divide the operator by a power of two, and multiply the results by it.",
        )


def _task_bytes(matrices: Tensor) -> int:
    """Peak of one task: a region of half an operator, and a few Grams of a quarter of one."""
    together = 1 if matrices.device.type == "cpu" else len(matrices)
    return 2 * together * matrices.shape[-1] ** 2 * FLOAT64_BYTES


def _tasks(matrices: Tensor, request: Request, store: Store) -> Iterator[Task]:
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
    store: Store,
    stop: threading.Event,
) -> None:
    with torch.inference_mode(False), torch.no_grad():
        positions = tuple(request.positions[n] for n in half)
        region = region_of(matrices[chosen], positions, request.window, flipped=flipped)
        index_of = dict(zip(region.positions, half, strict=True))
        if request.method_for(matrices.shape[-1]) == "svd":
            for position in region.positions:
                store.put(chosen, index_of[position], _svd_of(region, position))
                if stop.is_set():
                    return
        else:
            _solve_by_gram(region, request, store, chosen, index_of, stop)


@dataclass(frozen=True)
class _Solved:
    """One block of n operators: values `[n, k]`, error `[n]`, and which came from squares `[n]`."""

    values: Tensor
    error: Tensor
    from_squares: Tensor


def _solve_by_gram(
    region: Region,
    request: Request,
    store: Store,
    chosen: slice,
    index_of: dict[int, int],
    stop: threading.Event,
) -> None:
    """Eigenvalues position by position; all that follows for the positions together."""
    positions: list[int] = []
    sizes: list[tuple[int, int]] = []
    squares = torch.zeros_like(store.values[chosen][:, : len(index_of)])
    for place, (position, gram, rows, columns) in enumerate(block_grams(region)):
        size = min(rows, columns)
        # The largest eigenvalues are the squares; a Gram larger than the block has zeros besides.
        squares[:, place, :size] = torch.linalg.eigvalsh(gram).flip(-1)[:, :size]
        positions.append(position)
        sizes.append((rows, columns))
        if stop.is_set():
            return
    scaled = squares.clamp_(min=0).sqrt_()
    sides = torch.tensor(sizes, dtype=torch.float64, device=scaled.device)
    error = region.unscale_error(gram_error(scaled[..., 0], sides[:, 0], sides[:, 1]))
    indices = [index_of[position] for position in positions]
    store.put_all(chosen, indices, region.unscale(scaled), error, sides.amin(-1).to(torch.int64))
    if request.method == "auto" and request.tolerance_floor is not None:
        coarse = error >= request.tolerance_floor
        for place in coarse.any(0).nonzero()[:, 0].tolist():
            solved = _svd_of(region, positions[place])
            store.put_where(coarse[:, place], chosen, indices[place], solved)
            if stop.is_set():
                return


def _svd_of(region: Region, position: int) -> _Solved:
    block = region.block(position)
    scaled = torch.linalg.svdvals(block)
    error = scaled.new_zeros(len(scaled))
    if scaled.shape[1]:
        error = region.unscale_error(svd_error(scaled[:, 0], block.shape[1], block.shape[2]))
    return _Solved(region.unscale(scaled), error, torch.zeros_like(error, dtype=torch.bool))


@dataclass(frozen=True)
class Store:
    """Where tasks put their results, each its own part: `[n, P, K]` and `[n, P]`."""

    values: Tensor
    error: Tensor
    sizes: Tensor
    from_squares: Tensor

    @classmethod
    def empty(cls, count: int, length: int, device: torch.device, request: Request) -> Store:
        """Zeros for the blocks of `count` operators of a length."""
        widest = max(min(block_shape(i, length, request.window)) for i in request.positions)
        shape = count, len(request.positions)
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

    def put_all(
        self, chosen: slice, indices: list[int], values: Tensor, error: Tensor, sizes: Tensor
    ) -> None:
        """Positions of some operators at once, all from squares: values `[n, p, k]`."""
        self.values[chosen, indices] = values
        self.error[chosen, indices] = error
        self.sizes[chosen, indices] = sizes
        self.from_squares[chosen, indices] = True

    def put_where(self, wanted: Tensor, chosen: slice, index: int, solved: _Solved) -> None:
        """One position of those of the chosen operators that are wanted `[n]`."""
        size = solved.values.shape[1]
        values = self.values[chosen, index, :size]
        self.values[chosen, index, :size] = torch.where(wanted[:, None], solved.values, values)
        self.error[chosen, index] = torch.where(wanted, solved.error, self.error[chosen, index])
        self.from_squares[chosen, index] &= ~wanted

    def spectra(self, leading: Sequence[int], request: Request, length: int) -> Spectra:
        """The results with their leading axes, and the name of how they came about.

        Raises:
            NonFiniteError: values overflow.
        """
        refuse_overflow(self.values, f"blocks of operators of length {length}")
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
