"""What every experiment of the paper has: runs to train, rows to measure, a verdict, a figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from hf_ess.lab.sweep_points import Axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hf_ess.lab.paper.work import Work


class Scale(str, Enum):
    """How large the experiments are.

    `minute` shows that everything runs, and its figures mean nothing; `small` takes at most about
    an hour on two cores for each experiment; `paper` has the paper's own sizes and wants GPUs.
    """

    minute = "minute"
    small = "small"
    paper = "paper"


class Verdict(str, Enum):
    """What our figures say of the paper's."""

    reproduced = "reproduced"
    partly = "partly reproduced"
    contradicted = "contradicted"
    undecidable = "not decidable at this scale"


@dataclass(frozen=True)
class Trainings:
    """A sweep that an experiment needs; experiments that name the same one share its runs.

    Attributes:
        name: of the folder of the sweep.
        base: fields of a `RunConfig`.
        axes: as for `hf_ess.lab.sweep`.
        labels: columns that the table gets besides, for what sets these runs apart from those of
            other sweeps.
    """

    name: str
    base: Mapping[str, Any]
    axes: Axes
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What the rows of an experiment say.

    Attributes:
        verdict: on the paper's result.
        words: why, with the figures that decide, in a sentence or two.
        tables: by their titles, as a reader wants to see them; cells are shown as they are.
    """

    verdict: Verdict
    words: str
    tables: Mapping[str, pd.DataFrame]


class Experiment(ABC):
    """One result of the paper.

    Attributes:
        name: for the command line.
        title: the result in a line.
        source: where the paper has it.
        claim: the paper's figures.
        setting: what is other here at the small scale, and why.
        on_models: whether it measures language models, which a user may name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    claim: ClassVar[str]
    setting: ClassVar[str]
    on_models: ClassVar[bool] = False

    def trainings(self, scale: Scale) -> Sequence[Trainings]:
        """The sweeps whose runs are needed."""
        return ()

    @abstractmethod
    def measure(self, work: Work) -> pd.DataFrame:
        """Trains and measures what is missing; tidy rows, all that verdict and figure need."""

    @abstractmethod
    def judge(self, rows: pd.DataFrame) -> Finding:
        """The verdict on rows, as they were written and read again, at any scale but `minute`."""

    @abstractmethod
    def draw(self, rows: pd.DataFrame) -> Figure:
        """The figure in the paper's form."""
