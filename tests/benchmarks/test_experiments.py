"""Experiments whose figures are kept: what the pages show comes from the kept rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hf_ess.lab import RunConfig
from hf_ess.lab.written import read_written

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "train-with-ess.md"
SWEEP = ROOT / "benchmarks" / "experiments" / "regularizer.yaml"


@pytest.fixture
def script(load_script):
    return load_script("experiments.regularizer_table")


def test_the_page_shows_the_kept_rows(script) -> None:
    assert script.table(pd.read_csv(script.KEPT)) in PAGE.read_text("utf-8")


def test_the_kept_rows_are_those_of_the_sweep(script) -> None:
    written = read_written(SWEEP)
    axes = written.pop("sweep")
    rows = pd.read_csv(script.KEPT)
    assert len(rows) == len(axes["regularizer"]) * len(axes["learning_rate"]) * len(axes["seed"])
    assert set(rows.learning_rate) == set(axes["learning_rate"])
    terms = [
        "none" if term is None else script.name_of(script.json.dumps(term))
        for term in axes["regularizer"]
    ]
    assert list(rows.regularizer.map(script.name_of).unique()) == terms
    assert RunConfig.from_dict(written).task.arguments["pairs"] == script.PAIRS


def test_means_and_standard_errors(script) -> None:
    rows = pd.DataFrame(
        {
            "regularizer": ["none"] * 3,
            "learning_rate": [1e-3] * 3,
            "seed": [0, 1, 2],
            "accuracy": [0.1, 0.2, 0.6],
            "entropy_ess_per_pair": [1.0, 1.0, 1.0],
            "tolerance_ess_0.1": [8.0, 8.0, 16.0],
        }
    )
    # Standard deviations 0.2646 and 4.619 (n - 1), over the root of 3.
    assert script.table(rows).splitlines()[2:] == [
        "| none | 0.001 | 0.30 ± 0.15 | 1.00 ± 0.00 | 1.33 ± 0.33 |"
    ]


def test_a_sweep_is_read_at_its_last_step(script, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "regularizer": "none",
            "learning_rate": 1e-3,
            "seed": 0,
            "step": [0, 0, 5, 5],
            "index": [0, 1, 0, 1],
            "accuracy": [0.0, 0.0, 0.5, 0.5],
            "entropy_ess_per_pair": [1.0, 2.0, 3.0, 4.0],
            "tolerance_ess_0.1": [8.0, 8.0, 16.0, 24.0],
        }
    )
    rows.to_csv(tmp_path / "results.csv", index=False)
    (last,) = script.last_rows(tmp_path / "results.csv").to_dict("records")
    assert (last["accuracy"], last["entropy_ess_per_pair"]) == (0.5, 4.0)
