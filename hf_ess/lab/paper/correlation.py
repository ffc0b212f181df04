"""Correlation of accuracy with ESS and with the theoretical state size, over tasks and models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hf_ess.lab.paper.experiment import Experiment, Finding, Scale, Trainings, Verdict
from hf_ess.lab.paper.grid_rows import (
    ATTENTION,
    CERTAIN,
    COLOUR,
    ENTROPY,
    FEATURIZERS,
    KEYS,
    METRICS,
    RECURRENT,
    RUN,
    SETTING,
    TOLERANCES,
)
from hf_ess.lab.paper.other_pairs import rows_of_all_pairs
from hf_ess.lab.paper.recall_grid import SMALLER, recall_grid
from hf_ess.lab.paper.runs import by_run, complete, with_best_rates
from hf_ess.lab.paper.statistics import (
    Floats,
    bootstrap_interval,
    correlation,
    shown,
    with_interval,
)
from hf_ess.lab.paper.verdicts import beyond, verdict_on
from hf_ess.report.drawing import panel_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hf_ess.lab.paper.work import Work

TSS = "state_size"
PAIRS = "pairs"
# Fewer runs, or runs whose accuracies lie closer together, decide nothing about a correlation.
FEWEST, SPREAD = 6, 0.1
# How a total over channels is told from a mean, in words and tables.
ALL = "all recurrent"
SHOWN = {**{name: name for name in RECURRENT}, ATTENTION: "SA (total)", ALL: ALL}


class Correlation(Experiment):
    """Accuracy by ESS and by TSS, each divided by the number of pairs."""

    name = "correlation"
    title = "ESS over the number of pairs tells the accuracy, TSS over it does not"
    source = "section 4.1, figures 3 and 5"
    claim = (
        "Over all tasks and models the correlation of accuracy with ESS/kv is clearly higher than "
        "with TSS/kv, for GLA, LA, WLA and, in total, SA; without dividing by kv it breaks down."
    )
    setting = (
        "2, 4, 6 and 8 pairs (kv) in 32 tokens, where the paper has 8 to 128 in 64 to 2048; 32 "
        "channels, states (TSS) of 2 to 16; SA of 16 and 32 channels. GLA and WLA with beta = "
        "0.25, which forgets over 32 tokens what the paper's forgets over 2048, and with 16. Two "
        "learning rates, of which the better counts, one seed. ESS is "
        "the mean over channels, layers and four positions; that of SA is multiplied by the "
        f"number of channels, and its TSS at a position is the position. {SMALLER}"
    )

    def trainings(self, scale: Scale) -> tuple[Trainings, ...]:
        return recall_grid(scale)

    def measure(self, work: Work) -> pd.DataFrame:
        runs = by_run(rows_of_all_pairs(work))
        return runs[[*KEYS, "step", "accuracy", "test_loss", *METRICS, "verified"]]

    def judge(self, rows: pd.DataFrame) -> Finding:
        whole, left_out = complete(rows, CERTAIN, RUN)
        best = with_best_rates(whole, SETTING)
        ours = _by_kind(best)
        parts = {kind: of_it.leads() for kind, of_it in ours.items()}
        dividing = beyond(ours[ALL].lead_over_undivided, 0)
        verdict = verdict_on(parts.values())
        if verdict is Verdict.reproduced and not dividing:
            verdict = Verdict.partly
        words = (
            f"Correlation of accuracy with ESS/kv and with TSS/kv: {_compared(ours)}. The interval "
            f"of the difference lies above 0 for {_listed(parts, True)}; below 0 for "
            f"{_listed(parts, False)}; undecided, since it holds 0 or accuracies differ by less "
            f"than {SPREAD}, are {_listed(parts, None)}. ESS that is not divided by kv correlates "
            f"with {ours[ALL].undivided:.2f} over {ALL} models. Over the runs with every "
            f"learning rate the correlations are {_compared(_by_kind(whole))}.{left_out}"
        )
        return Finding(verdict, words, _tables(best, ours, _by_kind(whole)))

    def draw(self, rows: pd.DataFrame) -> Figure:
        whole, _ = complete(rows, CERTAIN, RUN)
        best = with_best_rates(whole, SETTING)
        figure, grid = panel_grid(
            "Accuracy after training by ESS and by TSS, each over the number of pairs (kv)",
            (8, 6.4),
            (2, 2),
        )
        for row, kinds in zip(grid, (RECURRENT, (ATTENTION,)), strict=True):
            for axes, size in zip(row, (ENTROPY, TSS), strict=True):
                _scatter(axes, best, kinds, size)
        return figure


class _Sizes:
    """Correlations of accuracy with sizes of state, over some runs."""

    def __init__(self, runs: pd.DataFrame) -> None:
        self.accuracy = runs["accuracy"].to_numpy(float)
        self.pairs = runs[PAIRS].to_numpy(float)
        # A model on several numbers of pairs is one model.
        self.models = runs.groupby([name for name in SETTING if name != PAIRS]).ngroup().to_numpy()
        self.sizes = {name: _size(runs, name) for name in (*METRICS, TSS)}

    @property
    def by_ess(self) -> float:
        return self.divided(ENTROPY)

    @property
    def by_tss(self) -> float:
        return self.divided(TSS)

    @property
    def undivided(self) -> float:
        return correlation(self.accuracy, self.sizes[ENTROPY])

    def divided(self, name: str) -> float:
        """With a size over the number of pairs."""
        return correlation(self.accuracy, self.sizes[name] / self.pairs)

    def interval(self, name: str) -> tuple[float, float]:
        """Of `divided`."""
        return self._interval(correlation, self.sizes[name] / self.pairs)

    def leads(self) -> bool | None:
        """Whether ESS/kv correlates more than TSS/kv; None if the rows do not decide."""
        enough = len(self.accuracy) >= FEWEST and np.ptp(self.accuracy) >= SPREAD
        return beyond(self.lead_over_tss, 0) if enough else None

    @cached_property
    def lead_over_tss(self) -> tuple[float, float]:
        """An interval of how much more ESS/kv correlates than TSS/kv."""
        return self._lead_over(self.sizes[TSS] / self.pairs)

    @cached_property
    def lead_over_undivided(self) -> tuple[float, float]:
        """An interval of how much more ESS/kv correlates than ESS."""
        return self._lead_over(self.sizes[ENTROPY])

    def _lead_over(self, other: Floats) -> tuple[float, float]:
        return self._interval(_lead, self.sizes[ENTROPY] / self.pairs, other)

    def _interval(self, statistic: Callable[..., float], *sizes: Floats) -> tuple[float, float]:
        return bootstrap_interval(statistic, self.accuracy, *sizes, together=self.models)


def _lead(accuracy: Floats, first: Floats, second: Floats) -> float:
    # Rounded, since sizes that are proportional have no lead but that of rounding.
    return round(correlation(accuracy, first) - correlation(accuracy, second), 9)


def _size(runs: pd.DataFrame, name: str) -> Floats:
    """Per channel of recurrent models, in total over the channels of attention, as in the paper."""
    channels = np.where(runs["featurizer"] == ATTENTION, runs["width"], 1)
    found: Floats = runs[name].to_numpy(float) * channels
    return found


def _of(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    kinds = RECURRENT if kind == ALL else (kind,)
    return runs[runs["featurizer"].isin(kinds)]


def _by_kind(runs: pd.DataFrame) -> dict[str, _Sizes]:
    return {kind: _Sizes(_of(runs, kind)) for kind in (*FEATURIZERS, ALL)}


def _compared(sizes: dict[str, _Sizes]) -> str:
    return ", ".join(
        f"{SHOWN[kind]} {of_it.by_ess:.2f} and {of_it.by_tss:.2f}" for kind, of_it in sizes.items()
    )


def _listed(parts: dict[str, bool | None], wanted: bool | None) -> str:
    return ", ".join(SHOWN[kind] for kind, part in parts.items() if part is wanted) or "none"


def _tables(
    best: pd.DataFrame, ours: dict[str, _Sizes], every: dict[str, _Sizes]
) -> dict[str, pd.DataFrame]:
    import pandas as pd

    models = {str(model): _Sizes(of_it) for model, of_it in best.groupby("model", sort=False)}
    return {
        "Correlation with accuracy, best learning rate of each setting": pd.DataFrame(
            _with_intervals(SHOWN[kind], of_it) for kind, of_it in ours.items()
        ),
        "The same by tolerance and without dividing": pd.DataFrame(
            _plain(SHOWN[kind], of_it) for kind, of_it in ours.items()
        ),
        "Over the runs with every learning rate": pd.DataFrame(
            _plain(SHOWN[kind], of_it) for kind, of_it in every.items()
        ),
        "By model, best learning rate of each setting": pd.DataFrame(
            _plain(name, of_it) for name, of_it in models.items()
        ),
    }


def _with_intervals(name: str, sizes: _Sizes) -> dict[str, object]:
    accuracies = sizes.accuracy
    return {
        "models": name,
        "runs": len(accuracies),
        "accuracy": f"{accuracies.min():.2f} to {accuracies.max():.2f}" if len(accuracies) else "",
        "ESS/kv [95 %]": with_interval(sizes.by_ess, sizes.interval(ENTROPY)),
        "TSS/kv [95 %]": with_interval(sizes.by_tss, sizes.interval(TSS)),
        "difference [95 %]": with_interval(sizes.by_ess - sizes.by_tss, sizes.lead_over_tss),
        "lead over ESS, not divided [95 %]": with_interval(
            sizes.by_ess - sizes.undivided, sizes.lead_over_undivided
        ),
    }


def _plain(name: str, sizes: _Sizes) -> dict[str, object]:
    tolerances = {
        f"tolerance-ESS/kv ({tau})": shown(sizes.divided(column))
        for tau, column in TOLERANCES.items()
    }
    return {
        "models": name,
        "runs": len(sizes.accuracy),
        "entropy-ESS/kv": shown(sizes.by_ess),
        **tolerances,
        "TSS/kv": shown(sizes.by_tss),
        "entropy-ESS": shown(sizes.undivided),
    }


def _scatter(axes: Axes, best: pd.DataFrame, kinds: tuple[str, ...], size: str) -> None:
    for kind in kinds:
        runs = _of(best, kind)
        at = _size(runs, size) / runs[PAIRS]
        label = f"{kind}, correlation {_Sizes(runs).divided(size):.2f}"
        axes.scatter(at, runs["accuracy"], color=COLOUR[kind], label=label, alpha=0.75, s=24)
    what = "entropy-ESS" if size == ENTROPY else "TSS"
    over = "total over channels" if ATTENTION in kinds else "mean over channels"
    axes.set(xlabel=f"{what} / kv ({over})")
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.06))
    axes.legend(fontsize=8, loc="center right")
