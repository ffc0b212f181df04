"""Accuracy and ESS over the course of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_ess.lab.paper.experiment import Experiment, Finding, Scale, Trainings
from hf_ess.lab.paper.grid_rows import (
    ATTENTION,
    CERTAIN,
    COLOUR,
    ENTROPY,
    FEATURIZERS,
    KEYS,
    RECURRENT,
    RUN,
    TOLERANCES,
    grid_rows,
    model_styles,
)
from hf_ess.lab.paper.recall_grid import SMALLER, recall_grid
from hf_ess.lab.paper.runs import by_run, complete
from hf_ess.lab.paper.statistics import (
    Floats,
    bootstrap_interval,
    correlation,
    shown,
    with_interval,
)
from hf_ess.lab.paper.verdicts import beyond, verdict_on
from hf_ess.report.drawing import GREY, panel_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hf_ess.lab.paper.work import Work

KIND, OF_RUN, OF_CURVE = "kind", "run", "curve"
CONSTRAINED = "constrained"
FROM_FIRST = "correlation_after_first_step"
CORRELATIONS = {
    ENTROPY: "entropy-ESS",
    **{column: f"tolerance-ESS {tau}" for tau, column in TOLERANCES.items()},
}
COLUMN = {metric: f"correlation_{metric}" for metric in CORRELATIONS}
# The paper's 0.9 to 1.0.
STRONG = 0.9
# A drop or a rise of ESS is one by more than this part of it.
CHANGE = 0.05
# In a run whose accuracy moved by less there is no course to go along with.
LEARNS = 0.1


class Dynamics(Experiment):
    """Correlations of accuracy and ESS within runs, and how ESS moves."""

    name = "dynamics"
    title = "During training ESS goes with accuracy where memory is scarce"
    source = "section 4.2, figure 23a"
    claim = (
        "In memory-constrained cases the correlation of entropy-ESS and accuracy within a run "
        "reaches 0.9 to 1.0; the ESS of recurrent models first drops, that of attention rises. "
        "Correlations of the tolerance-ESS are partly negative, for LA and large TSS."
    )
    setting = (
        f"{SMALLER} ESS is measured every 100 steps; TSS 2 to 16 and kv 8 in 32 tokens; GLA "
        "and WLA with beta = 0.25 and 16. Memory-constrained are recurrent models with TSS at most "
        "kv. Runs whose accuracy moves by less than 0.1 have no course, and are counted apart; a "
        "tolerance-ESS that never changes has no correlation. All learning rates, one seed."
    )

    def trainings(self, scale: Scale) -> tuple[Trainings, ...]:
        return recall_grid(scale)

    def measure(self, work: Work) -> pd.DataFrame:
        import pandas as pd

        steps = by_run(grid_rows(work)).sort_values("step", kind="stable")
        runs = pd.DataFrame([_course(run) for _, run in steps.groupby("run", sort=False)])
        return pd.concat([runs, _mean_curves(steps)], ignore_index=True)

    def judge(self, rows: pd.DataFrame) -> Finding:
        runs, left_out = _learned(rows)
        scarce = {kind: _of(runs, kind, constrained=True) for kind in RECURRENT}
        follows = {kind: _reaches(of_it[COLUMN[ENTROPY]]) for kind, of_it in scarce.items()}
        drops = _mostly(runs[runs["featurizer"] != ATTENTION], "drop")
        rises = _mostly(runs[runs["featurizer"] == ATTENTION], "rise")
        shares = {
            kind: f"{kind} {_median(of_it[COLUMN[ENTROPY]]):.2f} "
            f"({_share(of_it[COLUMN[ENTROPY]], STRONG)}), without the untrained model "
            f"{_median(of_it[FROM_FIRST]):.2f}"
            for kind, of_it in scarce.items()
        }
        words = (
            "Medians of the correlation of accuracy and entropy-ESS within memory-constrained runs "
            f"(how many reach {STRONG}): {'; '.join(shares.values())}. ESS falls more than "
            f"{CHANGE:.0%} below its start at some step of {_counted(runs, RECURRENT, 'drop')} "
            f"recurrent runs, and ends more than {CHANGE:.0%} above its start in "
            f"{_counted(runs, (ATTENTION,), 'rise')} runs of attention, where it drops in "
            f"{_counted(runs, (ATTENTION,), 'drop')}. The correlation of the tolerance-ESS (1e-3) "
            f"is negative in {_negative(runs)}.{left_out}"
        )
        verdict = verdict_on([*follows.values(), drops, rises])
        return Finding(verdict, words, _tables(runs))

    def draw(self, rows: pd.DataFrame) -> Figure:
        runs, _ = _learned(rows)
        figure, grid = panel_grid(
            "Accuracy and ESS over the course of trainings", (10, 7.2), (2, 2)
        )
        for axes, constrained in zip(grid[0], (True, False), strict=True):
            _spread(axes, runs[runs[CONSTRAINED] == constrained], constrained=constrained)
        curves = rows[rows[KIND] == OF_CURVE]
        for axes, column, words in (
            (grid[1][0], "accuracy", "accuracy"),
            (grid[1][1], ENTROPY, "entropy-ESS / before training"),
        ):
            _lines(axes, curves, column)
            axes.set(xlabel="step of training", ylabel=f"{words}, mean of runs")
        handles, labels = grid[1][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
        return figure


def _course(steps: pd.DataFrame) -> dict[str, Any]:
    """One run, of its rows by step: correlations within it, and how far ESS and accuracy move."""
    first = steps.iloc[0]
    accuracy, ess = steps["accuracy"].to_numpy(float), steps[ENTROPY].to_numpy(float)
    return {
        KIND: OF_RUN,
        **{key: first[key] for key in KEYS},
        CONSTRAINED: _is_constrained(first["featurizer"], first["state_size"], first["pairs"]),
        "accuracy": accuracy[-1],
        "least_accuracy": accuracy.min(),
        "most_accuracy": accuracy.max(),
        **{COLUMN[metric]: correlation(accuracy, steps[metric]) for metric in CORRELATIONS},
        FROM_FIRST: correlation(accuracy[1:], ess[1:]),
        "ess_first": ess[0],
        "ess_lowest": ess.min(),
        "ess_last": ess[-1],
        "step_of_lowest": steps["step"].iloc[int(ess.argmin())],
        "verified": steps["verified"].all() and steps[list(CERTAIN)].notna().all(axis=None),
    }


def _is_constrained(featurizer: str, state_size: float, pairs: int) -> bool:
    """Whether a state has no more numbers than there are pairs; that of attention grows."""
    return featurizer != ATTENTION and state_size <= pairs


def _mean_curves(steps: pd.DataFrame) -> pd.DataFrame:
    """By model and step the means over runs of accuracy and of ESS over that of step 0."""
    whole = steps["verified"] & steps[ENTROPY].notna()
    steps = steps[whole.groupby(steps["run"]).transform("all")]
    start = steps.groupby("run")[ENTROPY].transform("first")
    shares = steps.assign(**{ENTROPY: steps[ENTROPY] / start})
    means = shares.groupby(["featurizer", "model", "step"], sort=False)
    curves = means[["beta", "accuracy", ENTROPY]].mean().reset_index()
    return curves.assign(**{KIND: OF_CURVE})


def _learned(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Runs with a course, whether ESS drops and rises in them; and on the others a sentence."""
    runs = rows[rows[KIND] == OF_RUN]
    runs = runs.astype(dict.fromkeys(("width", "heads", "pairs", "seed"), int))
    runs, left_out = complete(runs, ["ess_first", "ess_lowest", "ess_last"], RUN)
    moves = runs["most_accuracy"] - runs["least_accuracy"] >= LEARNS
    flat = runs[~moves]["featurizer"].value_counts(sort=False)
    counted = ", ".join(f"{kind} {flat[kind]}" for kind in FEATURIZERS if kind in flat)
    without = f" Runs whose accuracy moves by less than {LEARNS}: {counted or 'none'}."
    learned = runs[moves]
    return learned.assign(
        **{CONSTRAINED: learned[CONSTRAINED].astype(bool)},
        drop=learned["ess_lowest"] < (1 - CHANGE) * learned["ess_first"],
        rise=learned["ess_last"] > (1 + CHANGE) * learned["ess_first"],
    ), without + left_out


