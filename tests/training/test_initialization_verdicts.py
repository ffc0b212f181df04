"""Verdicts of the probe from figures made by hand, and how they are shown."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import hf_ess
from hf_ess.report import UnsupportedLayer
from hf_ess.training import InitializationProbe, ProbedMixer, plot_probed_mixers

SIZES = np.array([8.0, 16.0, 32.0])


def mixer_of(values, *, alpha: float = 1.0, sizes=SIZES, tolerance=None, **more) -> ProbedMixer:
    grid = np.array(values, dtype=np.float64)
    counts = grid if tolerance is None else np.array(tolerance, dtype=np.float64)
    facts = {"index": 0, "name": "h.0", "call": 0, "mixer": "mamba", "has_rates": False, **more}
    return ProbedMixer(
        alpha=alpha,
        state_sizes=(8, 16, 32),
        capacity=np.array(sizes),
        attainable=np.array(sizes),
        entropy_ess=grid,
        tolerance_ess={0.1: counts},
        **facts,
    )


def growing(power: float, *spread: float) -> list[list[float]]:
    """ESS that grows with this power of the size, each seed with its own difference."""
    return [[size ** (power + more) for more in spread] for size in SIZES]


def probe_of(*mixers: ProbedMixer, rescaled=(), refused=()) -> InitializationProbe:
    return InitializationProbe(
        mixers=list(mixers),
        rescaled=list(rescaled),
        refused=list(refused),
        state_sizes=(8, 16, 32),
        seeds=tuple(range(mixers[0].entropy_ess.shape[1])),
        length=64,
        samples=1,
        positions=(16, 32, 48),
        tolerances=(0.1,),
    )


def kind_of(mixer: ProbedMixer, **thresholds) -> str:
    return probe_of(mixer).judge(**thresholds)[0].kind


def test_elasticity_is_the_slope_in_logarithms() -> None:
    values = np.array([[2.0, 3.0, 2.5], [2.2, 3.9, 2.7], [3.5, 4.0, 2.6]])
    slopes = np.polyfit(np.log(SIZES), np.log(values), 1)[0]
    found = mixer_of(values).elasticity()
    assert found == pytest.approx((slopes.mean(), slopes.std(ddof=1) / math.sqrt(3)), rel=1e-12)


@pytest.mark.parametrize(
    ("power", "spread", "kind"),
    [
        (0.0, (0.01, -0.01), "unused"),
        (0.22, (0.01, -0.01), "unused"),
        (0.22, (0.03, -0.03), "undecided"),
        (0.28, (0.03, -0.03), "undecided"),
        (0.28, (0.01, -0.01), "used"),
        (0.25, (0.0, 0.0, 0.0), "used"),
        (-0.5, (0.01, -0.01), "unused"),
        (0.9, (0.0,), "undecided"),
    ],
)
def test_a_verdict_needs_two_standard_errors(power, spread, kind) -> None:
    # An exact 0.25 is on the side of use, up to the rounding of logarithms.
    least = 0.25 - 1e-12
    assert kind_of(mixer_of(growing(power, *spread)), least=least) == kind


def test_thresholds_and_metrics_can_be_chosen() -> None:
    mixer = mixer_of(growing(0.22, 0.03, -0.03), tolerance=growing(0.9, 0.1, -0.1))
    assert kind_of(mixer, least=0.1) == "used"
    assert kind_of(mixer, least=0.5) == "unused"
    assert kind_of(mixer, standard_errors=0.5) == "unused"
    assert kind_of(mixer, metric=0.1) == "used"
    with pytest.raises(hf_ess.InvalidInputError, match="no metric"):
        probe_of(mixer).judge(0.5)
    with pytest.raises(hf_ess.InvalidInputError, match="least must be at least 0"):
        probe_of(mixer).judge(least=-1.0)
    with pytest.raises(hf_ess.InvalidInputError, match="standard_errors must be finite"):
        probe_of(mixer).judge(standard_errors=math.nan)


@pytest.mark.parametrize(
    ("mixer", "said"),
    [
        (mixer_of(growing(0.5, 0.01, -0.01)), r"turns into use.* by \+41 % .*0\.50 \+- 0\.01"),
        (mixer_of(growing(0.0, 0.01, -0.01)), r"does not turn.* by \+0 %.*below 0\.25"),
        (mixer_of(growing(0.2, 0.1, -0.1)), r"0\.20 \+- 0\.10 is within 2 .*more seeds"),
        (mixer_of([[0.0, 1.0], [1.0, 1.0], [2.0, 2.0]]), "entropy-ESS is 0 or unknown"),
        (mixer_of(growing(0.5, 0.0), sizes=(9, 9, 9)), "the same for every state size"),
    ],
)
def test_verdicts_in_words(mixer, said) -> None:
    (verdict,) = probe_of(mixer).verdicts
    assert verdict.words.startswith("layer 0, mamba: ")
    assert str(verdict) == verdict.words
    assert re.search(said, verdict.words)


def test_a_text_too_short_for_any_state_is_not_held_against_the_mixer() -> None:
    mixer = mixer_of(growing(0.0, 0.0, 0.0))
    short = ProbedMixer(**{**vars(mixer), "attainable": np.full(3, 8.0)})
    (verdict,) = probe_of(short).verdicts
    assert verdict.kind == "undecided"
    assert "too short to fill any" in verdict.words


def test_the_smallest_alpha_that_helps() -> None:
    stuck = mixer_of(growing(0.0, 0.01, -0.01))
    tried = {alpha: alpha / 100 for alpha in (40.0, 10.0, 30.0)}
    rescaled = [mixer_of(growing(p, 0.01, -0.01), alpha=a) for a, p in tried.items()]
    (verdict,) = probe_of(stuck, rescaled=rescaled).verdicts
    assert verdict.remedy == 30
    assert "divided by 30 it does (elasticity 0.30 +- 0.01)" in verdict.words
    (verdict,) = probe_of(stuck, rescaled=rescaled[1:2]).verdicts
    assert verdict.remedy is None
    assert "nor with decay rates divided by 10" in verdict.words


def test_a_summary_shows_figures_verdicts_and_what_is_missing() -> None:
    mixer = mixer_of([[2.0, 3.0], [2.0, 3.0], [2.0, 4.0]])
    refused = UnsupportedLayer("h.1", 1, "LSTM", "no adapter knows it")
    text = probe_of(mixer, refused=[refused]).summary()
    assert "2.50 +- 0.50" in text
    assert "3.00 +- 1.00" in text
    assert "layer 0, mamba: " in text
    assert "Refused: h.1 (LSTM): no adapter knows it" in text
    assert "room for a state of 32" not in text
    assert "tolerance-ESS(0.1)" in probe_of(mixer).summary(0.1)


def test_a_state_that_no_position_can_fill_is_said() -> None:
    probe = probe_of(mixer_of(growing(0.5, 0.0, 0.01)))
    probe.positions = (8, 56)
    assert "No position of the 64 tokens has room for a state of 16, 32." in probe.summary()


def test_a_plot_has_a_curve_with_errors_for_each_mixer_that_follows(tmp_path) -> None:
    follows = mixer_of(growing(0.5, 0.1, -0.1))
    fixed = mixer_of(growing(0.5, 0.1, -0.1), sizes=(9, 9, 9), index=1)
    figure = probe_of(follows, fixed).plot(tmp_path / "probe.png")
    (axes,) = figure.axes
    (bars,) = axes.containers
    assert bars.lines[0].get_xdata().tolist() == SIZES.tolist()
    np.testing.assert_allclose(bars.lines[0].get_ydata(), follows.mean())
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(names) == ["attainable (mean)", "capacity", "layer 0, mamba"]
    assert (tmp_path / "probe.png").stat().st_size > 5000
    with pytest.raises(hf_ess.InvalidInputError, match="no mixer to draw"):
        plot_probed_mixers({"fixed": fixed})
