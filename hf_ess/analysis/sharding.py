"""Which part of the work this process does: batches, layers, or the groups of a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence

from hf_ess.operators import LinearOperator
from hf_ess.operators.groups import some_groups
from hf_ess.spectra.dispatch import operator_block_singular_values
from model_adapters import LayerOperator


class Share(ABC):
    """What one of several processes measures; all of them decide alike without asking each other.

    Attributes:
        batches: numbers of the batches that this process runs, ascending.
    """

    batches: list[int]

    @abstractmethod
    def groups_of(self, layer: LayerOperator) -> slice | None:
        """The groups of a layer that this process measures, None if it measures none.

        Every process asks for every layer of its batches, in the order in which they run.
        """


class WholeBatches(Share):
    """Some batches, with all of their layers: the largest first, each to who has least to do."""

    def __init__(self, rank: int, processes: int, costs: Sequence[float]) -> None:
        load, mine = [0.0] * processes, []
        for batch in sorted(range(len(costs)), key=lambda number: (-costs[number], number)):
            least = load.index(min(load))
            load[least] += costs[batch]
            if least == rank:
                mine.append(batch)
        self.batches = sorted(mine)

    def groups_of(self, layer: LayerOperator) -> slice | None:
        return slice(0, layer.operator.groups)


class SomeLayers(Share):
    """All batches, and of their layers some of every kind."""

    def __init__(self, rank: int, processes: int, batches: int) -> None:
        self.batches = list(range(batches))
        self.rank = rank
        self.processes = processes
        self._taken: Counter[tuple[int, Hashable]] = Counter()

    def groups_of(self, layer: LayerOperator) -> slice | None:
        return slice(0, layer.operator.groups) if self._owner(layer) == self.rank else None

    def _owner(self, layer: LayerOperator) -> int:
        # Layers of one kind cost the same, and kinds often alternate.
        kind = layer.mixer, layer.operator.length
        owner = min(
            range(self.processes),
            key=lambda rank: (self._taken[rank, kind], self._taken[rank, None], rank),
        )
        self._taken[owner, kind] += 1
        self._taken[owner, None] += 1
        return owner


class SomeGroups(SomeLayers):
    """All batches and layers, and some groups of each; whole layers where groups hang together."""

    def groups_of(self, layer: LayerOperator) -> slice | None:
        groups = layer.operator.groups
        if groups < 2 or not _separable(layer.operator):
            return super().groups_of(layer)
        start, stop = (groups * (self.rank + step) // self.processes for step in (0, 1))
        return slice(start, stop) if start < stop else None


def share_of(rank: int, processes: int, costs: Sequence[float], layers: int) -> Share:
    """The share of one process: batches if there are enough, else layers, else groups.

    Args:
        rank: number of this process.
        processes: how many there are.
        costs: of each batch, in any unit.
        layers: how many layers are measured in each batch.

    Example:
        >>> from hf_ess.analysis.sharding import share_of
        >>> share_of(1, 2, costs=[9.0, 4.0, 4.0], layers=30).batches
        [1, 2]
        >>> type(share_of(1, 4, costs=[9.0], layers=30)).__name__
        'SomeLayers'
    """
    if len(costs) >= processes:
        return WholeBatches(rank, processes, costs)
    if len(costs) * layers >= processes:
        return SomeLayers(rank, processes, len(costs))
    return SomeGroups(rank, processes, len(costs))


def _separable(operator: LinearOperator) -> bool:
    """Whether groups on their own are measured as they are among all."""
    part = some_groups(operator, 0, 1)
    route = operator_block_singular_values.dispatch
    return part is not None and route(type(part)) is route(type(operator))
