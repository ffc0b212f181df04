"""Dynamics: verdicts on made-up courses, and what is counted apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lab.paper.made_up_runs import made_up

from hf_ess.lab import EXPERIMENTS
from hf_ess.lab.paper.experiment import Verdict

DYNAMICS = EXPERIMENTS["dynamics"]
CORRELATIONS = "Median correlation with accuracy within runs"
MOVEMENT = "Entropy-ESS during training"


def _rows(constrained, *, drops=True, rises=True, gain=0.5):
    """Eight runs of each kind: correlations about a number, and ESS that drops and rises or not."""
    generator = np.random.default_rng(0)
    points = []
    for kind in ("LA", "GLA", "WLA", "SA"):
        for number in range(8):
            scarce = kind != "SA" and number % 2 == 0
            centre = constrained if scarce else 0.2
            moves = drops if kind != "SA" else False
            points.append(
                {
                    "kind": "run",
                    "featurizer": kind,
                    "tss": 4,
                    "pairs": 8 if scarce else 2,
                    "seed": number,
                    "constrained": scarce,
                    "accuracy": 0.1 + gain,
                    "least_accuracy": 0.1,
                    "most_accuracy": 0.1 + gain,
                    "correlation_entropy_ess": centre + generator.uniform(-0.03, 0.03),
                    **{f"correlation_tolerance_ess_{t}": -0.3 for t in ("0.1", "0.001", "1e-05")},
                    "correlation_after_first_step": 0.5,
                    "ess_first": 2.0,
                    "ess_lowest": 1.0 if moves else 2.0,
                    "ess_last": 3.0 if rises and kind == "SA" else 2.0,
                    "step_of_lowest": 300 if moves else 0,
                }
            )
    curves = [
        {"kind": "curve", "featurizer": kind, "model": kind, "beta": None, "step": step}
        | {"accuracy": step / 200, "entropy_ess": 1 - step / 400}
        for kind in ("LA", "SA")
        for step in (0, 100)
    ]
    return pd.concat([made_up(points), pd.DataFrame(curves)], ignore_index=True)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (_rows(0.95), Verdict.reproduced),
        (_rows(0.5), Verdict.partly),
        (_rows(0.95, drops=False), Verdict.partly),
        (_rows(0.5, drops=False, rises=False), Verdict.contradicted),
    ],
)
def test_verdicts(rows, verdict):
    finding = DYNAMICS.judge(rows)
    assert finding.verdict is verdict
    gated = rows[(rows["featurizer"] == "GLA") & rows["constrained"].eq(True)]
    median = np.median(gated["correlation_entropy_ess"])
    reach = (gated["correlation_entropy_ess"] >= 0.9).sum()
    assert f"GLA {median:.2f} ({reach} of 4), without the untrained model 0.50" in finding.words
    drops = (rows["ess_lowest"] < rows["ess_first"]).sum()
    assert f"at some step of {drops} of 24 recurrent runs" in finding.words
    rises = (rows["ess_last"] > rows["ess_first"]).sum()
    assert f"above its start in {rises} of 8 runs of attention, where it drops in 0 of 8" in (
        finding.words
    )
    assert "is negative in 8 of 8 (LA), 8 of 8 (GLA), 8 of 8 (WLA), 8 of 8 (SA)" in finding.words


def test_runs_that_learn_nothing_are_counted_apart():
    rows = _rows(0.95)
    flat = (rows["featurizer"] == "WLA") & rows["seed"].isin([0, 2])
    rows.loc[flat, "most_accuracy"] = 0.15
    rows.loc[flat, "correlation_entropy_ess"] = -1.0
    finding = DYNAMICS.judge(rows)
    assert finding.verdict is Verdict.reproduced
    assert "moves by less than 0.1: WLA 2." in finding.words
    table = finding.tables[CORRELATIONS].set_index(["models", "memory-constrained"])
    assert table.loc[("WLA", "yes"), "runs"] == 2
    nothing = DYNAMICS.judge(_rows(0.95, gain=0.05))
    assert nothing.verdict is Verdict.undecidable


def test_correlations_that_have_no_value_are_not_counted():
    rows = _rows(0.95)
    rows.loc[:2, "correlation_tolerance_ess_0.1"] = np.nan
    table = DYNAMICS.judge(rows).tables[CORRELATIONS].set_index(["models", "memory-constrained"])
    cells = table["tolerance-ESS 0.1 [95 %] (runs)"]
    assert cells[("LA", "yes")] == "-0.30 [-0.30, -0.30] (2)"
    assert cells[("GLA", "yes")] == "-0.30 [-0.30, -0.30] (4)"
    assert table.loc[("SA", "no"), "entropy-ESS without step 0"] == "0.50"


def test_correlations_by_size():
    rows = _rows(0.95)
    large = rows["featurizer"].eq("GLA") & rows["pairs"].eq(2)
    rows.loc[large, "state_size"] = 16.0
    rows.loc[large, "correlation_tolerance_ess_0.1"] = [-0.9, -0.8, -0.7, 0.5]
    (table,) = (one for title, one in DYNAMICS.judge(rows).tables.items() if "by TSS" in title)
    assert [tuple(row) for row in table[["models", "TSS", "runs"]].to_numpy()] == [
        *(("LA", "4", 8), ("GLA", "4", 4), ("GLA", "16", 4), ("WLA", "4", 8))
    ]
    assert list(table["tolerance-ESS 0.1"]) == ["-0.30", "-0.30", "-0.75", "-0.30"]


def test_unverified_runs_are_named():
    rows = _rows(0.95)
    rows.loc[0, "verified"] = False
    finding = DYNAMICS.judge(rows)
    assert finding.words.endswith("heads 8, pairs 8, learning rate 0.002, seed 0.")
    table = finding.tables[MOVEMENT].set_index(["models", "memory-constrained"])
    assert table.loc[("LA", "yes"), "drops"] == "3 of 3"
    assert table.loc[("LA", "no"), "step of the lowest, median"] == "300"
    assert table.loc[("SA", "no"), "last / first, median"] == "1.50"


def test_figure():
    figure = DYNAMICS.draw(_rows(0.95))
    scarce, others, accuracy, ess = figure.axes
    legends = [
        {text.get_text() for text in axes.get_legend().get_texts()} for axes in (scarce, others)
    ]
    assert legends == [
        {"LA (4)", "GLA (4)", "WLA (4)"},
        {"LA (4)", "GLA (4)", "WLA (4)", "SA (8)"},
    ]
    np.testing.assert_allclose(accuracy.get_lines()[0].get_ydata(), [0, 0.5])
    np.testing.assert_allclose(ess.get_lines()[1].get_ydata(), [1, 0.75])
