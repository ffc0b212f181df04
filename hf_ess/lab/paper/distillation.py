"""Model-order reduction: layers of higher ESS are harder to distil into smaller states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hf_ess.lab.paper.distilled_layers import Teacher, smallest_ess
from hf_ess.lab.paper.experiment import Experiment, Finding, Scale, Trainings, Verdict
from hf_ess.lab.paper.recall_grid import BETAS, SMALLER, recall_base
from hf_ess.lab.paper.statistics import bootstrap_interval, rank_correlation, with_interval
from hf_ess.lab.paper.verdicts import beyond, verdict_on
from hf_ess.lab.training import device_named
from hf_ess.report.drawing import COLOURS, MARKS, panel_grid
from hf_ess.report.text import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hf_ess.lab.paper.work import Work

# Tokens by pairs.
TASKS: dict[Scale, dict[int, int]] = {
    Scale.minute: {2: 16},
    Scale.small: {4: 32, 8: 32},
    Scale.paper: {64: 512, 128: 2048},
}
MODELS: dict[Scale, dict[str, Any]] = {
    Scale.minute: {"hidden_size": 16, "num_attention_heads": 2},
    Scale.small: {"hidden_size": 32, "num_attention_heads": 2},
    Scale.paper: {"hidden_size": 512, "num_attention_heads": 2},
}
DECAYS = {**BETAS, Scale.small: (0.25, 1.0, 4.0, 16.0)}
RATES = {
    Scale.minute: [5e-3],
    Scale.small: [2e-3, 5e-3],
    Scale.paper: [5e-4, 1e-3, 2e-3, 4e-3],
}
SEEDS = {Scale.minute: [0], Scale.small: [0], Scale.paper: [0, 1]}
SIZES = {Scale.minute: [4, 2], Scale.small: [8, 4, 2, 1], Scale.paper: [128, 64, 32, 16]}
# Of operators, of activations.
STEPS = {Scale.minute: [2, 2], Scale.small: [400, 800], Scale.paper: [800, 3200]}
TEXTS = {Scale.minute: 32, Scale.small: 1024, Scale.paper: 256}
# What less accurate teachers hold in their states is no recall; theirs had 0.9.
FLOOR = {Scale.minute: 0.0, Scale.small: 0.8, Scale.paper: 0.8}
FEWEST_TEACHERS = 4
ESS, SIZE, SKIPPED, KEPT = "entropy_ess", "size", "skipped", "kept"
BEFORE, AFTER = "teacher_accuracy", "accuracy"
LOSSES = {
    "operator_error": "error of operators, after their phase",
    "activation_error": "error of outputs, at the end",
}
COLUMNS = [
    *("teacher", "length", "pairs", "decay_temperature", "learning_rate", "seed", BEFORE, SKIPPED),
    *("layer", "state_size", ESS, "tolerance_ess", SIZE, *LOSSES, AFTER),
]
# A value and the ends of its interval of 95 %.
Estimate = tuple[float, tuple[float, float]]


class Gap(NamedTuple):
    """Shares of accuracy that are kept, in layers of lower and of higher ESS of a teacher."""

    low: float
    high: float
    difference: Estimate


class Distillation(Experiment):
    """What is lost when a layer gets a smaller state, by the ESS of the layer."""

    name = "distillation"
    title = "The higher the ESS of a layer, the more is lost in a student with a smaller state"
    source = "section 5.2, appendix D.6"
    claim = (
        "GLA teachers of state size 256: the higher the ESS of a layer (minimum over batch and "
        "channels, at L/2), the higher the distillation loss, at every student size (16 to 128). "
        "In a teacher of accuracy .90 a student of 128/64/32/16 in place of a layer of low ESS "
        "keeps .91/.87/.75/.73, of high ESS .88/.74/.37/.05."
    )
    setting = (
        "16 teachers of two GLA layers, 32 channels, 2 heads, a state of 16: 4 or 8 pairs in 32 "
        "tokens, beta = 0.25, 1, 4 and 16, for layers of many ESS, two learning rates; students of "
        "the paper's ratios (1/2 to 1/16), 400 steps on operators and 800 on outputs in place of "
        "800 and 3200, 32 of 896 texts each. Teachers of an accuracy below 0.8 are counted and not "
        f"distilled. {SMALLER} Teachers for 4 pairs learn from 1, 2 and 4."
    )

    def trainings(self, scale: Scale) -> tuple[Trainings, ...]:
        axes: dict[str, list[Any]] = {
            "model.decay_temperature": list(DECAYS[scale]),
            "learning_rate": RATES[scale],
            "seed": SEEDS[scale],
        }
        model = {**MODELS[scale], "mixers": ["GLA", "GLA"]}
        return tuple(
            Trainings(
                f"teachers-{pairs}",
                {**recall_base(scale, pairs, length), "model": model},
                axes,
                {"length": length, "pairs": pairs},
            )
            for pairs, length in TASKS[scale].items()
        )

    def measure(self, work: Work) -> pd.DataFrame:
        import pandas as pd

        teachers: list[dict[str, Any]] = []
        pieces: dict[str, dict[str, Any]] = {}
        for trainings in self.trainings(work.scale):
            result = work.trained(trainings)
            for point in result.points:
                run = result.run(point.name)
                settings = {key.removeprefix("model."): x for key, x in point.settings.items()}
                name = f"{trainings.name}-{point.digest}"
                teacher = {"teacher": name, **trainings.labels, **settings, BEFORE: run.accuracy}
                if run.accuracy < FLOOR[work.scale]:
                    teachers.append(teacher | {SKIPPED: f"accuracy below {FLOOR[work.scale]}"})
                    continue
                for layer in range(len(run.layers)):
                    piece = f"{name}-{layer}"
                    teachers.append(teacher | {"layer": layer, "piece": piece})
                    pieces[piece] = _arguments(str(run.folder), layer, work.scale)
        found = work.pieces(distilled_layer, pieces)
        return pd.DataFrame(
            {**teacher, **row}
            for teacher in teachers
            for row in found.get(teacher.pop("piece", ""), [{}])
        ).reindex(columns=COLUMNS)

    def judge(self, rows: pd.DataFrame) -> Finding:
        students = _students(rows)
        ranks = {
            (loss, size): _rank(own, loss) for loss in LOSSES for size, own in _by_size(students)
        }
        gaps = {size: _gap(own) for size, own in _by_size(students)}
        tables = {
            "Rank correlation of the loss with the ESS of the layer [95 %]": _shown_ranks(ranks),
            "Share of the accuracy that is kept, by the ESS of the layer": _shown_kept(gaps),
            "Within first and within second layers": _shown_within(students),
            "Layers": _shown_layers(students),
        }
        overall = _gap(_over_sizes(students))
        words = (
            f"{_words_of_ranks(ranks)} {_words_of_gaps(gaps, overall)} {_words_of_teachers(rows)}"
        )
        return Finding(_verdict(students, ranks, overall), words, tables)

    def draw(self, rows: pd.DataFrame) -> Figure:
        students = _students(rows)
        figure, (panels,) = panel_grid(
            "What students with smaller states lose, by the ESS of the layer (hollow: first one)",
            (11, 4.2),
            (1, 3),
        )
        panelled = {**LOSSES, KEPT: "share of the accuracy that is kept"}
        for axes, (name, label) in zip(panels, panelled.items(), strict=True):
            for number, (size, own) in enumerate(_by_size(students)):
                colour = COLOURS[number % len(COLOURS)]
                look: dict[str, Any] = {"color": colour, "markersize": 6, "alpha": 0.8}
                mark = MARKS[number % len(MARKS)]
                first = own["layer"] == 0
                axes.plot(own.loc[first, ESS], own.loc[first, name], mark, fillstyle="none", **look)
                look["label"] = f"student of state {size}"
                axes.plot(own.loc[~first, ESS], own.loc[~first, name], mark, **look)
            axes.set(xlabel="entropy-ESS of the layer at L/2", ylabel=label)
            axes.set_ylim(bottom=0)
            axes.grid(color="#dddddd", linewidth=0.6)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
        return figure


def distilled_layer(
    source: str, layer: int, sizes: Sequence[int], steps: tuple[int, int], texts: int, device: str
) -> list[dict[str, Any]]:
    """A layer of a trained model distilled into students of some sizes, a row for each.

    Args:
        source: folder of the run.
        layer: its number.
        sizes: state sizes of the students.
        steps: on operators, and on outputs.
        texts: new ones to distil on; an eighth is held out.
        device: "cpu", or "auto" for a GPU if there is one.

    Raises:
        HfEssError: as `hf_ess.reduce.distill`.

    Source: Parnichkun et al., ICML 2025, appendix D.6.
    """
    teacher = Teacher(source, texts, str(device_named(device)))
    found = [one for one in teacher.layers if one.index == layer]
    if not found:
        return [{SKIPPED: "the layer's operator was not verified"}]
    rows = []
    for size in sizes:
        student = teacher.distilled(found[0], size, (steps[0], steps[1]))
        rows.append(
            {
                "state_size": found[0].state_size,
                **smallest_ess(found[0]),
                SIZE: size,
                "operator_error": student.operator_error_matched,
                "activation_error": student.activation_error,
                AFTER: student.accuracy,
            }
        )
    return rows


def _arguments(source: str, layer: int, scale: Scale) -> dict[str, Any]:
    return {
        "source": source,
        "layer": layer,
        "sizes": SIZES[scale],
        "steps": STEPS[scale],
        "texts": TEXTS[scale],
        "device": "auto" if scale is Scale.paper else "cpu",
    }


def _students(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of students, with the share of the accuracy that is kept."""
    students = rows.dropna(subset=[SIZE, ESS])
    return students.assign(
        **{SIZE: students[SIZE].astype(int), KEPT: students[AFTER] / students[BEFORE]}
    )


