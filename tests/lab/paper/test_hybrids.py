"""Hybrids: rows, verdicts, and a figure with every hybrid in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lab.in_this_process import train_here

from hf_ess.lab import EXPERIMENTS, Reproduction, reproduce
from hf_ess.lab.paper.experiment import Scale, Verdict
from hf_ess.lab.paper.hybrids import PLACES, hybrid

HYBRIDS = EXPERIMENTS["hybrids"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("hybrids")
    with pytest.MonkeyPatch.context() as monkeypatch:
        train_here(monkeypatch)
        yield reproduce("hybrids", scale="minute", out=out, progress=False), out


def test_a_minute(made):
    one, out = made
    rows = one.rows
    assert list(rows["model.mixers"]) == ["SA+GLA+GLA+GLA", "GLA+GLA+GLA+SA"]
    assert one.finding.verdict is Verdict.undecidable
    log = pd.read_csv(out / "minute" / "trainings" / "hybrids" / "results.csv")
    last = log[(log["step"] == log["step"].max()) & (log["model.mixers"] == "GLA+GLA+GLA+SA")]
    assert rows["largest_attention_ess"][1] == pytest.approx(last["entropy_ess"].iloc[3], rel=1e-5)
    assert rows["mean_ess"][1] == pytest.approx(last["entropy_ess"].mean(), rel=1e-5)
    read = Reproduction.read(out / "minute" / "hybrids")
    assert read.to_dict() == one.to_dict()


def rows_of(points):
    """A row for each (mixers, learning rate, accuracy, largest ESS of attention, mean ESS)."""
    names = ["model.mixers", "learning_rate", "accuracy", "largest_attention_ess", "mean_ess"]
    return pd.DataFrame(points, columns=names).assign(test_loss=1.0, seed=0)


FIVE = ["SA+GLA", "GLA+SA", "SA+SA+GLA", "GLA+SA+SA", "SA+GLA+SA"]


RISING = [0.1, 0.3, 0.5, 0.8, 1.0]


def judged(accuracies, largest, means, more=()):
    points = [
        (mixers, 2e-3, accuracy, ess, mean)
        for mixers, accuracy, ess, mean in zip(FIVE, accuracies, largest, means, strict=True)
    ]
    # The worse learning rate of a hybrid does not count, and one without attention has no ESS.
    others = [(FIVE[4], 5e-3, 0.0, 0, 0), ("GLA+GLA", 2e-3, 0.05, None, 3), *more]
    return HYBRIDS.judge(rows_of([*points, *others]))


@pytest.mark.parametrize(
    ("accuracies", "largest", "means", "verdict"),
    [
        (RISING, [1, 2, 3, 4, 5], [5, 4, 3, 2, 1], Verdict.reproduced),
        (RISING, [5, 4, 3, 2, 1], [1, 2, 3, 4, 5], Verdict.partly),
        ([0.90, 0.91, 0.92, 0.93, 0.94], [5, 4, 3, 2, 1], [1, 2, 3, 4, 5], Verdict.contradicted),
        ([0.9] * 5, [3] * 5, [3] * 5, Verdict.contradicted),
    ],
)
def test_verdicts(accuracies, largest, means, verdict):
    finding = judged(accuracies, largest, means)
    assert finding.verdict is verdict
    assert f"from {min(accuracies):.2f} (SA+GLA) to {max(accuracies):.2f}" in finding.words
    ranks = finding.tables["Rank correlation with accuracy"].set_index("of").iloc[:, 0]
    expected = pd.Series(accuracies).rank().corr(pd.Series(largest).rank())
    cell = ranks["largest ESS of attention"]
    assert cell == "-" if np.isnan(expected) else cell.startswith(f"{expected:.2f} [")
    assert len(finding.tables["Hybrids"]) == 6


def test_what_correlates_alike_is_not_decided():
    finding = judged(RISING, [1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert finding.verdict is Verdict.partly
    assert "Not decided: it does so better than the mean ESS of all mixers." in finding.words


def test_few_hybrids_decide_nothing():
    rows = rows_of([(FIVE[0], 2e-3, 0.1, 1, 1), (FIVE[1], 2e-3, 1.0, 5, 5)])
    assert HYBRIDS.judge(rows).verdict is Verdict.undecidable
    nothing = HYBRIDS.judge(rows.assign(mean_ess=None))
    assert nothing.verdict is Verdict.undecidable
    assert nothing.words.startswith("No hybrid was measured.")


def test_seeds_of_a_hybrid_are_one_row():
    """And a run that could not be measured is named."""
    twice = [(mixers, 2e-3, value, 5, 3) for mixers, value in zip(FIVE, RISING, strict=True)]
    finding = judged(RISING, [1, 2, 3, 4, 5], [3] * 5, [*twice, ("SA+SA", 2e-3, 0.5, 1, None)])
    assert "Over 5 hybrids the rank correlation" in finding.words
    assert finding.words.endswith("verified: mixers SA+SA, learning rate 0.002, seed 0.")


def test_figure_names_every_hybrid():
    points = [(mixers, 2e-3, ess / 5, ess, 1) for ess, mixers in enumerate(FIVE)]
    bars, runs = HYBRIDS.draw(rows_of(points)).axes
    assert [text.get_text() for text in bars.get_yticklabels()] == FIVE
    assert [bar.get_width() for bar in bars.patches] == [ess / 5 for ess in range(5)]
    assert [tuple(dots.get_offsets()[0]) for dots in runs.collections] == [
        (ess, ess / 5) for ess in range(5)
    ]


def test_places():
    assert hybrid([1, 2]) == ["GLA", "SA", "SA", "GLA"]
    assert {(), (0,), (1, 2)} < set(PLACES[Scale.small])
