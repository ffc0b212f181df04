"""`hf-ess compare` and `hf-ess leaderboard`: every option, every format, and how they end."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest
from report.synthetic import make_layer, make_report, unverified

import hf_ess

FILES = ("report.json", "arrays.safetensors")


@pytest.fixture
def folders(tmp_path):
    """Three comparable reports and one with a window; a and b, and c and windowed, are alike."""
    reports = {
        "a": make_report(2, provenance={"model": "org/one"}),
        "b": make_report(3, seed=1, provenance={"model": "org/two"}),
        "c": make_report(4, seed=2, provenance={"model": "org/one"}),
        "windowed": make_report(2, window=(2, 2), provenance={"model": "org/one"}),
    }
    return {name: report.save(tmp_path / "reports" / name) for name, report in reports.items()}


def loaded(folders, *names):
    return [hf_ess.ESSReport.load(folders[name]) for name in names]


def lines(text):
    return [line.rstrip() for line in text.rstrip().splitlines()]


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ([], {}),
        (["--metric", "1e-3"], {"metric": 1e-3}),
        (["--metric", "entropy", "--by", "depth"], {"by": "depth"}),
        (["--by", "position", "--metric", "0.1"], {"by": "position", "metric": 0.1}),
        (["--by", "model"], {"by": "model"}),
    ],
)
def test_the_table_is_the_summary(run_command, folders, options, arguments):
    status, out, err = run_command("compare", folders["a"], folders["b"], *options)
    assert (status, err) == (0, "")
    comparison = hf_ess.compare(loaded(folders, "a", "b"))
    assert lines(out) == lines(comparison.summary(120, **arguments))


def test_json_and_csv(run_command, folders):
    comparison = hf_ess.compare(loaded(folders, "a", "b"))
    given = ("compare", folders["a"], folders["b"])
    status, out, _ = run_command(*given, "--format", "json")
    assert status == 0
    assert json.loads(out) == json.loads(json.dumps(comparison.to_dict()))
    status, out, err = run_command(*given, "--format", "csv", "--by", "depth", "--metric", "0.1")
    assert (status, err) == (0, "")
    assert out == comparison.to_csv("depth", 0.1)
    status, out, _ = run_command(*given, "--format", "csv")
    assert {row["metric"] for row in csv.DictReader(io.StringIO(out))} == {
        "entropy-ESS", "tolerance-ESS(0.1)", "tolerance-ESS(0.001)", "tolerance-ESS(1e-05)",
    }  # fmt: skip


def test_a_plot(run_command, folders, tmp_path):
    path = tmp_path / "figure.png"
    status, out, err = run_command(
        "compare", folders["a"], folders["b"], "--plot", path, "--by", "depth"
    )
    assert (status, err) == (0, f"wrote {path}\n")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "by depth" in " ".join(out.split())


def test_folders_tell_reports_of_one_model_apart(run_command, folders):
    _, out, _ = run_command("compare", folders["a"], folders["c"], "--format", "json")
    names = [one["name"] for one in json.loads(out)["reports"]]
    assert names == [str(folders["a"]), str(folders["c"])]
    _, out, _ = run_command("compare", folders["a"], folders["a"], "--format", "json")
    assert [one["name"] for one in json.loads(out)["reports"]] == ["one [1]", "one [2]"]


def test_what_is_not_comparable_is_refused_unless_forced(run_command, folders):
    given = ("compare", folders["a"], folders["windowed"])
    status, out, err = run_command(*given)
    assert (status, out) == (1, "")
    assert err.startswith("error: These reports are not comparable.\n  - window: none (")
    status, out, err = run_command(*given, "--force")
    assert (status, err) == (0, "")
    assert out.startswith("NOT COMPARABLE")
    status, out, err = run_command(*given, "--force", "--format", "csv")
    assert status == 0
    assert "window: none" in err
    assert all("window" in row["not comparable"] for row in csv.DictReader(io.StringIO(out)))
    status, out, _ = run_command(*given, "--force", "--format", "json")
    assert json.loads(out)["differences"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "much"], "'much' is neither 'entropy' nor a tolerance"),
        (["--metric", "0.3"], "no metric 0.3"),
        (["--plot", "x.png", "--by", "model"], "Draw --by layer"),
        (["--plot", "missing/x.png"], "Cannot write"),
    ],
)
def test_options_that_cannot_be(run_command, folders, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = run_command("compare", folders["a"], folders["b"], *options)
    assert (status, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_one_report_or_none(run_command, folders):
    status, _, err = run_command("compare", folders["a"])
    assert status == 1
    assert "at least two reports" in err
    status, _, err = run_command("compare", folders["a"], "./nowhere")
    assert status == 1
    assert "nowhere" in err


def test_a_leaderboard_of_a_folder_of_folders(run_command, folders):
    root = folders["a"].parent
    status, out, err = run_command("leaderboard", root, "--format", "json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["failed"] == []
    reports = dict(zip("abc", loaded(folders, *"abc"), strict=True))
    best = sorted(reports, key=lambda name: -reports[name].average_ess())
    expected = [*(str(folders[name]) for name in best), str(folders["windowed"])]
    assert [row["source"] for row in document["rows"]] == expected
    assert [row["group"] for row in document["rows"]] == [1, 1, 1, 2]
    assert document["rows"][0]["entropy-ESS"] == reports[best[0]].average_ess()


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(run_command, folders, tmp_path):
    bad = folders["b"]
    (bad / "arrays.safetensors").write_bytes(b"cut")
    (tmp_path / "empty").mkdir()
    sources = (folders["a"].parent, tmp_path / "empty", "./nowhere", "no such name")
    status, out, err = run_command("leaderboard", *sources, "--format", "json")
    assert status == 1
    document = json.loads(out)
    assert len(document["rows"]) == 3
    failed = {one["source"]: one["reason"] for one in document["failed"]}
    assert list(failed) == [str(bad), *map(str, sources[1:])]
    assert "is damaged" in failed[str(bad)]
    assert "holds no report" in failed[str(tmp_path / "empty")]
    for source in failed:
        assert f"error: {source}: " in err
    assert "Traceback" not in err


def test_a_report_that_is_given_twice_is_one_row(run_command, folders):
    status, out, _ = run_command(
        "leaderboard", folders["a"], folders["a"].parent, folders["a"], "--format", "csv"
    )
    assert status == 0
    sources = [row["source"] for row in csv.DictReader(io.StringIO(out))]
    assert sorted(sources) == sorted(map(str, folders.values()))


@pytest.mark.parametrize("form", ["table", "csv", "markdown", "json"])
def test_every_format_to_a_file(run_command, folders, tmp_path, form):
    path = tmp_path / "board"
    given = ("leaderboard", folders["a"], folders["b"], "--format", form)
    _, printed, _ = run_command(*given)
    status, out, err = run_command(*given, "--out", path)
    assert (status, out, err) == (0, "", f"wrote {path}\n")
    assert path.read_text(encoding="utf-8") == printed
    assert printed.count("org/two") == 1
    assert sorted(x.name for x in folders["a"].iterdir()) == sorted(FILES)


def test_metric_and_sort(run_command, folders):
    given = ("leaderboard", folders["a"], folders["b"], "--format", "json")
    _, out, _ = run_command(*given, "--metric", "0.1", "--sort", "model")
    document = json.loads(out)
    assert [row["model"] for row in document["rows"]] == ["org/one", "org/two"]
    assert "entropy-ESS" not in document["columns"]
    status, out, err = run_command(*given, "--sort", "nope")
    assert (status, out) == (1, "")
    assert "No column begins with 'nope'" in err


def test_terminal_escapes_reach_neither_stream(run_command, tmp_path):
    nasty = "evil\x1b[31m"
    folder = make_report(1, provenance={"model": nasty}).save(tmp_path / nasty)
    broken = shutil.copytree(folder, tmp_path / "b\x1b[0m")
    (broken / "report.json").write_text("{")
    for form in ("table", "csv", "markdown"):
        status, out, err = run_command("leaderboard", folder, broken, "--format", form)
        assert status == 1
        assert "\x1b" not in out + err
    status, out, err = run_command("compare", folder, folder)
    assert status == 0
    assert "\x1b" not in out + err


def test_a_report_without_verified_layers_is_a_row_of_its_own(run_command, folders, tmp_path):
    empty = make_report([make_layer(0, **unverified())]).save(tmp_path / "empty")
    status, out, _ = run_command("leaderboard", folders["a"], folders["b"], empty)
    assert status == 0
    assert "not comparable with group 1 in verified layers" in " ".join(out.split())
