"""Correlation, dynamics and collapse: one grid of trainings, and rows that say what it measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from lab.in_this_process import train_here
from scipy import stats

import hf_ess
from hf_ess.lab import Reproduction, RunResult, reproduce
from hf_ess.lab.paper.experiment import Scale, Verdict
from hf_ess.lab.paper.grid_rows import forgetful
from hf_ess.lab.paper.recall_grid import recall_grid
from hf_ess.lab.sweep_points import points_of
from hf_ess.synthetics import multi_query_recall
from hf_ess.synthetics.task_choice import TEST_SEED

TRAINED_PAIRS = 2
NAMES = ("correlation", "dynamics", "collapse")
TAUS = ("0.1", "0.001", "1e-05")


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    """The folder, the experiments by name, and how many runs each of them trained."""
    out = tmp_path_factory.mktemp("recall")
    made, trained = {}, {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in NAMES:
            names = train_here(monkeypatch)
            made[name] = reproduce(name, scale="minute", out=out, processes=1, progress=False)
            trained[name] = len(names)
    return out / "minute", made, trained


@pytest.fixture(scope="module")
def log(minute):
    """All that the trainings wrote, by run, step and layer."""
    files = (minute[0] / "trainings").glob("*/results.csv")
    return pd.concat([pd.read_csv(path) for path in files])


def test_each_run_is_trained_once(minute):
    points = [point for one in recall_grid(Scale.minute) for point in points_of(one.base, one.axes)]
    assert minute[2] == {"correlation": len(points), "dynamics": 0, "collapse": 0}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_says_the_same(minute, name):
    folder, made, _ = minute
    read = Reproduction.read(folder / name)
    assert read.to_dict() == made[name].to_dict()
    assert read.finding.verdict is Verdict.undecidable
    for title, table in read.finding.tables.items():
        pd.testing.assert_frame_equal(table, made[name].finding.tables[title])
    assert (folder / name / "figure.png").stat().st_size > 10_000


def _key(row):
    """Which run a row is of; nothing else differs at this scale."""
    return row["featurizer"], row["width"], row["heads"]


def _keys(log):
    width = log["model.hidden_size"].fillna(32).astype(int)
    kinds = log["model.mixers"].str.split("+").str[0]
    return list(zip(kinds, width, log["model.num_attention_heads"], strict=True))


def test_rows_of_correlation(minute, log):
    rows = minute[1]["correlation"].rows
    rows = rows[rows["pairs"] == TRAINED_PAIRS]
    last = log[log["step"] == log["step"].max()]
    last = last.assign(key=_keys(last))
    assert len(rows) == last["key"].nunique() == 8
    for row in rows.to_dict("records"):
        layers = last[last["key"] == _key(row)]
        assert len(layers) == 2
        assert row["entropy_ess"] == pytest.approx(layers["entropy_ess"].mean(), rel=1e-5)
        assert row["accuracy"] == pytest.approx(layers["accuracy"].iloc[0], rel=1e-5)
        # Attention has the tokens before: 3, 6, 10 and 13 of 16.
        known = {"SA": 8}.get(row["featurizer"], row["width"] / row["heads"])
        assert row["state_size"] == known


def test_models_on_texts_of_other_pairs(minute, log):
    out, made, _ = minute
    rows = made["correlation"].rows
    assert list(rows["pairs"]) == [TRAINED_PAIRS] * 8 + [1] * 8
    (folder,) = out.glob("trainings/recall-linear-2/runs/*heads=4*")
    model = RunResult.load(folder).model()
    ids, labels = multi_query_recall(512, length=16, pairs=1, vocabulary=18, seed=TEST_SEED)
    with torch.no_grad():
        answers = model(input_ids=ids).logits.argmax(-1)[:, :-1]
    asked = labels[:, 1:] >= 0
    right = float((answers == labels[:, 1:])[asked].double().mean())
    row = rows[(rows["featurizer"] == "LA") & (rows["heads"] == 4) & (rows["pairs"] == 1)].iloc[0]
    assert row["accuracy"] == pytest.approx(right, abs=1e-6)
    snapshot = hf_ess.watch_ess(model, ids[:8])
    own = [layer.entropy_ess for layer in snapshot.layers]
    assert row["entropy_ess"] == pytest.approx(np.mean(own), rel=1e-5)
    of_layers = made["collapse"].rows
    of_layers = of_layers[(of_layers["featurizer"] == "LA") & (of_layers["pairs"] == 1)]
    assert list(of_layers[of_layers["heads"] == 4]["entropy_ess"]) == pytest.approx(own, rel=1e-5)


def test_rows_of_dynamics(minute, log):
    rows = minute[1]["dynamics"].rows
    runs = rows[rows["kind"] == "run"]
    assert len(runs) == 8
    log = log.assign(key=_keys(log))
    for row in runs.to_dict("records"):
        steps = log[log["key"] == _key(row)].groupby("step").mean(numeric_only=True)
        assert list(steps.index) == [0, 2, 4, 6]
        for name in ("entropy_ess", *(f"tolerance_ess_{tau}" for tau in TAUS)):
            if np.ptp(steps[name]) == 0:
                assert np.isnan(row[f"correlation_{name}"])
                continue
            expected = stats.pearsonr(steps["accuracy"], steps[name]).statistic
            assert row[f"correlation_{name}"] == pytest.approx(expected, abs=1e-5)
        ess = steps["entropy_ess"]
        assert row["ess_lowest"] == pytest.approx(ess.min(), rel=1e-5)
        assert row["step_of_lowest"] == ess.idxmin()
        assert row["constrained"] == (row["featurizer"] != "SA" and row["heads"] == 16)
    curve = rows[(rows["kind"] == "curve") & (rows["model"] == "LA")]
    ess = log[log["model.mixers"] == "LA+LA"].pivot_table("entropy_ess", "step", "key")
    shares = (ess / ess.loc[0]).mean(axis=1)
    np.testing.assert_allclose(curve["entropy_ess"], shares, rtol=1e-5)


def test_rows_of_collapse(minute, log):
    rows = minute[1]["collapse"].rows
    rows = rows[rows["pairs"] == TRAINED_PAIRS]
    assert set(rows["featurizer"]) == {"LA", "GLA", "WLA"}
    last = log[(log["step"] == log["step"].max()) & (log["model.mixers"] == "GLA+GLA")]
    ours = rows[rows["featurizer"] == "GLA"]
    assert len(ours) == len(last) == 4
    np.testing.assert_allclose(ours["tolerance_ess_0.001"], last["tolerance_ess_0.001"], rtol=1e-5)
    np.testing.assert_allclose(ours["attainable"], last["attainable"], rtol=1e-5)
    table = minute[1]["collapse"].finding.tables[
        "Utilization, tolerance 1e-3: ESS / attainable, mean of layers"
    ]
    shares = last["tolerance_ess_0.001"] / last["attainable"]
    shown = table[table["model"] == "GLA (beta 0.25)"]["kv 2"].astype(float)
    means = shares.groupby(last["model.num_attention_heads"]).mean()[[16, 4]]
    np.testing.assert_allclose(shown, means, atol=0.00501)


def test_those_that_forget_fastest():
    betas = {"LA": [None], "GLA": [16, 0.25], "WLA": [0.25, 16]}
    rows = pd.DataFrame([(kind, b) for kind, of_it in betas.items() for b in of_it])
    rows.columns = ["featurizer", "beta"]
    assert list(forgetful(rows).index) == [0, 2, 3]
