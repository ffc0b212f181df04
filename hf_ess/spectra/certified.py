"""Entropy-ESS and tolerance-ESS at all positions, each with a certificate instead of a spectrum.

Divide and conquer (`position_tree.py`) gives log-determinants and counts at every position for
the price of a few shifts: ten to twelve for the entropy, one or two for each tolerance. Rounding
acts like a change of the tolerance by a fraction eta of about `u (F / tau)^2`. Above 1e-7 both
sides are counted, at `tau (1 - eta)` and `tau (1 + eta)`: where they agree the count is exact,
elsewhere their difference is reported as undecided. Below, one count is that of a tolerance
within 1e-7 of the one asked for. Blocks near the two ends, and blocks whose interval is wider
than asked for, are decomposed.

Source: ours; the metrics are Parnichkun et al., ICML 2025, eqs. 2 and 3.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from hf_ess.metrics import entropy_ess, tolerance_ess
from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.spectra.engine import (
    DEFAULT_MEMORY_BUDGET,
    Request,
    dense_block_singular_values,
    refuse_non_finite,
)
from hf_ess.spectra.half import (
    CACHED_BYTES,
    ENTROPY_HALF_WIDTH,
    NODE_SQUARES,
    Half,
    HalfMetrics,
    Workspaces,
)
from hf_ess.spectra.parallel import Task, run_tasks
from hf_ess.spectra.position_tree import half_length


@dataclass(frozen=True)
class CertifiedMetrics:
    """ESS at P positions of n operators.

    Args:
        entropy: `[n, P]` float64.
        half_width: `[n, P]`, the true entropy-ESS is within this fraction of it; 0 where the
            block was decomposed.
        counts: for each tolerance, in the order asked for, `[n, P]` int64.
        undecided: for each tolerance `[n, P]` int64, by how much a count may be too low.
        below_floor: for each tolerance `[n, P]` bool, whether rounding hides it.
        positions: the P positions.
    """

    entropy: Tensor
    half_width: Tensor
    counts: dict[float, Tensor]
    undecided: dict[float, Tensor]
    below_floor: dict[float, Tensor]
    positions: tuple[int, ...]

    def ordered(self, tolerances: Sequence[float]) -> CertifiedMetrics:
        """The same with the tolerances in another order."""

        def in_order(values: dict[float, Tensor]) -> dict[float, Tensor]:
            return {tolerance: values[tolerance] for tolerance in tolerances}

        return replace(
            self,
            counts=in_order(self.counts),
            undecided=in_order(self.undecided),
            below_floor=in_order(self.below_floor),
        )


def certified_metrics(
    matrices: Tensor,
    positions: Sequence[int],
    tolerances: Sequence[float],
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    workspaces: Workspaces | None = None,
) -> CertifiedMetrics:
    """Entropy-ESS and tolerance-ESS of the blocks `M[i:, :i]` by divide and conquer.

    Args:
        matrices: `[n, L, L]` float64; only entries below the diagonal are read. Not changed.
        positions: ascending, within 1..L-1. The cost is that of all positions.
        tolerances: absolute.
        memory_budget: bytes that the matrices and the work on them may take together.
        workspaces: buffers of earlier calls, to be used again.

    Raises:
        NonFiniteError: NaN or infinite entries, or singular values that overflow float64.

    Example:
        >>> import torch
        >>> from hf_ess.spectra import certified_metrics
        >>> average = torch.ones(200, 200, dtype=torch.float64).tril()
        >>> average /= torch.arange(1, 201)[:, None]
        >>> metrics = certified_metrics(average[None], range(1, 200), [1e-3])
        >>> metrics.counts[1e-3].unique(), metrics.entropy.round().unique()
        (tensor([1]), tensor([1.], dtype=torch.float64))
    """
    with torch.inference_mode(False), torch.no_grad():
        matrices = matrices.detach()
        refuse_non_finite(matrices)
        solver = _Solver(matrices, sorted(tolerances, reverse=True), memory_budget, workspaces)
        run_tasks(list(solver.tasks()), solver.workers)
        return solver.metrics(tuple(positions)).ordered(tolerances)


def counts_above(
    matrices: Tensor,
    tolerances: Sequence[float],
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Tensor:
    """Singular values above each tolerance at all positions, uncertified, `[n, T, L - 1]` int64.

    One shift per tolerance, however small: exact wherever no singular value lies within rounding
    of the tolerance.

    Example:
        >>> import torch
        >>> from hf_ess.spectra.certified import counts_above
        >>> shift = torch.eye(40, dtype=torch.float64).roll(1, 0).tril()
        >>> counts_above(shift[None], [0.5]).unique()
        tensor([1])
    """
    with torch.inference_mode(False), torch.no_grad():
        matrices = matrices.detach()
        refuse_non_finite(matrices)
        solver = _Solver(matrices, tolerances, memory_budget)
        counts = torch.zeros(
            len(matrices),
            len(tolerances),
            matrices.shape[-1] - 1,
            dtype=torch.int64,
            device=matrices.device,
        )
        run_tasks(list(solver.counting_tasks(counts)), solver.workers)
        return counts


class _Solver:
    """Divide and conquer on some operators, and the room for its results."""

    def __init__(
        self,
        matrices: Tensor,
        tolerances: Sequence[float],
        memory_budget: int,
        workspaces: Workspaces | None = None,
    ) -> None:
        self.workspaces = workspaces or Workspaces()
        self.matrices = matrices
        self.tolerances = tuple(tolerances)
        self.memory_budget = memory_budget
        count, length = len(matrices), matrices.shape[-1]
        places = count, length - 1
        self.entropy = matrices.new_zeros(places)
        self.half_width = matrices.new_zeros(places)
        self.low = torch.zeros(
            count, len(self.tolerances), length - 1, dtype=torch.int64, device=matrices.device
        )
        self.high = torch.zeros_like(self.low)
        self.countable = torch.zeros(self.low.shape, dtype=torch.bool, device=matrices.device)
        self._share_memory(count)

    def _share_memory(self, count: int) -> None:
        """Few enough workers that their trees and the nodes of one shift each fit the budget."""
        matrices, width = self.matrices, half_length(self.matrices.shape[-1])
        spare = self.memory_budget - matrices.numel() * FLOAT64_BYTES
        least = (NODE_SQUARES + 6) * width**2 * FLOAT64_BYTES
        on_cpu = matrices.device.type == "cpu"
        self.workers = max(1, min(torch.get_num_threads() if on_cpu else 1, spare // least))
        share = max(least, spare // self.workers)
        # As few tasks as threads can share: they wait for each other between short operations.
        fair = -(-count // self.workers) if on_cpu else count
        self.together = max(1, min(fair, share // (4 * least)))
        nodes = CACHED_BYTES if on_cpu else share // 2
        self.most_bytes = min(nodes, share)

    def tasks(self) -> Iterator[Task]:
        """Both halves of the positions of every operator."""
        for chosen, flipped in self._halves():
            yield partial(self._solve, chosen, flipped)

    def counting_tasks(self, counts: Tensor) -> Iterator[Task]:
        """The same for counts alone, which are written to `[n, T, L - 1]`."""
        for chosen, flipped in self._halves():
            yield partial(self._count, counts, chosen, flipped)

    def _halves(self) -> Iterator[tuple[slice, bool]]:
        for flipped in (False, True):
            for start in range(0, len(self.matrices), self.together):
                yield slice(start, start + self.together), flipped

    def _half(self, chosen: slice, flipped: bool) -> Half:
        return Half(
            self.matrices[chosen],
            flipped=flipped,
            workspaces=self.workspaces,
            most_bytes=self.most_bytes,
        )

    def _solve(self, chosen: slice, flipped: bool, stop: threading.Event) -> None:
        with torch.inference_mode(False), torch.no_grad():
            if not stop.is_set():
                self._store(chosen, flipped, self._half(chosen, flipped).metrics(self.tolerances))

    def _count(self, counts: Tensor, chosen: slice, flipped: bool, stop: threading.Event) -> None:
        with torch.inference_mode(False), torch.no_grad():
            if not stop.is_set():
                half = self._half(chosen, flipped)
                self._put(counts, chosen, flipped, half.counts(half.shifts(self.tolerances)))

    def _store(self, chosen: slice, flipped: bool, half: HalfMetrics) -> None:
        for room, values in (
            (self.entropy, half.entropy),
            (self.half_width, half.half_width),
            (self.low, half.low),
            (self.high, half.high),
            (self.countable, half.countable[..., None].expand_as(half.low)),
        ):
            self._put(room, chosen, flipped, values)

    def _put(self, room: Tensor, chosen: slice, flipped: bool, values: Tensor) -> None:
        middle = self.matrices.shape[-1] // 2
        if flipped:
            late = room.shape[-1] - middle
            room[chosen, ..., middle:] = values[..., :late].flip(-1)
        else:
            room[chosen, ..., :middle] = values[..., :middle]

    def metrics(self, positions: tuple[int, ...]) -> CertifiedMetrics:
        """The results at some positions, blocks decomposed where the certificate is too wide."""
        at = torch.tensor(positions, device=self.matrices.device) - 1
        metrics = CertifiedMetrics(
            self.entropy[:, at],
            self.half_width[:, at],
            {tau: self.low[:, n, at] for n, tau in enumerate(self.tolerances)},
            {tau: (self.high - self.low)[:, n, at] for n, tau in enumerate(self.tolerances)},
            {tau: ~self.countable[:, n, at] for n, tau in enumerate(self.tolerances)},
            positions,
        )
        wide = metrics.half_width > ENTROPY_HALF_WIDTH
        for number in wide.any(-1).nonzero()[:, 0].tolist():
            self._decompose(metrics, slice(number, number + 1), wide[number])
        return metrics

    def _decompose(self, metrics: CertifiedMetrics, chosen: slice, wanted: Tensor) -> None:
        """Puts what follows from singular values where wanted `[P]`."""
        places = wanted.nonzero()[:, 0].tolist()
        if not places:
            return
        positions = tuple(metrics.positions[place] for place in places)
        request = Request(positions, tolerance_floor=min(self.tolerances, default=None))
        spectra = dense_block_singular_values(
            self.matrices[chosen], request, memory_budget=self.memory_budget
        )
        metrics.entropy[chosen, places] = entropy_ess(spectra.values)
        metrics.half_width[chosen, places] = 0.0
        for tau in self.tolerances:
            metrics.counts[tau][chosen, places] = tolerance_ess(spectra.values, tau).long()
            metrics.undecided[tau][chosen, places] = spectra.undecided(tau)
            metrics.below_floor[tau][chosen, places] = tau <= spectra.error_bound
