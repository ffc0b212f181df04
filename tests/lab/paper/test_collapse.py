"""Collapse: both halves of the verdict, and tables by size and pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lab.paper.made_up_runs import made_up

from hf_ess.lab import EXPERIMENTS
from hf_ess.lab.paper.experiment import Verdict

COLLAPSE = EXPERIMENTS["collapse"]
# Accuracy and share of the attainable state, at 8 pairs.
FULL, EMPTY, WASTED = (1.0, 0.8), (0.1, 0.2), (0.1, 0.8)


def _rows(large, small):
    """Runs of two layers by what comes of each featurizer with a TSS of 16, and of 2."""
    return made_up(
        {
            "featurizer": kind,
            "tss": tss,
            "attainable": tss / 2,
            "pairs": pairs,
            "index": layer,
            "accuracy": accuracy if pairs == 8 else 1.0,
            "tolerance_ess_0.001": (share + 0.1 * (2 * layer - 1)) * tss / 2,
        }
        for sizes, tss in ((small, 2), (large, 16))
        for kind, (accuracy, share) in sizes.items()
        for pairs in (2, 8)
        for layer in (0, 1)
    )


ALL_FULL = {"LA": FULL, "GLA": FULL, "WLA": FULL}


@pytest.mark.parametrize(
    ("large", "small", "verdict", "saturation", "collapse"),
    [
        (
            {"LA": FULL, "GLA": EMPTY, "WLA": EMPTY},
            ALL_FULL,
            *(Verdict.reproduced, Verdict.reproduced, Verdict.reproduced),
        ),
        (
            {"LA": FULL, "GLA": FULL, "WLA": EMPTY},
            {"LA": FULL, "GLA": EMPTY, "WLA": EMPTY},
            *(Verdict.partly, Verdict.partly, Verdict.partly),
        ),
        (
            {"LA": EMPTY, "GLA": FULL, "WLA": WASTED},
            ALL_FULL,
            *(Verdict.partly, Verdict.reproduced, Verdict.contradicted),
        ),
        (
            {"LA": EMPTY, "GLA": FULL, "WLA": FULL},
            {"LA": EMPTY, "GLA": EMPTY, "WLA": EMPTY},
            *(Verdict.contradicted, Verdict.contradicted, Verdict.contradicted),
        ),
    ],
)
def test_verdicts(large, small, verdict, saturation, collapse):
    finding = COLLAPSE.judge(_rows(large, small))
    assert finding.verdict is verdict
    assert f"Saturation is {saturation.value}: with TSS 2 and kv 8 " in finding.words
    assert f"Collapse is {collapse.value}: with TSS 16 and kv 8 " in finding.words
    accuracy, share = large["GLA"]
    assert f"GLA (beta 0.25) {accuracy:.2f} and {share:.2f}" in finding.words


def test_slow_decays_decide_nothing():
    rows = _rows({"LA": FULL, "GLA": EMPTY, "WLA": EMPTY}, ALL_FULL)
    slow = rows[rows["featurizer"] == "GLA"].assign(
        beta=16, model="GLA (beta 16)", accuracy=1.0, **{"tolerance_ess_0.001": 1.0}
    )
    both = np.random.default_rng(0).permutation(len(rows) + len(slow))
    finding = COLLAPSE.judge(pd.concat([rows, slow]).iloc[both])
    assert finding.verdict is Verdict.reproduced
    assert "beta 16" not in finding.words
    assert "GLA (beta 16)" in set(finding.tables["Accuracy"]["model"])


def test_tables():
    tables = COLLAPSE.judge(_rows({"LA": FULL, "GLA": EMPTY}, ALL_FULL)).tables
    accuracy = tables["Accuracy"].set_index(["model", "TSS"])
    assert list(accuracy.columns) == ["kv 2", "kv 8"]
    assert accuracy.loc[("GLA (beta 0.25)", "16"), "kv 8"] == "0.10"
    cell = ("GLA (beta 0.25)", "16"), "kv 8"
    shares = {title: table.set_index(["model", "TSS"]) for title, table in tables.items()}
    of_attainable = "Utilization, tolerance 1e-3: ESS / attainable, mean of layers"
    assert shares[of_attainable].loc[cell] == "0.20"
    assert shares["Utilization as in the paper: ESS / TSS, tolerance 1e-3"].loc[cell] == "0.10"
    assert shares["Utilization of the last mixer alone, tolerance 1e-3"].loc[cell] == "0.30"


def test_a_run_lacking_one_layer_is_left_out_whole():
    rows = _rows({"LA": FULL, "GLA": EMPTY, "WLA": EMPTY}, ALL_FULL)
    lost = (rows["featurizer"] == "WLA") & (rows["state_size"] == 16) & (rows["pairs"] == 8)
    rows.loc[lost & (rows["index"] == 0), "verified"] = False
    finding = COLLAPSE.judge(rows)
    assert finding.verdict is Verdict.partly
    assert finding.words.endswith(
        "model WLA (beta 0.25), width 32, heads 2, pairs 8, learning rate 0.002, seed 0."
    )
    accuracy = finding.tables["Accuracy"].set_index(["model", "TSS"])
    assert accuracy.loc[("WLA (beta 0.25)", "16"), "kv 8"] == ""


def test_figure():
    figure = COLLAPSE.draw(_rows({"LA": FULL, "GLA": EMPTY, "WLA": EMPTY}, ALL_FULL))
    assert [axes.get_title() for axes in figure.axes] == ["TSS 2", "TSS 16", "", ""]
    curves = {line.get_label(): line.get_ydata() for line in figure.axes[3].get_lines()}
    assert set(curves) == {"LA", "GLA (beta 0.25)", "WLA (beta 0.25)", "saturated"}
    np.testing.assert_allclose(curves["GLA (beta 0.25)"], [0.2, 0.2])
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(curves)
