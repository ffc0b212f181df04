"""Sweeps: every combination, one tidy table, kept where they were ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import statistics
import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from lab.in_this_process import train_here
from lab.small_runs import outcome, small_config

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.lab import SweepInterrupted, sweep, train
from hf_ess.lab.run_log import StepsOfRuns, append_record
from hf_ess.lab.sweep import folder_of
from hf_ess.lab.sweep_points import label, points_of
from hf_ess.lab.training_state import CHECKPOINT

# The last rate ruins every run.
AXES = {"learning_rate": [1e-3, 2e-2, 1e30], "seed": [0, 1], "model.mixers": [["GLA", "SA"]]}
BASE = small_config(steps=3, evaluate_every=2, gradient_clip=None, warmup_steps=0)


@pytest.fixture
def here(monkeypatch):
    return train_here(monkeypatch)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        train_here(monkeypatch)
        return sweep(BASE, AXES, tmp_path_factory.mktemp("sweep"), processes=1, progress=False)


@pytest.fixture
def swept(original, tmp_path):
    """A copy that a test may change."""
    folder = tmp_path / "sweep"
    shutil.copytree(original.folder, folder)
    return replace(original, folder=folder)


def test_a_row_for_each_run_step_and_layer(swept):
    table = pd.read_csv(swept.folder / "results.csv")
    pd.testing.assert_frame_equal(table, swept.table, check_dtype=False)
    assert table.columns[:4].tolist() == ["run", "learning_rate", "seed", "model.mixers"]
    good = table[table.learning_rate < 1]
    # Steps 0 and 3 are measured, layer by layer, and step 2 is tested.
    assert good.groupby("run").step.apply(list).tolist() == [[0, 0, 2, 3, 3]] * 4
    assert good.error.isna().all()
    point = swept.points[0]
    alone = train(point.config, folder_of(swept.folder, point), progress=False)
    mine = table[table.run == point.name].reset_index(drop=True)
    for name in ("step", "accuracy", "test_loss", "entropy_ess", "entropy_ess_per_pair"):
        assert mine[name].tolist() == pytest.approx(alone.log()[name].tolist(), nan_ok=True)
    assert mine["model.mixers"].unique().tolist() == ["GLA+SA"]
    assert set(mine.columns) >= {"loss", "mixer", "state_size", "tolerance_ess_0.1", "utilization"}


def test_a_run_that_fails_is_named_and_costs_the_others_nothing(swept):
    ruined = [point.name for point in swept.points if point.config.learning_rate > 1]
    assert sorted(swept.errors) == sorted(ruined)
    errors = swept.table[swept.table.run.isin(ruined)].error.unique()
    assert all(re.match(r"Step \d of 3: The .* is (nan|inf)\.", error) for error in errors)
    assert "learning rate that is too high" in swept.errors[ruined[0]]


def test_the_summary_is_over_seeds_with_the_best_rate(swept):
    summary = pd.read_csv(swept.folder / "summary.csv")
    assert summary.learning_rate.tolist() == [1e-3, 2e-2]
    assert summary.runs.tolist() == [2, 2]
    last = swept.table[swept.table.step == 3]
    for row in summary.itertuples():
        runs = last[last.learning_rate == row.learning_rate]
        losses = runs.groupby("run").test_loss.first().tolist()
        assert row.test_loss == pytest.approx(statistics.mean(losses), rel=1e-12)
        assert row.test_loss_se == pytest.approx(statistics.stdev(losses) / 2**0.5, rel=1e-12)
        ess = runs.groupby("run").entropy_ess.mean().tolist()
        assert row.entropy_ess == pytest.approx(statistics.mean(ess), rel=1e-12)
        assert row.entropy_ess_se == pytest.approx(statistics.stdev(ess) / 2**0.5, rel=1e-12)
    best = summary[summary.best]
    assert len(best) == 1
    key = [(-row.accuracy, row.test_loss) for row in summary.itertuples()]
    assert (-best.accuracy.item(), best.test_loss.item()) == min(key)


def test_swept_again_only_what_is_missing_is_trained(swept, here):
    finished = {point.name for point in swept.points if point.config.learning_rate < 1}
    # Other values, another order of the axes, and one more axis that changes nothing.
    wider = {**dict(reversed(AXES.items())), "learning_rate": [1e-3, 2e-2, 5e-3], "steps": [3]}
    again = sweep(BASE, wider, swept.folder, processes=1, progress=False)
    assert len(here) == 2
    assert not set(here) & finished
    assert not again.errors
    assert again.table.run.nunique() == 6
    # The file is what is needed to do it once more.
    written = yaml.safe_load((swept.folder / "sweep.yaml").read_text())
    axes = written.pop("sweep")
    assert points_of(written, axes) == again.points


def test_a_sweep_without_seeds_or_axes(here, tmp_path):
    result = sweep(BASE, {}, tmp_path, processes=1, progress=False)
    assert len(result.points) == 1
    assert result.summary.runs.tolist() == [1]
    assert result.summary.accuracy_se.isna().all()
    assert "best" not in result.summary


def test_nothing_is_trained_if_one_combination_is_wrong(here, tmp_path):
    with pytest.raises(InvalidInputError, match=r"model\.mixers=GLU: .*no mixer 'GLU'"):
        sweep(BASE, {"model.mixers": [["LA"], ["GLU"]]}, tmp_path / "sweep", progress=False)
    with pytest.raises(InvalidTypeError, match=r"steps=ten: steps must be a whole number"):
        sweep(BASE, {"steps": [3, "ten"]}, tmp_path / "sweep", progress=False)
    with pytest.raises(InvalidTypeError, match="'seed' must be a list"):
        sweep(BASE, {"seed": 3}, tmp_path / "sweep", progress=False)
    with pytest.raises(InvalidTypeError, match="name of a field, got 1"):
        sweep(BASE, {1: [3]}, tmp_path / "sweep", progress=False)
    with pytest.raises(InvalidInputError, match="'seed' has no values"):
        sweep(BASE, {"seed": []}, tmp_path / "sweep", progress=False)
    with pytest.raises(InvalidInputError, match="processes must be at least 1"):
        sweep(BASE, {"seed": [1]}, tmp_path / "sweep", processes=0, progress=False)
    assert here == []
    assert not (tmp_path / "sweep").exists()


def test_a_folder_that_was_tampered_with_is_an_error_of_its_run(swept, here):
    point = swept.points[0]
    run = folder_of(swept.folder, point)
    (run / "run.yaml").write_text(small_config(seed=7).to_yaml())
    again = sweep(BASE, {**AXES, "learning_rate": [1e-3]}, swept.folder, progress=False)
    assert list(again.errors) == [point.name]
    assert "another configuration" in again.errors[point.name]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.yaml", "", "must hold a mapping"),
        ("log.jsonl", '{"step": 0}\n{"st', ""),
        ("log.jsonl", '{"step": 0}\n{"st\n', "is damaged"),
        ("log.jsonl", "3\n", "'3' is no record of a step"),
    ],
)
def test_damaged_files_are_errors_of_their_run(swept, here, file, content, message):
    point = swept.points[0]
    (folder_of(swept.folder, point) / file).write_text(content)
    again = sweep(BASE, {**AXES, "learning_rate": [1e-3]}, swept.folder, progress=False)
    assert list(again.errors) == ([point.name] if message else [])
    assert message in again.errors.get(point.name, "")
    assert here == []
    assert again.summary.runs.tolist() == [1]


def test_values_of_numpy_and_tuples_are_written_as_plain_ones(here, tmp_path):
    axes = {"learning_rate": [np.float64(1e-3)], "betas": [(0.9, 0.95)]}
    result = sweep(BASE, axes, tmp_path, progress=False)
    assert not result.errors
    written = yaml.safe_load((tmp_path / "sweep.yaml").read_text())
    assert written["sweep"] == {"learning_rate": [0.001], "betas": [[0.9, 0.95]]}
    read = points_of(written, written.pop("sweep"))
    assert [point.config for point in read] == [point.config for point in result.points]


def test_names_are_readable_unique_and_stay():
    axes = {"model.mixers": [["GLA", "SA"], ["SA", "GLA"]], "regularizer": [None]}
    names = [point.name for point in points_of(BASE.to_dict(), axes)]
    assert len(set(names)) == 2
    assert all(set(name) <= set("+-=_.") | set(map(chr, range(48, 123))) for name in names)
    assert names[0].startswith("mixers=GLA+SA_regularizer=none-")
    assert names == [point.name for point in points_of(BASE.to_dict(), axes)]
    assert len(points_of(BASE.to_dict(), {"seed": [1, 1]})) == 1


def test_axes_may_give_what_the_base_lacks():
    base = {"task": {"name": "multi_query_recall", "length": 16, "vocabulary": 16}}
    points = points_of(base, {"task.pairs": [2, 4]})
    assert [point.config.task.arguments["pairs"] for point in points] == [2, 4]
    assert [label(value) for value in ([1, 2], {"a": None}, True, "x")] == [
        "1+2",
        '{"a": null}',
        True,
        "x",
    ]


def test_interrupted_and_swept_again(tmp_path):
    """With a real process, which leaves a checkpoint."""
    base = small_config(steps=200, evaluate_every=None, measure_every=None, save_every=5)
    folder = tmp_path / "sweep"
    run = folder_of(folder, points_of(base.to_dict(), {"seed": [0]})[0])
    before = signal.getsignal(signal.SIGINT)

    def interrupt():
        while not (run / CHECKPOINT).exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SweepInterrupted, match=r"0 of 2 runs finished.*goes on from there"):
        sweep(base, {"seed": [0, 1]}, folder, processes=1, progress=False)
    thread.join()
    assert signal.getsignal(signal.SIGINT) == before
    assert (run / CHECKPOINT).exists()
    assert not (run / "results.json").exists()
    train(base, run, progress=False)
    train(base, tmp_path / "undisturbed", progress=False)
    assert outcome(run) == outcome(tmp_path / "undisturbed")


def test_steps_of_runs_by_their_logs(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    runs = {tmp_path / name: 10 for name in "abc"}
    for run in runs:
        run.mkdir()
    steps = StepsOfRuns(runs, [tmp_path / "b", tmp_path / "c"])
    assert (steps.total, steps.done()) == (30, 10)
    append_record(tmp_path / "b", {"step": 4})
    assert steps.done() == 10  # a second has not passed
    now[0] = 1.5
    assert steps.done() == 14
    steps.end(tmp_path / "c")
    assert steps.done() == 24
    (tmp_path / "b" / "log.jsonl").write_text("damaged\n")
    now[0] = 3.0
    assert steps.done() == 24
