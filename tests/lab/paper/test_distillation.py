"""Distillation of teachers' layers: rows, verdicts, teachers that learned too little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lab.in_this_process import train_here

import hf_ess
from hf_ess.lab import EXPERIMENTS, Reproduction, RunResult, reproduce
from hf_ess.lab.paper import distillation
from hf_ess.lab.paper.experiment import Scale, Verdict
from hf_ess.lab.sweep_points import points_of

DISTILLATION = EXPERIMENTS["distillation"]
SIZES = (8, 2)


def run_minute(out):
    with pytest.MonkeyPatch.context() as monkeypatch:
        train_here(monkeypatch)
        return reproduce("distillation", scale="minute", out=out, processes=1, progress=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("distillation")
    return run_minute(out), out / "minute"


def test_rows_are_of_the_teacher(made):
    one, folder = made
    rows = one.rows
    assert list(zip(rows["layer"], rows["size"], strict=True)) == [(0, 4), (0, 2), (1, 4), (1, 2)]
    (run,) = (folder / "trainings" / "teachers-2" / "runs").iterdir()
    result = RunResult.load(run)
    assert rows["teacher_accuracy"].to_numpy() == pytest.approx(result.accuracy, rel=1e-5)
    texts = result.config.task.texts(32, seed=2**31).input_ids[:8]
    report = hf_ess.analyze(result.model(), texts, positions=[8], tolerances=[0.1], progress=False)
    for layer in report.layers:
        own = rows[rows["layer"] == layer.index]
        assert own["entropy_ess"].to_numpy() == pytest.approx(layer.entropy_ess.min(), rel=1e-5)
        assert set(own["tolerance_ess"]) == {layer.tolerance_ess[0.1].min()}
    assert (rows[["operator_error", "activation_error"]] > 0).all(axis=None)
    assert one.finding.verdict is Verdict.undecidable


def test_nothing_is_done_twice(made):
    one, folder = made
    kept = [*folder.glob("distillation/pieces/*.json"), *folder.glob("trainings/*/runs/*/results*")]
    times = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 3
    again = run_minute(folder.parent)
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert again.to_dict() == one.to_dict()
    assert Reproduction.read(folder / "distillation").to_dict() == one.to_dict()


def test_teachers_that_learned_too_little_are_named(made, monkeypatch):
    monkeypatch.setitem(distillation.FLOOR, Scale.minute, 1.1)
    one, folder = made
    again = run_minute(folder.parent)
    assert list(again.rows["skipped"]) == ["accuracy below 1.1"]
    assert "1 teacher (1 left out: accuracy below 1.1)" in again.finding.words
    assert again.finding.verdict is Verdict.undecidable
    assert DISTILLATION.judge(one.rows).words != again.finding.words


def made_up(operator, activation, kept, teachers=6):
    """Two layers of each teacher, of ESS 1 to 2 and 3 to 4, and functions of their ESS."""
    esses = [(number, layer, 1 + 2 * layer + number / teachers)
             for number in range(teachers) for layer in range(2)]  # fmt: skip
    return pd.DataFrame(
        {
            "teacher": f"teacher-{number}",
            "pairs": 4,
            "decay_temperature": 1.0,
            "learning_rate": 2e-3,
            "seed": 0,
            "teacher_accuracy": 0.8,
            "skipped": np.nan,
            "layer": layer,
            "entropy_ess": ess,
            "tolerance_ess": np.ceil(ess),
            "size": size,
            "operator_error": operator(ess) / size,
            "activation_error": activation(ess) / size,
            "accuracy": 0.8 * kept(ess),
        }
        for number, layer, ess in esses
        for size in SIZES
    )


def rising(ess):
    return ess / 5


def falling(ess):
    return 1 - ess / 5


@pytest.mark.parametrize(
    ("operator", "activation", "kept", "verdict"),
    [
        (rising, rising, falling, Verdict.reproduced),
        (rising, falling, falling, Verdict.partly),
        (rising, rising, lambda _: 0.5, Verdict.partly),
        (falling, falling, rising, Verdict.contradicted),
    ],
)
def test_verdicts(operator, activation, kept, verdict):
    finding = DISTILLATION.judge(made_up(operator, activation, kept))
    assert finding.verdict is verdict
    sign = {rising: "1.00, 1.00", falling: "-1.00, -1.00"}
    assert f"the error of operators {sign[operator]} at states of 8, 2" in finding.words
    assert f"the error of outputs {sign[activation]} at states of 8, 2" in finding.words
    # The ESS of the layers of a teacher is 2 apart.
    gap = {rising: "-0.40 [-0.40, -0.40]", falling: "0.40 [0.40, 0.40]"}.get(kept, "0.00 [")
    assert f"the difference over all sizes is {gap}" in finding.words


def test_correlation_is_over_all_layers():
    rows = made_up(rising, rising, falling)
    noise = np.random.default_rng(0).normal(size=len(rows))
    rows["operator_error"] += noise
    table = DISTILLATION.judge(rows).tables
    shown = table["Rank correlation of the loss with the ESS of the layer [95 %]"]
    own = rows[rows["size"] == 2]
    expected = own["entropy_ess"].rank().corr(own["operator_error"].rank())
    assert shown.iloc[1, 1].startswith(f"{expected:.2f} [")
    first = own[own["layer"] == 0]
    within = table["Within first and within second layers"]
    expected = first["entropy_ess"].rank().corr(first["operator_error"].rank())
    assert within.loc[1, "layer"] == "0"
    assert within.iloc[1, 2].startswith(f"{expected:.2f} [")
    assert len(table["Layers"]) == 12


def test_layers_that_were_not_distilled_are_counted_apart():
    rows = made_up(rising, rising, falling)
    lost = {"teacher": "teacher-0", "layer": 1, "skipped": "the layer's operator was not verified"}
    rows = rows[(rows["teacher"] != "teacher-0") | (rows["layer"] == 0)]
    words = DISTILLATION.judge(pd.concat([rows, pd.DataFrame([lost])])).words
    assert words.endswith("6 teachers (1 layer left out: the layer's operator was not verified).")


def test_few_teachers_decide_nothing():
    assert DISTILLATION.judge(made_up(rising, rising, falling, 3)).verdict is Verdict.undecidable


def test_figure_has_every_student():
    rows = made_up(rising, rising, falling)
    axes = DISTILLATION.draw(rows).axes
    assert len(axes) == 3
    drawn = np.concatenate([line.get_ydata() for line in axes[0].lines])
    assert sorted(drawn) == pytest.approx(sorted(rows["operator_error"]))


@pytest.mark.parametrize(("scale", "runs"), [("minute", 1), ("small", 16), ("paper", 16)])
def test_configurations(scale, runs):
    trainings = DISTILLATION.trainings(Scale(scale))
    configs = [point.config for one in trainings for point in points_of(one.base, one.axes)]
    assert len(configs) == runs
    sizes = {config.model["hidden_size"] // config.model["num_attention_heads"]
             for config in configs}  # fmt: skip
    assert sizes == {{"minute": 8, "small": 16, "paper": 256}[scale]}
    assert max(distillation.SIZES[Scale(scale)]) == sizes.pop() // 2
