"""docs/paper.md is what docs/make_paper_page.py makes of the committed results."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from hf_ess.lab import EXPERIMENTS, Reproduction
from hf_ess.lab.paper.experiment import Scale, Verdict

DOCS = Path(__file__).resolve().parents[3] / "docs"
AGAIN = "run `python docs/make_paper_page.py` and commit what it writes"
HOST_OR_PATH = re.compile(r"/(home|work|tmp|root|Users)/")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_paper_page", DOCS / "make_paper_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def experiments(script):
    return script.made(Scale.small)


def test_page_is_up_to_date(script, experiments):
    written = script.PAGE.read_text(encoding="utf-8")
    assert written == script.page_of(experiments), AGAIN
    assert not HOST_OR_PATH.search(written)


def test_every_experiment_has_a_verdict_and_a_figure(script, experiments):
    assert list(experiments) == list(EXPERIMENTS)
    page = script.PAGE.read_text(encoding="utf-8")
    for name, one in experiments.items():
        assert f"](#{name}) | {one.finding.verdict.value} |" in page
        assert f"hf-ess lab reproduce {name} --scale small" in page
        assert (script.FIGURES / script.figure_of(name)).stat().st_size > 10_000
        assert one.finding.tables
        assert one.finding.verdict in Verdict


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_committed_verdicts_follow_from_committed_rows(script, experiments, name):
    folder = script.RESULTS / "small" / name
    record = json.loads((folder / "finding.json").read_text(encoding="utf-8"))
    assert experiments[name].to_dict() == record, AGAIN
    assert (folder / "results.csv").stat().st_size < 150_000
    assert not HOST_OR_PATH.search((folder / "results.csv").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_figures_are_drawn_from_committed_rows(experiments, name, tmp_path):
    experiments[name].plot(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_results_of_another_folder_are_taken_over(script, monkeypatch, tmp_path):
    name = next(iter(EXPERIMENTS))
    source = Reproduction.read(script.RESULTS / "small" / name)
    source.save(tmp_path / "out" / "small" / name)
    monkeypatch.setattr(script, "RESULTS", tmp_path / "kept")
    script.take_over(tmp_path / "out", Scale.small)
    kept = sorted(path.name for path in (tmp_path / "kept" / "small").glob("*/*"))
    assert kept == ["finding.json", "results.csv"]
    pd.testing.assert_frame_equal(script.made(Scale.small)[name].rows, source.rows)


def test_tables_are_markdown(script):
    table = pd.DataFrame({"a|b": ["x|y", None], "n": [1.5, float("nan")]})
    assert list(script.markdown(table)) == [
        *("| a|b | n |", "|---|---:|"),
        *("| x\\|y | 1.5 |", "|  |  |"),
    ]
