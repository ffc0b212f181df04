"""Hybrids: which of four mixers are attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_ess.lab.paper.experiment import Experiment, Finding, Scale, Trainings
from hf_ess.lab.paper.recall_grid import FORGETFUL, SMALLER, recall_base
from hf_ess.lab.paper.runs import RATE, after_last_step, by_run, complete, with_best_rates
from hf_ess.lab.paper.statistics import (
    Floats,
    bootstrap_interval,
    rank_correlation,
    with_interval,
)
from hf_ess.lab.paper.verdicts import beyond, undecided_in_words, verdict_on
from hf_ess.report.drawing import COLOURS, MARKS, panel_grid
from hf_ess.report.text import counted

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
# Hybrids whose accuracies lie closer together are equally good.
SPREAD = 0.25
FEWEST_HYBRIDS = 4


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
        "what the paper's forgets over 2048; two seeds, two learning rates, of which the better "
        f"counts. {SMALLER}"
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
        best, left_out = _best(rows)
        means = _means(best)
        parts = _parts(means)
        words = (
            f"{_accuracies(means)} Over {counted(len(means), 'hybrid')} the rank correlation of "
            f"accuracy with the largest ESS of attention is {_tracking(means, LARGEST):.2f}, with "
            f"the mean ESS of all mixers {_tracking(means, MEAN):.2f}."
            f"{undecided_in_words(parts)}{left_out}"
        )
        tables = {"Hybrids": _shown(best), "Rank correlation with accuracy": _shown_ranks(means)}
        return Finding(verdict_on(parts.values()), words, tables)

    def draw(self, rows: pd.DataFrame) -> Figure:
        best, _ = _best(rows)
        figure, [[bars, points]] = panel_grid(
            "Hybrids of four mixers: accuracy, and the largest ESS of their attention",
            (10, 4),
            (1, 2),
        )
        styles: dict[str, dict[str, Any]] = {
            str(mixers): {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[number // 3]}
            for number, mixers in enumerate(best[MIXERS].unique())
        }
        for place, (mixers, style) in enumerate(styles.items()):
            accuracies = best.loc[best[MIXERS] == mixers, "accuracy"]
            bars.barh(place, accuracies.mean(), color=style["color"], alpha=0.4)
            bars.plot(accuracies, [place] * len(accuracies), linestyle="", **style)
        bars.set_yticks(range(len(styles)), list(styles))
        bars.invert_yaxis()
        bars.set(xlabel="accuracy, better learning rate (dots: seeds)", xlim=(0, 1.03))
        for mixers, style in styles.items():
            runs = rows[rows[MIXERS] == mixers]
            points.scatter(runs[LARGEST].fillna(0), runs["accuracy"], alpha=0.7, **style)
        points.set(xlabel="largest entropy-ESS of attention, all runs (0: none)")
        points.set(ylabel="accuracy", ylim=(-0.03, 1.03))
        return figure


def _best(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Runs of the better learning rates, and words on runs that had to be left out."""
    whole, left_out = complete(rows, ["accuracy", MEAN], [MIXERS, RATE, "seed"])
    return with_best_rates(whole, [MIXERS]), left_out


def _means(best: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of hybrids that have attention, a row for each."""
    return best.groupby(MIXERS, sort=False)[["accuracy", LARGEST, MEAN]].mean().dropna()


def _parts(means: pd.DataFrame) -> dict[str, bool | None]:
    """What the paper says, by whether it holds."""
    accuracy, largest, mean = (means[name] for name in ("accuracy", LARGEST, MEAN))
    enough = len(means) >= FEWEST_HYBRIDS
    lead = bootstrap_interval(_lead, accuracy, largest, mean)
    return {
        "the place of attention matters": _spread(means) > SPREAD if enough else None,
        "the largest ESS of attention tracks accuracy": beyond(_interval(means, LARGEST), 0),
        "it does so better than the mean ESS of all mixers": beyond(lead, 0),
    }


def _spread(means: pd.DataFrame) -> float:
    return float(means["accuracy"].max() - means["accuracy"].min())


def _lead(accuracy: Floats, first: Floats, second: Floats) -> float:
    return rank_correlation(accuracy, first) - rank_correlation(accuracy, second)


def _tracking(means: pd.DataFrame, name: str) -> float:
    return rank_correlation(means["accuracy"], means[name])


def _interval(means: pd.DataFrame, name: str) -> tuple[float, float]:
    """Hybrids are resampled, not seeds of one, which are alike."""
    return bootstrap_interval(rank_correlation, means["accuracy"], means[name])


def _accuracies(means: pd.DataFrame) -> str:
    if means.empty:
        return "No hybrid was measured."
    accuracy = means["accuracy"]
    return (
        f"Accuracy goes from {accuracy.min():.2f} ({accuracy.idxmin()}) to {accuracy.max():.2f} "
        f"({accuracy.idxmax()})."
    )


def _shown(best: pd.DataFrame) -> pd.DataFrame:
    """A row for each hybrid, means over seeds."""
    means = best.groupby([MIXERS, RATE], sort=False)[["accuracy", LARGEST, MEAN]].mean()
    words = {
        MIXERS: "mixers",
        RATE: "learning rate",
        LARGEST: "largest ESS of attention",
        MEAN: "mean ESS of all",
    }
    return means.round(2).reset_index().rename(columns=words)


def _shown_ranks(means: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "of": label,
            "rank correlation [95 %]": with_interval(
                _tracking(means, name), _interval(means, name)
            ),
        }
        for name, label in ((LARGEST, "largest ESS of attention"), (MEAN, "mean ESS of all"))
    )
