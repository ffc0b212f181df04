"""Hybrids: which of four mixers are attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_ess.lab.paper.experiment import Experiment, Finding, Scale, Trainings, Verdict
from hf_ess.lab.paper.recall_grid import FORGETFUL, recall_base
from hf_ess.lab.paper.runs import after_last_step, by_run, with_best_rates
from hf_ess.lab.paper.statistics import bootstrap_interval, rank_correlation, with_interval
from hf_ess.report.drawing import COLOURS, empty_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hf_ess.lab.paper.work import Work

ATTENTION, RECURRENT = "SA", "GLA"
PLACES: dict[Scale, tuple[tuple[int, ...], ...]] = {
    Scale.minute: ((0,), (3,)),
    Scale.small: ((), (0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3)),
    Scale.paper: ((), (0,), (1,), (2,), (3,), (0, 1), (0, 3), (1, 2), (2, 3)),
}
# Pairs and tokens.
TASKS = {Scale.minute: (2, 16), Scale.small: (8, 32), Scale.paper: (512, 2048)}
MIXERS, LARGEST, MEAN = "model.mixers", "largest_attention_ess", "mean_ess"
OF_ATTENTION = "softmax attention"
# Rank correlations at least so large are called tracking; the paper says "tracks best".
TRACKS = 0.5


def hybrid(places: Sequence[int]) -> list[str]:
    """Four mixers, attention at some places.

    Example:
        >>> hybrid([1])
        ['GLA', 'SA', 'GLA', 'GLA']
    """
    return [ATTENTION if layer in places else RECURRENT for layer in range(4)]


class Hybrids(Experiment):
    """Accuracy and ESS by the places of attention."""

    name = "hybrids"
    title = "Where the attention of a hybrid stands matters, and its largest ESS tells"
    source = "appendix E.4.2"
    claim = (
        "4 mixers, 2048 tokens, 512 pairs: accuracy with attention in {0} 0.0, {1} .98, {2} 1.0, "
        "{3} 1.0, {1, 2} .37; the maximum ESS among the attention layers tracks accuracy best."
    )
    setting = (
        "32 tokens and 8 pairs, 32 channels; GLA with beta = 0.25, which forgets over 32 tokens "
        "what the paper's forgets over 2048; two seeds, two learning rates, the better counts."
    )

    def trainings(self, scale: Scale) -> tuple[Trainings, ...]:
        pairs, length = TASKS[scale]
        base = recall_base(scale, pairs, length)
        own: dict[str, Any] = {"num_attention_heads": 4, **FORGETFUL[scale]}
        few = scale is Scale.minute
        axes: dict[str, list[Any]] = {
            MIXERS: [hybrid(places) for places in PLACES[scale]],
            "learning_rate": [5e-3] if few else [2e-3, 5e-3],
            "seed": [0] if few else [0, 1],
        }
        model = {**base.get("model", {}), **own}
        return (Trainings("hybrids", {**base, "model": model}, axes),)

    def measure(self, work: Work) -> pd.DataFrame:
        (trainings,) = self.trainings(work.scale)
        last = after_last_step(work.table(trainings))
        attention = last[last["mixer"] == OF_ATTENTION].groupby("run")["entropy_ess"].max()
        runs = by_run(last)
        runs[LARGEST] = runs["run"].map(attention)
        kept = ["seed", "learning_rate", MIXERS, "step", "accuracy", "test_loss", LARGEST]
        return runs.rename(columns={"entropy_ess": MEAN})[[*kept, MEAN]]

    def judge(self, rows: pd.DataFrame) -> Finding:
        best = with_best_rates(rows, [MIXERS])
        means = best.groupby(MIXERS, sort=False)[["accuracy", LARGEST, MEAN]].mean()
        mixed = best.dropna(subset=[LARGEST])
        correlations = {name: _tracking(mixed, name) for name in (LARGEST, MEAN)}
        tables = {"Hybrids": _shown(best), "Rank correlation with accuracy": _shown_ranks(mixed)}
        hybrids = means.dropna()["accuracy"]
        spread = hybrids.max() - hybrids.min()
        words = (
            f"Accuracy goes from {hybrids.min():.2f} ({hybrids.idxmin()}) to {hybrids.max():.2f} "
            f"({hybrids.idxmax()}); its rank correlation with the largest ESS of attention is "
            f"{correlations[LARGEST]:.2f}, with the mean ESS of all mixers "
            f"{correlations[MEAN]:.2f}."
        )
        return Finding(_verdict(spread, correlations), words, tables)

    def draw(self, rows: pd.DataFrame) -> Figure:
        best = with_best_rates(rows, [MIXERS])
        figure, (axes,) = empty_figure(
            "Hybrids: accuracy by the largest ESS of attention", (7, 4), 1
        )
        for number, (mixers, runs) in enumerate(best.groupby(MIXERS, sort=False)):
            colour = COLOURS[number % len(COLOURS)]
            where = runs[LARGEST].fillna(0)
            axes.scatter(where, runs["accuracy"], color=colour, label=str(mixers))
        axes.set(xlabel="largest entropy-ESS among the attention layers (0: none)")
        axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))
        axes.legend(fontsize=8)
        return figure


def _tracking(runs: pd.DataFrame, name: str) -> float:
    return rank_correlation(runs["accuracy"], runs[name])


def _shown(best: pd.DataFrame) -> pd.DataFrame:
    """A row for each hybrid, means over seeds."""
    means = best.groupby([MIXERS, "learning_rate"], sort=False)[["accuracy", LARGEST, MEAN]].mean()
    return means.round(2).reset_index().rename(columns={MIXERS: "mixers"})


def _shown_ranks(runs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "of": label,
            "rank correlation [95 %]": with_interval(
                _tracking(runs, name),
                bootstrap_interval(rank_correlation, runs["accuracy"], runs[name]),
            ),
        }
        for name, label in ((LARGEST, "largest ESS of attention"), (MEAN, "mean ESS of all"))
    )


def _verdict(spread: float, correlations: dict[str, float]) -> Verdict:
    matters = spread > TRACKS / 2
    tells = correlations[LARGEST] >= TRACKS and correlations[LARGEST] >= correlations[MEAN]
    if matters and tells:
        return Verdict.reproduced
    return Verdict.partly if matters or tells else Verdict.contradicted
