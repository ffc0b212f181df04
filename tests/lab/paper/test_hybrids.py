"""Hybrids: rows, verdicts, and a figure with every hybrid in it."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("accuracies", "largest", "verdict"),
    [
        ([0.1, 0.3, 0.5, 0.8, 1.0], [1, 2, 3, 4, 5], Verdict.reproduced),
        ([0.1, 0.3, 0.5, 0.8, 1.0], [5, 4, 3, 2, 1], Verdict.partly),
        ([0.90, 0.91, 0.92, 0.93, 0.94], [5, 4, 3, 2, 1], Verdict.contradicted),
    ],
)
def test_verdicts(accuracies, largest, verdict):
    means = [3, 3.1, 3, 3.1, 3]
    points = [
        (mixers, 2e-3, accuracy, ess, mean)
        for mixers, accuracy, ess, mean in zip(FIVE, accuracies, largest, means, strict=True)
    ]
    # The worse learning rate of a hybrid does not count, and one without attention has no ESS.
    rows = rows_of([*points, (FIVE[4], 5e-3, 0.0, 0, 0), ("GLA+GLA", 2e-3, 0.05, None, 3)])
    finding = HYBRIDS.judge(rows)
    assert finding.verdict is verdict
    assert f"from {min(accuracies):.2f} (SA+GLA) to {max(accuracies):.2f}" in finding.words
    ranks = finding.tables["Rank correlation with accuracy"].set_index("of").iloc[:, 0]
    expected = pd.Series(accuracies).rank().corr(pd.Series(largest).rank())
    assert ranks["largest ESS of attention"].startswith(f"{expected:.2f} [")
    assert len(finding.tables["Hybrids"]) == 6


def test_figure_names_every_hybrid():
    points = [(mixers, 2e-3, ess / 5, ess, 1) for ess, mixers in enumerate(FIVE)]
    (axes,) = HYBRIDS.draw(rows_of(points)).axes
    assert {text.get_text() for text in axes.get_legend().get_texts()} == set(FIVE)


def test_places():
    assert hybrid([1, 2]) == ["GLA", "SA", "SA", "GLA"]
    assert {(), (0,), (1, 2)} < set(PLACES[Scale.small])
