"""State saturation and state collapse: accuracy and utilization by TSS and number of pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hf_ess.lab.paper.experiment import Experiment, Finding, Scale, Trainings
from hf_ess.lab.paper.grid_rows import (
    CERTAIN,
    KEYS,
    METRICS,
    RECURRENT,
    RUN,
    SETTING,
    forgetful,
    model_styles,
)
from hf_ess.lab.paper.other_pairs import rows_of_all_pairs
from hf_ess.lab.paper.recall_grid import SMALLER, recall_grid
from hf_ess.lab.paper.runs import complete, with_best_rates
from hf_ess.lab.paper.verdicts import verdict_on
from hf_ess.report.drawing import GREY, panel_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hf_ess.lab.paper.work import Work

TSS, PAIRS, LAYER = "state_size", "pairs", "index"
LAST_MIXER = "last_mixer"
# As the paper's Figure 7; the entropy-ESS, which cannot see collapse, and 0.1 stand beside it.
DECIDING = "tolerance_ess_0.001"
SHOWN = {
    "entropy_ess": "entropy",
    "tolerance_ess_0.1": "tolerance 1e-1",
    DECIDING: "tolerance 1e-3",
}
# The paper's 0.7 and above of saturated states.
SATURATED = 0.7
# Halfway between the paper's 0.2 (GLA) and 0.7 (LA).
LOW_UTILIZATION = 0.45
# Halfway between the paper's 0.0 (GLA, WLA) and 1.0 (LA).
LOW_ACCURACY = 0.5


class Collapse(Experiment):
    """Accuracy and utilization of LA, GLA and WLA by TSS and number of pairs."""

    name = "collapse"
    title = "Small states are saturated; large ones of GLA and WLA collapse, those of LA do not"
    source = "figure 7"
    claim = (
        "TSS 128, kv 8, 16, 32, 64, 128: accuracy GLA 1.0, 1.0, 0.8, 0.3, 0.0, WLA 1.0, 1.0, 0.6, "
        "0.3, 0.0, LA 1.0 throughout; utilization (tolerance 1e-3) at kv 128 GLA 0.2, WLA 0.1, LA "
        "0.7 (collapse). TSS 8: utilization 0.7 to 0.8 and above (saturation)."
    )
    setting = (
        "TSS 2 to 16 and kv 2 to 8 in 32 tokens. The collapse is looked for with beta = 0.25, "
        "which forgets over 32 tokens what the paper's 16 forgets over 2048. Utilization is ESS "
        "over what is attainable, min(TSS, tokens before, tokens after), since in short texts no "
        "state of 16 can be full. Two learning rates, of which the better counts, one seed. "
        f"{SMALLER}"
    )

    def trainings(self, scale: Scale) -> tuple[Trainings, ...]:
        return recall_grid(scale)

    def measure(self, work: Work) -> pd.DataFrame:
        layers = rows_of_all_pairs(work)
        layers = layers[layers["featurizer"].isin(RECURRENT)]
        kept = ["step", "accuracy", "test_loss", LAYER, "attainable", *METRICS, "verified"]
        return layers[[*KEYS, *kept]]

    def judge(self, rows: pd.DataFrame) -> Finding:
        best, left_out = _best(rows)
        compared = forgetful(best)
        hard = compared[compared[PAIRS] == compared[PAIRS].max()]
        small = hard[hard[TSS] == hard[TSS].min()]
        large = hard[hard[TSS] == hard[TSS].max()]
        saturation = {kind: _part(small, kind, _is_saturated) for kind in RECURRENT}
        collapse = {kind: _part(large, kind, _is_collapsed) for kind in RECURRENT}
        # LA is to keep what the others lose.
        collapse["LA"] = _part(large, "LA", _is_kept)
        verdicts = {
            "saturation": verdict_on(saturation.values()),
            "collapse": verdict_on(collapse.values()),
        }
        words = (
            f"Saturation is {verdicts['saturation'].value}: with {_where(small)} utilization "
            f"(tolerance 1e-3) is {_figures(small, accuracy=False)}; {SATURATED} and above is "
            f"saturated. Collapse is {verdicts['collapse'].value}: with {_where(large)} accuracy "
            f"and utilization are {_figures(large, accuracy=True)}; below {LOW_ACCURACY} and below "
            f"{LOW_UTILIZATION}, both, is collapsed, and LA is to have both above.{left_out}"
        )
        verdict = verdict_on([*saturation.values(), *collapse.values()])
        return Finding(verdict, words, _tables(best))

    def draw(self, rows: pd.DataFrame) -> Figure:
        best, _ = _best(rows)
        sizes = sorted(best[TSS].unique())
        figure, grid = panel_grid(
            "Accuracy after training and utilization of the state (tolerance 1e-3, mean of layers)",
            (2.6 * len(sizes) + 0.4, 6),
            (2, len(sizes)),
        )
        for column, size in enumerate(sizes):
            of_size = best[best[TSS] == size]
            for row, name in enumerate(("accuracy", DECIDING)):
                _curves(grid[row][column], of_size, name)
            grid[0][column].set_title(f"TSS {size:g}", fontsize=10)
            grid[1][column].set_xlabel("number of pairs (kv)")
        grid[0][0].set_ylabel("accuracy")
        grid[1][0].set_ylabel("ESS / attainable")
        handles, labels = grid[1][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
        return figure


def _best(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """A row for each setting at its best learning rate, means over layers and seeds.

    ESS comes as a part of what is attainable. And what had to be left out, in words.
    """
    whole, left_out = complete(rows, CERTAIN, RUN)
    shares = whole.assign(**{name: whole[name] / whole["attainable"] for name in METRICS})
    last = shares[LAYER] == shares[LAYER].max()
    shares = shares.assign(**{LAST_MIXER: shares[DECIDING].where(last)})
    best = with_best_rates(shares, SETTING)
    keys = ["featurizer", *SETTING, TSS]
    numbers = ["beta", "accuracy", "attainable", *METRICS, LAST_MIXER]
    return best.groupby(keys, sort=False)[numbers].mean().reset_index(), left_out


def _is_saturated(row: pd.Series[float]) -> bool:
    return bool(row[DECIDING] >= SATURATED)


def _is_collapsed(row: pd.Series[float]) -> bool:
    return bool(row[DECIDING] < LOW_UTILIZATION and row["accuracy"] < LOW_ACCURACY)


def _is_kept(row: pd.Series[float]) -> bool:
    return bool(row[DECIDING] >= LOW_UTILIZATION and row["accuracy"] >= LOW_ACCURACY)


def _part(
    rows: pd.DataFrame, featurizer: str, holds: Callable[[pd.Series[float]], bool]
) -> bool | None:
    """Whether it holds for a featurizer, None if that was not measured."""
    own = rows[rows["featurizer"] == featurizer]
    return holds(own[["accuracy", DECIDING]].mean()) if len(own) else None


def _where(rows: pd.DataFrame) -> str:
    return f"TSS {rows[TSS].iloc[0]:g} and kv {rows[PAIRS].iloc[0]}" if len(rows) else "no run"


def _figures(rows: pd.DataFrame, *, accuracy: bool) -> str:
    means = rows.groupby("model", sort=False)[["accuracy", DECIDING]].mean()
    shown = {
        str(model): f"{one['accuracy']:.2f} and {one[DECIDING]:.2f}"
        if accuracy
        else f"{one[DECIDING]:.2f}"
        for model, one in means.iterrows()
    }
    return ", ".join(f"{model} {figures}" for model, figures in shown.items())


def _tables(best: pd.DataFrame) -> dict[str, pd.DataFrame]:
    of_state = best.assign(**{DECIDING: best[DECIDING] * best["attainable"] / best[TSS]})
    utilizations = {
        f"Utilization, {words}: ESS / attainable, mean of layers": _by_size(best, name)
        for name, words in SHOWN.items()
    }
    return {
        "Accuracy": _by_size(best, "accuracy"),
        **utilizations,
        "Utilization of the last mixer alone, tolerance 1e-3": _by_size(best, LAST_MIXER),
        "Utilization as in the paper: ESS / TSS, tolerance 1e-3": _by_size(of_state, DECIDING),
    }


def _by_size(best: pd.DataFrame, name: str) -> pd.DataFrame:
    """A row for each model and TSS, a column for each number of pairs."""
    cells = best.pivot_table(index=["model", TSS], columns=PAIRS, values=name, sort=False)
    cells = cells[sorted(best[PAIRS].unique())]
    shown = cells.apply(lambda column: column.map("{:.2f}".format))
    shown = shown.where(cells.notna(), "")
    named = shown.rename(columns=lambda pairs: f"kv {pairs}").reset_index()
    named[TSS] = named[TSS].map("{:g}".format)
    table: pd.DataFrame = named.rename(columns={TSS: "TSS"}).rename_axis(columns=None)
    return table


def _curves(axes: Axes, best: pd.DataFrame, name: str) -> None:
    """A curve for each model against the number of pairs."""
    styles = model_styles(best)
    for model, runs in best.groupby("model", sort=False):
        means = runs.groupby(PAIRS)[name].mean()
        axes.plot(means.index, means, label=str(model), **styles[str(model)])
    if name != "accuracy":
        axes.axhline(SATURATED, color=GREY, linewidth=1, linestyle=":", label="saturated")
    pairs = sorted(best[PAIRS].unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(pairs, [f"{number}" for number in pairs])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.06)
