"""Correlation: figures against scipy, verdicts on rows whose verdict is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lab.paper.made_up_runs import made_up
from scipy import stats

from hf_ess.lab import EXPERIMENTS
from hf_ess.lab.paper.experiment import Verdict

CORRELATION = EXPERIMENTS["correlation"]
KINDS = ("LA", "GLA", "WLA", "SA")
BEST = "Correlation with accuracy, best learning rate of each setting"
EVERY = "Over the runs with every learning rate"


def _rows(accuracy_of, *, agreeing=KINDS, ess_of=None):
    """Every TSS and number of pairs; ESS has nothing to do with TSS, accuracy follows one of them.

    In kinds that do not agree accuracy follows TSS/kv.
    """
    generator = np.random.default_rng(0)
    points = []
    for kind in KINDS:
        for tss in (2, 4, 8, 16):
            for pairs in (2, 4, 8):
                ess = ess_of(tss) if ess_of else generator.uniform(1, 9)
                size = ess if kind in agreeing else tss
                accuracy = accuracy_of(size, pairs) + generator.normal() * 0.02
                points.append(
                    {
                        "featurizer": kind,
                        "tss": tss,
                        "heads": 32 // tss,
                        "pairs": pairs,
                        "entropy_ess": ess,
                        "accuracy": accuracy,
                    }
                )
    return made_up(points)


def _per_pair(size, pairs):
    return size / pairs / 10


def test_reproduced():
    rows = _rows(_per_pair)
    finding = CORRELATION.judge(rows)
    assert finding.verdict is Verdict.reproduced
    assert "above 0 for LA, GLA, WLA, SA (total), all recurrent" in finding.words
    table = finding.tables[BEST].set_index("models")
    for kind, shown in zip(KINDS, ("LA", "GLA", "WLA", "SA (total)"), strict=True):
        own = rows[rows["featurizer"] == kind]
        ess = stats.pearsonr(own["accuracy"], own["entropy_ess"] / own["pairs"]).statistic
        tss = stats.pearsonr(own["accuracy"], own["state_size"] / own["pairs"]).statistic
        assert f"{shown} {ess:.2f} and {tss:.2f}" in finding.words
        assert table.loc[shown, "ESS/kv [95 %]"].startswith(f"{ess:.2f} [")
        assert table.loc[shown, "TSS/kv [95 %]"].startswith(f"{tss:.2f} [")
        assert table.loc[shown, "difference [95 %]"].startswith(f"{ess - tss:.2f} [")


def test_partly():
    finding = CORRELATION.judge(_rows(_per_pair, agreeing=("GLA", "WLA")))
    assert finding.verdict is Verdict.partly
    assert "below 0 for LA, SA (total);" in finding.words


def test_only_partly_where_ess_needs_no_dividing():
    finding = CORRELATION.judge(_rows(lambda size, _: size / 10))
    assert finding.verdict is Verdict.partly


def test_contradicted():
    finding = CORRELATION.judge(_rows(_per_pair, agreeing=()))
    assert finding.verdict is Verdict.contradicted
    assert "above 0 for none;" in finding.words


def test_ess_that_is_a_share_of_tss_decides_nothing():
    rows = _rows(_per_pair, ess_of=lambda tss: 0.7 * tss)
    assert CORRELATION.judge(rows).verdict is Verdict.undecidable


def test_equal_accuracies_decide_nothing():
    rows = _rows(lambda size, pairs: 0.9 + size / pairs / 1000)
    rows["accuracy"] = rows["accuracy"].clip(0.9, 0.99)
    assert CORRELATION.judge(rows).verdict is Verdict.undecidable


def test_attention_counts_all_its_channels():
    rows = _rows(_per_pair)
    attention = rows["featurizer"] == "SA"
    rows.loc[attention, "width"] = [16, 32] * 6
    own = rows[attention]
    total = own["entropy_ess"] * own["width"] / own["pairs"]
    expected = stats.pearsonr(own["accuracy"], total).statistic
    assert f"SA (total) {expected:.2f} and" in CORRELATION.judge(rows).words


def test_the_better_rate_counts_and_all_are_told():
    rows = _rows(_per_pair)
    worse = rows.assign(learning_rate=5e-3, accuracy=0.0)
    finding = CORRELATION.judge(pd.concat([rows, worse], ignore_index=True))
    alone = CORRELATION.judge(rows)
    pd.testing.assert_frame_equal(finding.tables[BEST], alone.tables[BEST])
    assert list(finding.tables[EVERY]["runs"]) == [24, 24, 24, 24, 72]


def test_a_kind_that_was_not_measured_is_not_decided():
    rows = _rows(_per_pair)
    finding = CORRELATION.judge(rows[rows["featurizer"] != "SA"])
    assert finding.verdict is Verdict.partly
    assert "are SA (total)." in finding.words
    assert "SA (total) nan and nan" in finding.words


def test_runs_without_a_value_are_named():
    rows = _rows(_per_pair)
    rows.loc[3, "entropy_ess"] = np.nan
    words = CORRELATION.judge(rows).words
    assert words.endswith("heads 8, pairs 2, learning rate 0.002, seed 0.")


@pytest.mark.parametrize("column", [0, 1])
def test_figure(column):
    rows = _rows(_per_pair)
    panels = CORRELATION.draw(rows).axes
    assert [len(axes.collections) for axes in panels] == [3, 3, 1, 1]
    points = panels[column].collections[1].get_offsets()
    gated = rows[rows["featurizer"] == "GLA"]
    size = gated[("entropy_ess", "state_size")[column]] / gated["pairs"]
    np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(size))
    assert panels[column].get_xlabel().startswith(("entropy-ESS / kv", "TSS / kv")[column])
