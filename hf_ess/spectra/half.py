"""The first or the last half of the positions of some operators: counts and entropies there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import torch
from torch import Tensor

from hf_ess.metrics import entropy_ess, tolerance_ess
from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.spectra.bounds import ROUNDING, gram_error
from hf_ess.spectra.elimination import Workspace
from hf_ess.spectra.engine import refuse_overflow
from hf_ess.spectra.position_tree import PositionTree, half_length
from hf_ess.spectra.powers import error_times_powers, powers_above, times_powers
from hf_ess.spectra.quadrature import (
    NODES,
    Blocks,
    CountBracket,
    entropy_bracket,
    node_limit,
    node_shifts,
    single_precision_nodes,
)
from hf_ess.spectra.spectra import Spectra

# Largest relative half width of entropy-ESS for which no further node is added.
ENTROPY_HALF_WIDTH = 0.01
# Blocks of fewer rows or columns are decomposed: their norms are small, their intervals wide.
# Matrices of one less, 24, fill whole cache lines: how they round does not depend on their place.
LEAST_SIZE = 25
# Work of all blocks of a half at one shift, in cubes of the half length, and what one
# multiplication of an eigensolver costs beside it, which runs at the speed of products.
# Measured with attention of 512 and 1024 tokens on two cores of a CPU.
NODE_WORK = 3.0
COST_OF_EIGENVALUES = 6.0
# The relative error of a shift that rounding amounts to, in units of `u (F / t)^2`: no count of
# attention needed a thousandth of this. Below the second number a tolerance is counted once.
ROUNDING_OF_COUNTS = 1
NEGLIGIBLE_ROUNDING = 1e-7
# A tolerance whose rounding error is larger cannot be counted.
WIDEST_BRACKET = 0.1
# Doubles of one shift's nodes, in squares of the half length.
NODE_SQUARES = 5
# Nodes of so many bytes are worked off together: enough for long products, not far out of caches.
CACHED_BYTES = 2**27


class Workspaces:
    """Workspaces that tasks take and give back, so that each thread has its own."""

    def __init__(self) -> None:
        self._free: dict[tuple[torch.dtype, torch.device], SimpleQueue[Workspace]] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Lets go of those that nobody has."""
        with self._lock:
            self._free.clear()

    @contextmanager
    def taken(self, dtype: torch.dtype, device: torch.device) -> Iterator[Workspace]:
        """A workspace that nobody else has."""
        with self._lock:
            free = self._free.setdefault((dtype, device), SimpleQueue())
        try:
            workspace = free.get_nowait()
        except Empty:
            workspace = Workspace(dtype, device)
        yield workspace
        free.put(workspace)


@dataclass(frozen=True)
class HalfMetrics:
    """ESS at the positions 1..h of n operators.

    Args:
        entropy: `[n, h]`.
        half_width: `[n, h]`, relative.
        low: counts that are certain, `[n, T, h]` int64.
        high: counts that are possible, `[n, T, h]` int64.
        countable: whether a tolerance lies above the rounding errors, `[n, T]` bool.
    """

    entropy: Tensor
    half_width: Tensor
    low: Tensor
    high: Tensor
    countable: Tensor


