"""Rows of the experiment on loss terms: their columns, and which of them are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_ess.lab.paper.runs import RATE, complete, with_best_rates
from hf_ess.lab.paper.statistics import Floats

if TYPE_CHECKING:
    import pandas as pd

PART, TRAINED, UNTRAINED = "part", "trained", "untrained"
KIND, BETA, TERM, LENGTH = "featurizer", "beta", "term", "length"
ACCURACY, PER_PAIR, TOLERANCE = "accuracy", "ess_per_pair", "tolerance_ess_per_pair"
NORM = "log10_product"
NONE, PAPERS, OURS = "none", "transition", "ess"
WITHOUT, DECAYING = "LA", ("GLA", "WLA")
# The decay temperature of the paper.
PAPERS_BETA = 16.0


@dataclass(frozen=True)
class Rows:
    """What the rows hold.

    Attributes:
        trained: a row for each training; those that lack a value are left out.
        compared: of them those of the rates that every model was trained with; of each model and
            term those of the best rate.
        untrained: a row for each mixer, beta, length and seed.
        left_out: words on rows that lack a value.
    """

    trained: pd.DataFrame
    compared: pd.DataFrame
    untrained: pd.DataFrame
    left_out: str

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Rows:
        """Of the rows of a file."""
        trained, lost = complete(
            rows[rows[PART] == TRAINED],
            [ACCURACY, "test_loss", PER_PAIR, TOLERANCE],
            [KIND, TERM, RATE, "seed"],
        )
        untrained, unmeasured = complete(
            rows[rows[PART] == UNTRAINED], [PER_PAIR, NORM], [KIND, BETA, LENGTH, "seed"]
        )
        rates = [set(own[RATE]) for _, own in trained.groupby(KIND)]
        shared = trained[trained[RATE].isin(set.intersection(*rates) if rates else set())]
        compared = with_best_rates(shared, [KIND, TERM])
        return cls(trained, compared, untrained, lost + unmeasured)

    def of_term(self, kind: str, term: str, column: str = ACCURACY) -> Floats:
        """Values of a model and a term, one for each seed."""
        own = self.compared[(self.compared[KIND] == kind) & (self.compared[TERM] == term)]
        return own[column].to_numpy(float)

    def best_of_paper(self, kind: str) -> str:
        """The paper's term with the weight that serves a model best; "" if there is none."""
        own = self.compared[self.compared[KIND] == kind]
        means = own[own[TERM].str.startswith(PAPERS)].groupby(TERM)[ACCURACY].mean()
        return str(means.idxmax()) if len(means) else ""

    def at_length(self, kind: str, length: int, column: str) -> Floats:
        """Values of an untrained mixer with the paper's beta (LA has none), one for each seed."""
        own = self.untrained[(self.untrained[KIND] == kind) & (self.untrained[LENGTH] == length)]
        own = own[own[BETA].isna() | (own[BETA] == PAPERS_BETA)]
        return own[column].to_numpy(float)

    @property
    def lengths(self) -> list[int]:
        """Of the texts of untrained mixers, from short to long."""
        return sorted(int(length) for length in self.untrained[LENGTH].unique())

    @property
    def chance(self) -> float:
        """Of naming any of the values seen."""
        return 1 / float(self.trained["pairs"].mean())