def _by_size(students: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """Students by size, the largest first."""
    sizes = sorted(map(int, students[SIZE].unique()), reverse=True)
    return [(size, students[students[SIZE] == size]) for size in sizes]


def _over_sizes(students: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer: means over its students."""
    return students.groupby(["teacher", "layer"])[[ESS, KEPT]].mean().reset_index()


def _rank(students: pd.DataFrame, loss: str) -> Estimate:
    """Rank correlation of loss and ESS over layers; teachers are resampled with all their layers.

    The layers of one teacher are not drawn apart: they learned together.
    """
    teachers = [one[[ESS, loss]].to_numpy() for _, one in students.groupby("teacher")]

    def statistic(numbers: ArrayLike) -> float:
        layers = np.concatenate([teachers[int(number)] for number in np.asarray(numbers)])
        return rank_correlation(layers[:, 0], layers[:, 1])

    return _estimate(statistic, np.arange(len(teachers)))


def _gap(students: pd.DataFrame) -> Gap:
    """What is kept in the layer of lower ESS and in that of higher, means over teachers."""
    ordered = students.sort_values(ESS).groupby("teacher")[KEPT]
    several = ordered.count() > 1
    low, high = ordered.first()[several], ordered.last()[several]
    if not len(low):
        return Gap(float("nan"), float("nan"), (float("nan"), (float("nan"), float("nan"))))
    return Gap(low.mean(), high.mean(), _estimate(np.mean, low - high))


def _estimate(statistic: Callable[[Any], Any], column: Any) -> Estimate:
    values = np.asarray(column)
    return float(statistic(values)), bootstrap_interval(statistic, values)


def _verdict(
    students: pd.DataFrame, ranks: dict[tuple[str, int], Estimate], overall: Gap
) -> Verdict:
    """Every correlation is a part of the claim, and what is kept, over all sizes, is one."""
    if students["teacher"].nunique() < FEWEST_TEACHERS:
        return Verdict.undecidable
    estimates = [*ranks.values(), overall.difference]
    return verdict_on(beyond(interval, 0.0) for _, interval in estimates)


def _words_of_ranks(ranks: dict[tuple[str, int], Estimate]) -> str:
    parts = []
    for loss, label in LOSSES.items():
        own = {size: rank for (name, size), rank in ranks.items() if name == loss}
        above = [str(size) for size, (_, interval) in own.items() if beyond(interval, 0.0)]
        shown = ", ".join(f"{rank[0]:.2f}" for rank in own.values())
        parts.append(
            f"the {label.split(',')[0]} {shown} at states of {', '.join(map(str, own))} "
            f"(interval above 0 at {', '.join(above) or 'none'})"
        )
    return f"Rank correlation with the ESS of the layer: {'; '.join(parts)}."


def _words_of_gaps(gaps: dict[int, Gap], overall: Gap) -> str:
    shown = ", ".join(f"{gap.low:.2f} and {gap.high:.2f} ({size})" for size, gap in gaps.items())
    return (
        "Of the accuracy a student in place of a teacher's layer of lower ESS and of higher ESS "
        f"keeps, by its state, {shown}; the difference over all sizes is "
        f"{with_interval(*overall.difference)}."
    )


def _words_of_teachers(rows: pd.DataFrame) -> str:
    teachers = rows["teacher"].nunique()
    skipped = rows.dropna(subset=[SKIPPED])
    reasons = "; ".join(
        f"{_counted(own)} left out: {reason}" for reason, own in skipped.groupby(SKIPPED)
    )
    return f"{counted(teachers, 'teacher')}{f' ({reasons})' if reasons else ''}."


def _counted(skipped: pd.DataFrame) -> str:
    """Layers, or whole teachers."""
    by_layer = skipped["layer"].notna().all()
    return counted(len(skipped), "layer") if by_layer else str(skipped["teacher"].nunique())


def _shown_ranks(ranks: dict[tuple[str, int], Estimate]) -> pd.DataFrame:
    import pandas as pd

    sizes = dict.fromkeys(size for _, size in ranks)
    return pd.DataFrame(
        {
            "student's state": size,
            **{label: with_interval(*ranks[loss, size]) for loss, label in LOSSES.items()},
        }
        for size in sizes
    )


def _shown_kept(gaps: dict[int, Gap]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "student's state": size,
            "layer of lower ESS": f"{gap.low:.2f}",
            "layer of higher ESS": f"{gap.high:.2f}",
            "difference [95 %]": with_interval(*gap.difference),
        }
        for size, gap in gaps.items()
    )


def _shown_within(students: pd.DataFrame) -> pd.DataFrame:
    """Rank correlations among layers at one depth, where what a layer is for differs less."""
    import pandas as pd

    return pd.DataFrame(
        {
            "layer": f"{layer:g}",
            "student's state": size,
            **{label: with_interval(*_rank(alike, loss)) for loss, label in LOSSES.items()},
        }
        for layer, own in students.groupby("layer")
        for size, alike in _by_size(own)
    )


def _shown_layers(students: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer, by ESS: accuracy of its teacher, and with each of its students."""
    import pandas as pd

    return pd.DataFrame(
        {
            "pairs": own["pairs"].iloc[0],
            "beta": own["decay_temperature"].iloc[0],
            "rate": own["learning_rate"].iloc[0],
            "seed": own["seed"].iloc[0],
            "layer": f"{own['layer'].iloc[0]:g}",
            "entropy-ESS": f"{own[ESS].iloc[0]:.2f}",
            "tolerance-ESS(0.1)": f"{own['tolerance_ess'].iloc[0]:g}",
            "accuracy": f"{own[BEFORE].iloc[0]:.2f}",
            **{f"with state {row[SIZE]}": f"{row[AFTER]:.2f}" for _, row in own.iterrows()},
        }
        for _, own in students.sort_values(
            [ESS, "teacher", SIZE], ascending=[True, True, False]
        ).groupby(["teacher", "layer"], sort=False)
    )