def _of(runs: pd.DataFrame, kind: str, *, constrained: bool) -> pd.DataFrame:
    return runs[(runs["featurizer"] == kind) & (runs[CONSTRAINED] == constrained)]


def _median(values: pd.Series[float]) -> float:
    present = values.dropna()
    return float(np.median(present)) if len(present) else float("nan")


def _median_interval(values: pd.Series[float]) -> tuple[float, float]:
    return bootstrap_interval(_middle, values.dropna())


def _middle(values: Floats) -> float:
    return float(np.median(values))


def _reaches(values: pd.Series[float]) -> bool | None:
    """Whether the median is strong; None where its interval holds the limit."""
    return beyond(_median_interval(values), STRONG)


def _mostly(runs: pd.DataFrame, name: str) -> bool | None:
    """Whether it is so in more than half of the runs; None where the interval holds the half."""
    return beyond(bootstrap_interval(np.mean, runs[name]), 0.5)


def _share(values: pd.Series[float], limit: float) -> str:
    return f"{int((values >= limit).sum())} of {values.notna().sum()}"


def _counted(runs: pd.DataFrame, kinds: tuple[str, ...], name: str) -> str:
    own = runs[runs["featurizer"].isin(kinds)][name]
    return f"{int(own.sum())} of {len(own)}"


