"""Initialization: what is measured before training, what accuracy follows, and the verdicts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from lab.paper.minutes import assert_goes_on_and_is_read_again, made_in_a_minute

from hf_ess.lab import EXPERIMENTS
from hf_ess.lab.paper.experiment import Scale, Verdict
from hf_ess.lab.paper.noise_probe import mixers_on_noise, probe_mixer
from hf_ess.lab.sweep_points import points_of

INITIALIZATION = EXPERIMENTS["initialization"]
STATES = (16, 64)
USED, UNUSED = {16: 8.0, 64: 16.0}, {16: 6.0, 64: 6.1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    yield from made_in_a_minute("initialization", tmp_path_factory.mktemp("initialization"))


def test_a_minute_goes_on_and_is_read_again(made):
    assert_goes_on_and_is_read_again(made, runs=8)


def test_rows_are_those_of_the_probe_and_of_the_log(made):
    one, out, _ = made
    noise, recall = (one.rows[one.rows["part"] == part] for part in ("noise", "recall"))
    assert (len(noise), len(recall)) == (5 * 2 * 2, 8)
    probe = probe_mixer(
        "GLA-S6", states=(4, 8), seeds=2, length=32, alphas=(1024,), width=16, progress=False
    )
    rebuilt = mixers_on_noise(noise)
    for mixer in (*probe.mixers, *probe.rescaled):
        other = rebuilt["GLA-S6", mixer.alpha]
        assert other.entropy_ess == pytest.approx(mixer.entropy_ess, rel=1e-5)
        assert other.elasticity() == pytest.approx(mixer.elasticity(), rel=1e-4)
    # GLA-S6 is built with an alpha for 16 tokens of what is called an alpha for 2048.
    for mixer, stretch in {"S6": 1, "GLA-S6": 2048 / 16}.items():
        log = pd.read_csv(out / "minute" / "trainings" / f"initialization-{mixer}" / "results.csv")
        own = log[log["model.state_sizes"] == "8+8"]
        own = own[own["model.alpha"] == 1024 / stretch]
        row = recall.set_index(["mixer", "state_size", "alpha"]).loc[mixer, 8, 1024]
        first, last = (own[own["step"] == step] for step in (0, own["step"].max()))
        assert row["entropy_ess"] == pytest.approx(first["entropy_ess"].mean(), rel=1e-5)
        assert row["trained_entropy_ess"] == pytest.approx(last["entropy_ess"].mean(), rel=1e-5)
        assert row["accuracy"] == pytest.approx(last["accuracy"].iloc[0], rel=1e-5)


def noise_of(mixer, alpha, by_state):
    """Three seeds about an ESS for each state size."""
    return [
        {"part": "noise", "mixer": mixer, "alpha": alpha, "state_size": state, "seed": seed}
        | {"attainable": state / 1.1, "entropy_ess": ess + 0.01 * seed}
        for state, ess in by_state.items()
        for seed in range(3)
    ]


def recall_of(mixer, alpha, accuracy, rate=2e-3):
    return [
        {"part": "recall", "mixer": mixer, "alpha": alpha, "state_size": state, "seed": 0}
        | {"pairs": 8, "learning_rate": rate, "attainable": 9.5, "trained_entropy_ess": 5.0}
        | {"entropy_ess": 2 + math.log2(alpha) / 5, "accuracy": accuracy, "test_loss": 1.0}
        for state in STATES
    ]


def rows_of(*, s6, slow, plain, raised):
    """ESS on noise of S6 as built and with alpha, accuracy at alpha 1 and above."""
    rows = noise_of("GLA", 1.0, USED)
    for mixer in ("S6", "GLA-S6"):
        rows += noise_of(mixer, 1.0, s6) + noise_of(mixer, 1024.0, slow)
        rows += recall_of(mixer, 1.0, plain) + recall_of(mixer, 1.0, 0.01, rate=5e-3)
        rows += recall_of(mixer, 32.0, raised) + recall_of(mixer, 1024.0, plain)
    return pd.DataFrame(rows)


AS_THE_PAPER = rows_of(s6=UNUSED, slow=USED, plain=0.12, raised=0.9)


@pytest.mark.parametrize(
    ("rows", "verdict", "not_so"),
    [
        (AS_THE_PAPER, Verdict.reproduced, "Not so here: nothing."),
        (
            rows_of(s6=UNUSED, slow=USED, plain=0.99, raised=1.0),
            Verdict.partly,
            "S6 with alpha = 1 is near chance; a larger alpha makes S6 better",
        ),
        (
            rows_of(s6=USED, slow=UNUSED, plain=0.5, raised=0.5).query(
                "mixer != 'GLA' or state_size == 16"
            ),
            Verdict.contradicted,
            "Not decided: the ESS of GLA grows with its state.",
        ),
    ],
)
def test_verdicts(rows, verdict, not_so):
    finding = INITIALIZATION.judge(rows)
    assert finding.verdict is verdict
    assert not_so in finding.words


def test_figures_in_the_words_and_tables():
    finding = INITIALIZATION.judge(AS_THE_PAPER)
    slope = np.log(16.01 / 8.01) / np.log(4)
    assert f"GLA {slope:.2f} ± 0.00" in finding.words
    assert "S6 from 0.12 / 0.12 at alpha = 1 to 0.90 / 0.90 at the best other" in finding.words
    noise, recall = finding.tables.values()
    assert list(noise.iloc[0, :3]) == ["GLA", "8.0 ± 0.0", "16.0 ± 0.0"]
    assert list(recall["accuracy"]) == [0.12, 0.9, 0.12] * 4
    assert set(recall["learning rate"]) == {2e-3}


def test_slower_decays_that_raise_nothing_are_named():
    words = INITIALIZATION.judge(rows_of(s6=USED, slow=USED, plain=0.12, raised=0.9)).words
    failed = words.split("Not so here: ")[1]
    assert "raises" not in failed.split("Not decided")[0]
    for mixer in ("S6", "GLA-S6"):
        assert f"alpha = 1024 raises the ESS of {mixer}" in failed.split("Not decided")[1]
    words = INITIALIZATION.judge(rows_of(s6=USED, slow=UNUSED, plain=0.12, raised=0.9)).words
    assert "alpha = 1024 raises the ESS of S6" in words.split("Not so here: ")[1]


def test_what_was_not_measured_is_named():
    rows = AS_THE_PAPER.copy()
    lacks = (rows["mixer"] == "S6") & (rows["alpha"] == 32) & (rows["state_size"] == 64)
    rows.loc[lacks, "accuracy"] = None
    on_noise = (rows["part"] == "noise") & (rows["mixer"] == "GLA") & (rows["seed"] == 1)
    rows.loc[on_noise, "entropy_ess"] = None
    finding = INITIALIZATION.judge(rows)
    assert "not verified: mixer S6, alpha 32, state size 64, learning rate 0.002, seed 0." in (
        finding.words
    )
    assert "mixer GLA, alpha 1, state size 16, seed 1; " in finding.words
    assert "Not decided: the ESS of GLA grows with its state." in finding.words


def test_figure_shows_every_mixer_state_and_alpha():
    states, alphas, follows = INITIALIZATION.draw(AS_THE_PAPER).axes
    names = {text.get_text() for text in states.get_legend().get_texts()}
    assert names >= {"GLA", "S6, alpha 1", "S6, alpha 1024", "GLA-S6, alpha 1024"}
    curves = {line.get_label(): line for line in alphas.lines}
    assert list(curves["S6, N = 64"].get_ydata()) == [0.12, 0.9, 0.12]
    assert curves["any value seen"].get_ydata()[0] == 1 / 8
    assert len(follows.collections) == 12
    assert len({dots.get_sizes()[0] for dots in follows.collections}) == 3


@pytest.mark.parametrize("scale", Scale)
def test_every_configuration_is_accepted(scale):
    sweeps = INITIALIZATION.trainings(scale)
    points = [point for one in sweeps for point in points_of(one.base, one.axes)]
    assert len(points) == {"minute": 8, "small": 24, "paper": 96}[scale.value]
    assert {point.config.model["state_sizes"][1] for point in points} >= {
        "minute": {4, 8},
        "small": {16, 64},
        "paper": {16, 256},
    }[scale.value]
