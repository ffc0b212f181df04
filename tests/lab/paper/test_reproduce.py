"""Experiments: trained once, pieces once, judged from what was written, shared by processes."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest
from lab.in_this_process import train_here
from lab.paper.tiny_experiment import LONG, Tiny, sleeping, squared, where_from
from launching import torchrun

from hf_ess.errors import InvalidInputError, ProcessFailedError, ReportError
from hf_ess.lab import EXPERIMENTS, Reproduction, reproduce
from hf_ess.lab.paper.experiment import Scale, Trainings, Verdict
from hf_ess.lab.paper.pieces import computed
from hf_ess.lab.paper.work import Work
from hf_ess.lab.sweep_points import points_of
from hf_ess.report.folders import sole_user


@pytest.fixture(autouse=True)
def here(monkeypatch):
    train_here(monkeypatch)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setitem(EXPERIMENTS, "tiny", Tiny(marks))
    return marks


def _written(folder):
    return json.loads((folder / "tiny" / "pieces" / "a.json").read_text())


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _made(tmp_path, **options):
    options = {"processes": 1, "progress": False} | options
    return reproduce("tiny", out=tmp_path / "out", **options)


def test_rows_verdict_and_figure(tiny, tmp_path):
    made = _made(tmp_path, scale="small", models=["experiments on trainings take none"])
    assert made.finding.verdict is Verdict.reproduced
    assert list(made.rows["seed"]) == [0, 1]
    assert list(made.rows["largest"]) == [9, 9]
    folder = tmp_path / "out" / "small" / "tiny"
    assert {path.name for path in folder.iterdir()} == {
        *("results.csv", "finding.json", "figure.png", "pieces")
    }
    record = json.loads((folder / "finding.json").read_text())
    assert record["words"] == "The largest is 9."
    assert record["provenance"]["command"] == (
        "hf-ess lab reproduce tiny --scale small --processes 1"
    )
    assert record["provenance"]["models"] == []
    read = Reproduction.read(folder)
    assert read.to_dict() == made.to_dict() == record
    pd.testing.assert_frame_equal(read.rows, made.rows)


def test_what_is_done_is_not_done_again(tiny, tmp_path):
    first = _made(tmp_path)
    runs = tmp_path / "out" / "small" / "trainings" / "tiny" / "runs"
    times = {path: path.stat().st_mtime_ns for path in runs.glob("*/results.json")}
    assert len(times) == 2
    second = _made(tmp_path)
    assert second.to_dict() == first.to_dict()
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/results.json")} == times
    assert [len(mark.read_text().splitlines()) for mark in sorted(tiny.iterdir())] == [1, 1, 1]
    # The seconds are those of trainings and pieces, whenever they were spent.
    spent = sum(json.loads(path.read_text())["seconds"] for path in times)
    assert second.provenance["seconds"] == pytest.approx(spent, abs=2)


def test_pieces_of_other_arguments_are_made_anew(tiny, tmp_path):
    _made(tmp_path)
    pieces = tmp_path / "out" / "small" / "tiny" / "pieces"
    for name, damage in {"of 1": "{", "of 2": '{"arguments": {"number": 7}}'}.items():
        (pieces / f"{name}.json").write_text(damage)
    assert _made(tmp_path).finding.verdict is Verdict.reproduced
    counts = [len((tiny / f"computed-{n}").read_text().splitlines()) for n in (1, 2, 3)]
    assert counts == [2, 2, 1]


def test_runs_of_a_minute_decide_nothing(tiny, tmp_path):
    made = _made(tmp_path, scale="minute")
    assert made.finding.verdict is Verdict.undecidable
    read = Reproduction.read(tmp_path / "out" / "minute" / "tiny")
    assert read.finding.verdict is Verdict.undecidable


def test_a_verdict_follows_the_rows(tiny, tmp_path):
    _made(tmp_path)
    path = tmp_path / "out" / "small" / "tiny" / "results.csv"
    rows = pd.read_csv(path)
    rows["largest"] = 8
    rows.to_csv(path, index=False)
    read = Reproduction.read(path.parent)
    assert read.finding.verdict is Verdict.contradicted
    assert read.finding.words == "The largest is 8."
    written = path.read_text()
    read.save_rows_and_record(path.parent)
    assert path.read_text() == written
    record = json.loads((path.parent / "finding.json").read_text())
    assert record["words"] == "The largest is 8."


def test_failed_runs_are_named(tmp_path):
    base = Tiny().trainings(Scale.small)[0].base
    broken = Trainings("broken", base, {"learning_rate": [1e30]})
    work = Work(tmp_path, "tiny", Scale.small, processes=1, progress=False)
    with pytest.raises(ReportError, match=r"1 of 1 runs of 'broken' failed; learning_rate=1e\+30"):
        work.trained(broken)


def test_a_run_that_fails_does_not_keep_others_from_being_judged(monkeypatch, tmp_path):
    class Diverging(Tiny):
        def trainings(self, scale):
            (one,) = super().trainings(scale)
            return (replace(one, axes={"learning_rate": [1e-3, 1e30], "seed": [0]}),)

    monkeypatch.setitem(EXPERIMENTS, "tiny", Diverging())
    made = _made(tmp_path)
    (run,) = made.provenance["failed_runs"]
    assert run.startswith("learning_rate=1e+30")
    assert len(made.rows) == 1
    assert f"Left out, since the training failed: {run}: Step" in made.finding.words
    assert Reproduction.read(tmp_path / "out" / "small" / "tiny").to_dict() == made.to_dict()


def test_unverified_layers_stay_in_the_table(tmp_path):
    work = Work(tmp_path, "tiny", Scale.small, processes=1, progress=False)
    (trainings,) = Tiny().trainings(Scale.small)
    result = work.trained(trainings)
    log = result.folder / "runs" / result.points[0].name / "log.jsonl"
    log.write_text(log.read_text().replace('"verified": true', '"verified": false', 1))
    table = work.table(trainings)
    assert list(table["verified"]) == [False] + [True] * (len(table) - 1)


def test_an_error_of_a_piece_is_raised_and_others_are_kept(tmp_path):
    work = Work(tmp_path, "tiny", Scale.small, processes=1, progress=False)
    marks = {"folder": str(tmp_path)}
    with pytest.raises(TypeError):
        work.pieces(squared, {"a": {"number": 2, **marks}, "b": {"number": "x", **marks}})
    assert json.loads((tmp_path / "tiny" / "pieces" / "a.json").read_text())["result"] == {
        "square": 4
    }


def test_a_moved_folder_keeps_its_pieces(tmp_path):
    def pieces(folder):
        work = Work(folder, "tiny", Scale.small, processes=1, progress=False)
        source = str(folder / "trainings" / "run")
        return work.pieces(where_from, {"a": {"source": source}})

    first = pieces(tmp_path / "here")
    assert first["a"] == str(tmp_path / "here" / "trainings" / "run")
    (tmp_path / "here").rename(tmp_path / "there")
    assert pieces(tmp_path / "there") == first
    assert (
        "here" not in json.loads((tmp_path / "there/tiny/pieces/a.json").read_text())["arguments"]
    )


def test_one_process_at_a_time_measures_in_a_folder(tmp_path):
    work = Work(tmp_path, "tiny", Scale.small, processes=1, progress=False)
    with (
        sole_user(tmp_path / "tiny" / "pieces"),
        pytest.raises(InvalidInputError, match="Another process"),
    ):
        work.pieces(where_from, {"a": {"source": "there"}})


@pytest.mark.parametrize(
    ("how", "error"), [("raises", ZeroDivisionError), ("ends", ProcessFailedError)]
)
@pytest.mark.parametrize("start_takes", [0, 0.3])
def test_an_error_ends_the_other_processes(tmp_path, monkeypatch, start_takes, how, error):
    start = ProcessPoolExecutor._adjust_process_count

    def slow_start(pool):
        time.sleep(start_takes)
        start(pool)

    monkeypatch.setattr(ProcessPoolExecutor, "_adjust_process_count", slow_start)
    given = {name: {"folder": str(tmp_path), "how": name} for name in ("sleeps", how)}
    began = time.monotonic()
    with pytest.raises(error):
        list(computed(sleeping, given, processes=2))
    assert time.monotonic() - began < LONG / 2
    sleeps = int((tmp_path / "sleeps").read_text())
    while is_alive(sleeps):
        assert time.monotonic() - began < LONG / 2
        time.sleep(0.05)


def test_processes_of_a_launcher_share_the_work(tiny, tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(
        "import sys\n"
        "from lab.paper.tiny_experiment import Tiny\n"
        "from hf_ess.lab import EXPERIMENTS, reproduce\n"
        "if __name__ == '__main__':\n"
        "    EXPERIMENTS['tiny'] = Tiny(sys.argv[1] + '/marks')\n"
        "    reproduce('tiny', out=sys.argv[1] + '/out', processes=1, progress=False)\n"
    )
    ended = torchrun(2, script, tmp_path)
    assert ended.returncode == 0, ended.stderr
    shared = Reproduction.read(tmp_path / "out" / "small" / "tiny")
    assert shared.finding.verdict is Verdict.reproduced
    marks = [path.read_text().split() for path in sorted(tiny.iterdir())]
    assert len(marks) == 3  # each computed once, by two processes that are not those of torchrun
    assert {rank for _, rank in marks} == {"None"}
    assert len({process for process, _ in marks}) == 2
    (trainings,) = Tiny().trainings(Scale.small)
    alone = Work(tmp_path / "alone", "tiny", Scale.small, progress=False).table(trainings)
    folder = tmp_path / "out" / "small" / "trainings" / "tiny"
    pd.testing.assert_frame_equal(
        pd.read_csv(folder / "results.csv").assign(pairs=2)[["seed", "step", "accuracy"]],
        alone[["seed", "step", "accuracy"]],
    )


def test_wrong_arguments(tmp_path):
    with pytest.raises(InvalidInputError, match="There is no experiment 'colapse'"):
        reproduce("colapse", out=tmp_path)
    with pytest.raises(InvalidInputError, match="There is no scale 'large'"):
        reproduce("hybrids", scale="large", out=tmp_path)
    with pytest.raises(InvalidInputError, match="processes must be at least 1"):
        reproduce("hybrids", processes=0, out=tmp_path)
    with pytest.raises(ReportError, match="holds no experiment"):
        Reproduction.read(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", list(EXPERIMENTS))
@pytest.mark.parametrize("scale", list(Scale))
def test_every_configuration_is_accepted(name, scale):
    experiment = EXPERIMENTS[name]
    for trainings in experiment.trainings(scale):
        points = points_of(trainings.base, trainings.axes)
        assert points
        assert {point.config.task.vocabulary for point in points} == {
            trainings.base["task"]["vocabulary"]
        }
    texts = (experiment.title, experiment.source, experiment.claim, experiment.setting)
    assert all(texts)