def _negative(runs: pd.DataFrame) -> str:
    """In how many runs of each kind, of those in which there is a correlation."""
    found = runs.set_index("featurizer")[COLUMN[TOLERANCES["0.001"]]].dropna()
    kinds = [kind for kind in FEATURIZERS if kind in found.index]
    counts = {kind: found[found.index == kind] < 0 for kind in kinds}
    return ", ".join(
        f"{int(of_it.sum())} of {len(of_it)} ({kind})" for kind, of_it in counts.items()
    )


def _tables(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    import pandas as pd

    groups = [
        (kind, constrained, _of(runs, kind, constrained=constrained))
        for constrained in (True, False)
        for kind in FEATURIZERS
    ]
    named = [
        ({"models": kind, "memory-constrained": "yes" if scarce else "no", "runs": len(own)}, own)
        for kind, scarce, own in groups
        if len(own)
    ]
    return {
        "Median correlation with accuracy within runs": pd.DataFrame(
            {**head, **_correlations(own)} for head, own in named
        ),
        "Entropy-ESS during training": pd.DataFrame(
            {**head, **_movement(own)} for head, own in named
        ),
        "Median correlation with accuracy within runs, by TSS": _by_size(runs),
    }


def _by_size(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each recurrent featurizer and TSS."""
    import pandas as pd

    sizes = runs[runs["featurizer"] != ATTENTION].groupby(["featurizer", "state_size"], sort=False)
    ordered = sorted(sizes, key=lambda one: (FEATURIZERS.index(one[0][0]), one[0][1]))
    return pd.DataFrame(
        {
            "models": kind,
            "TSS": f"{size:g}",
            "runs": len(own),
            **{words: shown(_median(own[COLUMN[name]])) for name, words in CORRELATIONS.items()},
        }
        for (kind, size), own in ordered
    )


def _correlations(runs: pd.DataFrame) -> dict[str, str]:
    entropy = runs[COLUMN[ENTROPY]]
    cells = {
        f"{words} [95 %] (runs)": _median_cell(runs[COLUMN[metric]])
        for metric, words in CORRELATIONS.items()
    }
    from_first = shown(_median(runs[FROM_FIRST]))
    reach = {f"entropy-ESS at least {STRONG}": _share(entropy, STRONG)}
    return {**reach, **cells, "entropy-ESS without step 0": from_first}


def _median_cell(values: pd.Series[float]) -> str:
    """With the number of runs in which the correlation has a value."""
    return f"{with_interval(_median(values), _median_interval(values))} ({values.count()})"


def _movement(runs: pd.DataFrame) -> dict[str, str]:
    return {
        "drops": f"{int(runs['drop'].sum())} of {len(runs)}",
        "ends above its start": f"{int(runs['rise'].sum())} of {len(runs)}",
        "lowest / first, median": shown(_median(runs["ess_lowest"] / runs["ess_first"])),
        "last / first, median": shown(_median(runs["ess_last"] / runs["ess_first"])),
        "step of the lowest, median": f"{_median(runs['step_of_lowest']):g}",
    }


def _spread(axes: Axes, runs: pd.DataFrame, *, constrained: bool) -> None:
    """Boxes and points of the correlations within runs, by metric and featurizer."""
    kinds = [kind for kind in FEATURIZERS if (runs["featurizer"] == kind).any()]
    width = 0.8 / max(len(kinds), 1)
    for offset, kind in enumerate(kinds):
        own = runs[runs["featurizer"] == kind]
        for place, metric in enumerate(CORRELATIONS):
            values = own[COLUMN[metric]].dropna().to_numpy(float)
            middle = place + (offset - (len(kinds) - 1) / 2) * width
            spread = np.linspace(-0.25, 0.25, len(values)) * width
            label = f"{kind} ({len(own)})" if not place else None
            axes.scatter(middle + spread, values, s=8, color=COLOUR[kind], label=label)
            if len(values):
                axes.boxplot(
                    values,
                    positions=[middle],
                    widths=0.8 * width,
                    showfliers=False,
                    medianprops={"color": COLOUR[kind], "linewidth": 2},
                    boxprops={"color": GREY},
                    manage_ticks=False,
                )
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    words = [name.replace("ESS ", "ESS\n") for name in CORRELATIONS.values()]
    axes.set_xticks(range(len(words)), words, fontsize=8)
    # The room below -1 is for the legend.
    axes.set(ylim=(-1.35, 1.08), ylabel="correlation with accuracy in a run")
    which = "memory-constrained: TSS at most kv" if constrained else "others"
    axes.set_title(f"{which} (number of runs)", fontsize=10)
    if kinds:
        axes.legend(
            fontsize=8, loc="lower center", ncols=len(kinds), columnspacing=1, handletextpad=0.2
        )


def _lines(axes: Axes, curves: pd.DataFrame, column: str) -> None:
    """A curve for each model over the steps."""
    styles = model_styles(curves)
    for model, steps in curves.groupby("model", sort=False):
        axes.plot(steps["step"], steps[column], label=str(model), ms=4, **styles[str(model)])
