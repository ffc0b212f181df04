"""The result of a probe: figures by mixer, state size and seed; verdicts, tables, a plot."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_ess.report import UnsupportedLayer
from hf_ess.report.names import ENTROPY, Metric, resolve_metric
from hf_ess.training.initialization.probed import ProbedMixer
from hf_ess.training.initialization.verdicts import (
    LEAST_ELASTICITY,
    STANDARD_ERRORS,
    Criterion,
    Verdict,
    judged,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(eq=False, kw_only=True)
class InitializationProbe:
    """Effective state-size against capacity, of every mixer of a model before its training.

    Attributes:
        mixers: one `ProbedMixer` for each mixer that was verified in every model, in order.
        rescaled: the same for each alpha but 1, of mixers whose decay rates were divided by it.
        refused: mixers that are in no figure, each with the reason.
        state_sizes: those that the models were built with.
        seeds: of weights and noise.
        length: tokens of an input.
        samples: inputs that ran together.
        positions: of the blocks.
        tolerances: of the tolerance-ESS, absolute.
    """

    mixers: list[ProbedMixer]
    rescaled: list[ProbedMixer] = field(default_factory=list)
    refused: list[UnsupportedLayer] = field(default_factory=list)
    state_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    length: int
    samples: int
    positions: tuple[int, ...]
    tolerances: tuple[float, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What `judge()` says by entropy-ESS and its usual thresholds; `print` each."""
        return self.judge()

    def judge(
        self,
        metric: Metric = ENTROPY,
        *,
        least: float = LEAST_ELASTICITY,
        standard_errors: float = STANDARD_ERRORS,
    ) -> tuple[Verdict, ...]:
        """For each mixer: does capacity turn into use?

        The measure is the elasticity `d log ESS / d log attainable` over the state sizes: 0 where
        the ESS stays what it is, 1 where it keeps in step with what can be attained. A mixer uses
        its capacity where the elasticity lies at least some standard errors (over seeds) above
        `least`, does not where it lies as far below, and is undecided between. At the usual 0.25,
        twice the attainable size makes the ESS 19 % larger.

        Args:
            metric: "entropy" or a tolerance. Entropy-ESS cannot see a state that is there but
                tiny; a tolerance-ESS can.
            least: the elasticity that separates use from none.
            standard_errors: how many of them count as certain.

        Raises:
            InvalidInputError: no such metric, or a threshold that is negative or not finite.

        Source: ours; the question is that of Parnichkun et al., ICML 2025, section 5.1.
        """
        key = resolve_metric(metric, self.tolerances)
        return judged(self.mixers, self.rescaled, Criterion(key, least, standard_errors))

    def to_pandas(self) -> pd.DataFrame:
        """A row for each mixer, alpha and state size: capacity, attainable size, ESS, errors."""
        import pandas as pd

        from hf_ess.training.initialization.tables import rows_of

        return pd.DataFrame(rows_of(self))

    def to_dict(self) -> dict[str, Any]:
        """Figures, verdicts and settings in the types of JSON; None stands for NaN."""
        from hf_ess.training.initialization.tables import dict_of

        return dict_of(self)

    def summary(self, metric: Metric = ENTROPY, width: int = 120) -> str:
        """A table of ESS by state size as plain text, and the verdicts in words.

        Raises:
            InvalidInputError: there is no such metric.
        """
        from hf_ess.training.initialization.tables import summary_of

        return summary_of(self, resolve_metric(metric, self.tolerances), width)

    def plot(self, path: str | os.PathLike[str] | None = None, metric: Metric = ENTROPY) -> Figure:
        """ESS against capacity on logarithmic axes, with standard errors over seeds.

        Raises:
            InvalidInputError: no such metric, or matplotlib cannot write that kind of file.
            OutputPathError: the path cannot be written.
        """
        from hf_ess.training.initialization.plot import plot_probed_mixers

        drawn = {mixer.label: mixer for mixer in [*self.mixers, *self.rescaled]}
        return plot_probed_mixers(drawn, path, resolve_metric(metric, self.tolerances))