class Half:
    """Half of the positions, in units in which the entries of the operators are below one.

    Args:
        matrices: `[n, L, L]` float64.
        flipped: whether to take the last positions, counted from the end.
        workspaces: where the nodes of the tree are kept.
        most_bytes: how large those of one step may be.
    """

    def __init__(
        self, matrices: Tensor, *, flipped: bool, workspaces: Workspaces, most_bytes: int
    ) -> None:
        self.length = length = matrices.shape[-1]
        width = half_length(length)
        part = matrices[:, -width:].mT.flip(-1, -2) if flipped else matrices[:, :, :width]
        part = part.tril(-1)
        largest = torch.maximum(part.amax((-2, -1)), -part.amin((-2, -1)))
        self.unit = powers_above(largest)[:, None]
        self.tree = PositionTree(part.div_(self.unit[..., None]))
        self.workspaces = workspaces
        at = torch.arange(1, width + 1, dtype=torch.float64, device=matrices.device)
        self.ranks = torch.minimum(at, length - at).clamp(min=0)
        per_shift = NODE_SQUARES * len(matrices) * width**2 * FLOAT64_BYTES
        self.together = max(1, most_bytes // per_shift)

    def shifts(self, tolerances: Sequence[float]) -> Tensor:
        """Tolerances `[n, T]` in the units of this half."""
        asked = torch.tensor(tolerances, dtype=torch.float64, device=self.unit.device)
        return asked / self.unit

    def counts(self, shifts: Tensor) -> Tensor:
        """Singular values above each shift `[n, S]`, `[n, S, h]` int64."""
        with self.workspaces.taken(torch.float64, shifts.device) as workspace:
            parts = [self.tree.counts(part, workspace) for part in self._portions(shifts)]
        return torch.cat([shifts.new_zeros(len(shifts), 0, self.tree.half).long(), *parts], 1)

    def _portions(self, shifts: Tensor) -> list[Tensor]:
        """Shifts whose nodes fit together."""
        count = shifts.shape[1]
        return [shifts[:, at : at + self.together] for at in range(0, count, self.together)]

    def metrics(self, tolerances: Sequence[float]) -> HalfMetrics:
        """Entropy and counts at descending tolerances."""
        norms = self.tree.squared_norms().sqrt()
        shifts = self.shifts(tolerances)
        rounding = ROUNDING_OF_COUNTS * ROUNDING * (norms.amax(-1, keepdim=True) / shifts) ** 2
        low, high = self._brackets(shifts, rounding)
        countable = rounding <= WIDEST_BRACKET
        low = torch.where(countable[..., None], low, 0)
        high = torch.where(countable[..., None], high, self.ranks.to(high.dtype))
        brackets = [
            CountBracket(shifts[:, n, None], low[:, n], high[:, n]) for n in range(len(tolerances))
        ]
        blocks = Blocks(norms, self.ranks, brackets)
        metrics = HalfMetrics(*self._entropy(blocks), low, high, countable)
        self._put_edge(metrics, tolerances)
        return metrics

    def _brackets(self, shifts: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
        """Counts at descending tolerances, on both sides of those near which rounding matters."""
        distance = rounding.clamp(max=WIDEST_BRACKET)
        fine = (rounding <= NEGLIGIBLE_ROUNDING).all(0)
        once = int(fine.long().cumprod(0).sum())
        above, below = shifts * (1 + distance), shifts * (1 - distance)
        counts = self.counts(torch.cat([shifts[:, :once], above[:, once:], below[:, once:]], 1))
        single, twice = counts[:, :once], counts[:, once:]
        first, second = twice.chunk(2, 1)
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        return torch.cat([single, low], 1), torch.cat([single, high], 1)

    def _put_edge(self, metrics: HalfMetrics, tolerances: Sequence[float]) -> None:
        """Puts what singular values of the first, small blocks say."""
        spectra = self._edge()
        refuse_overflow(spectra.values, "the blocks at the ends of the operators")
        at = slice(0, len(spectra.positions))
        metrics.entropy[:, at] = entropy_ess(spectra.values)
        metrics.half_width[:, at] = 0.0
        for number, tau in enumerate(tolerances):
            count = tolerance_ess(spectra.values, tau).long()
            metrics.low[:, number, at] = count
            metrics.high[:, number, at] = count + spectra.undecided(tau)
            # Where rounding hides a tolerance, a finer decomposition is asked for.
            metrics.half_width[:, at][spectra.error_bound >= tau] = torch.inf

    def _edge(self) -> Spectra:
        """Spectra of the blocks of fewer than `LEAST_SIZE` columns, from their Grams."""
        count = min(LEAST_SIZE - 1, self.tree.half)
        near = self.tree.near[:, :, :count]
        below = near[:, count:]
        rows = near[:, :count]
        # Sums of the squares of the rows from each one on, none after the last.
        squares = rows[:, 1:, :, None] * rows[:, 1:, None, :]
        later = squares.flip(1).cumsum(1).flip(1)
        later = torch.nn.functional.pad(later, (0, 0, 0, 0, 0, 1))
        # One by one: products of a batch may round otherwise than those of another batch.
        base = torch.stack([matrix.mT @ matrix for matrix in below])
        grams = later + (base + self.tree.gram[:, :count, :count])[:, None]
        at = torch.arange(1, count + 1, device=near.device)
        inside = at[:, None] > torch.arange(count, device=near.device)
        grams = grams * (inside[:, :, None] & inside[:, None, :])
        values = torch.linalg.eigvalsh(grams).flip(-1).clamp_(min=0).sqrt_()
        rest = torch.full_like(at, self.length) - at
        error = gram_error(values[..., 0], rest.to(values.dtype), at.to(values.dtype))
        return Spectra(
            times_powers(values, self.unit[..., None]),
            error_times_powers(error, self.unit),
            torch.minimum(at, rest).expand(error.shape),
            torch.ones_like(error, dtype=torch.bool),
            positions=tuple(range(1, count + 1)),
        )

    def _entropy(self, blocks: Blocks) -> tuple[Tensor, Tensor]:
        """Ten nodes, then more while an interval is too wide and rounding allows."""
        nodes = node_shifts(blocks.largest_norm(), node_limit())
        single = single_precision_nodes()
        logs = self._log_determinants(nodes[:, :single], torch.float32)
        units = [float(torch.finfo(torch.float32).eps) / 2] * single
        if not bool(torch.isfinite(logs).all()):
            logs = self._log_determinants(nodes[:, :single], torch.float64)
            units = [ROUNDING] * single
        for count in range(NODES, node_limit() + 1):
            more = self._log_determinants(nodes[:, len(units) : count], torch.float64)
            logs = torch.cat([logs, more], 1)
            units += [ROUNDING] * more.shape[1]
            entropy, half_width = entropy_bracket(logs, units, blocks)
            if self._rest_is_small(half_width):
                break
        return entropy, half_width

    def _rest_is_small(self, half_width: Tensor) -> bool:
        """Whether decomposing the blocks whose interval is too wide costs less than a node."""
        wide = (half_width > ENTROPY_HALF_WIDTH) & (self.ranks >= LEAST_SIZE)
        work = COST_OF_EIGENVALUES * 4 / 3 * (wide * self.ranks**3).sum(-1)
        return bool((work <= NODE_WORK * self.tree.half**3).all())

    def _log_determinants(self, shifts: Tensor, dtype: torch.dtype) -> Tensor:
        with self.workspaces.taken(dtype, shifts.device) as workspace:
            parts = [self.tree.log_determinants(t, workspace) for t in self._portions(shifts)]
        return torch.cat(parts, 1)
