"""Remarks in words: collapse, saturation, and what they compare with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training.small_models import ids_of, synthetic

import hf_ess
from hf_ess.report import UnsupportedLayer
from hf_ess.training import ESSWatch, LayerSnapshot, Remark, Thresholds
from hf_ess.training.remarks import remarks_on

LAYER = LayerSnapshot(
    index=1,
    name="layers.1.mixer",
    call=0,
    mixer="gated linear attention",
    state_size=16,
    channels=32,
    attainable=16.0,
    entropy_ess=5.0,
    entropy_half_width=0.0,
    tolerance_ess={1e-1: 4.0, 1e-3: 8.0},
    undecided={1e-1: 0.0, 1e-3: 0.0},
    below_floor=(),
    utilization=0.3,
    tolerance_utilization={1e-1: 0.25, 1e-3: 0.5},
    residual=1e-7,
)


def with_ess(ess, *, attainable=16.0, **changes):
    """The layer with another ESS at a tolerance of 0.001."""
    counts = {1e-1: 4.0, 1e-3: ess}
    return replace(LAYER, attainable=attainable, tolerance_ess=counts, **changes)


def said_of(layer, first=(), **thresholds):
    return remarks_on([layer], list(first), Thresholds(**thresholds), [], [])


def test_nothing_is_said_in_between():
    assert said_of(LAYER) == ()
    assert said_of(with_ess(4.01)) == ()
    assert said_of(with_ess(11.99)) == ()


def test_a_collapse():
    (remark,) = said_of(with_ess(3.0), [LAYER])
    assert (remark.layer, remark.kind) == ("layers.1.mixer", "collapse")
    assert "tolerance-ESS(0.001) is 3.00 of 16 attainable (19%)" in remark.words
    assert "fallen from 8.00 of the first time" in remark.words


def test_a_collapse_from_the_start():
    (alone,) = said_of(with_ess(3.0))
    assert "nothing to compare" in alone.words
    (still,) = said_of(with_ess(3.0), [with_ess(2.0)])
    assert "not below the 2.00 of the first time" in still.words


def test_other_layers_are_not_compared_with():
    (remark,) = said_of(with_ess(3.0), [replace(LAYER, name="layers.0.mixer")])
    assert "nothing to compare" in remark.words


def test_saturation():
    (remark,) = said_of(with_ess(12.0))
    assert remark.kind == "saturation"
    assert "fills 75% of its state of 16" in remark.words


def test_a_short_probe_does_not_look_like_a_collapse_or_a_full_state():
    full = {1e-1: 1.0, 1e-3: 1.0}
    assert said_of(with_ess(4.0, attainable=4.0, tolerance_utilization=full)) == ()
    assert [remark.kind for remark in said_of(with_ess(1.0, attainable=4.0))] == ["collapse"]


def test_a_state_that_grows_is_neither():
    assert said_of(with_ess(0.1, state_size=None)) == ()
    assert said_of(with_ess(16.0, state_size=None)) == ()


def test_the_closest_tolerance_counts():
    assert said_of(LAYER, tolerance=0.2)[0].words.count("tolerance-ESS(0.1)") == 1
    assert said_of(LAYER, tolerance=1e-9) == ()


def test_thresholds_are_adjustable():
    assert said_of(LAYER, collapse=0.5)[0].kind == "collapse"
    assert said_of(LAYER, saturation=0.5)[0].kind == "saturation"
    assert said_of(with_ess(0.1), collapse=0.0) == ()


@pytest.mark.parametrize(
    "thresholds",
    [
        {"collapse": -0.1},
        {"collapse": 0.8},
        {"saturation": 0.2},
        {"collapse": float("nan")},
        {"tolerance": 0.0},
        {"tolerance": float("inf")},
    ],
)
def test_thresholds_without_a_meaning(thresholds):
    with pytest.raises(hf_ess.InvalidInputError, match="no meaning"):
        Thresholds(**thresholds)


def test_rounding_noise_is_named():
    layer = replace(LAYER, below_floor=(1e-5, 1e-7))
    (remark,) = said_of(layer)
    assert remark.kind == "below floor"
    assert "tolerance-ESS(1e-05, 1e-07)" in remark.words


def test_what_has_no_numbers_is_named():
    other = UnsupportedLayer("layers.0.cell", 0, "LSTM", "nobody knows it")
    unverified, unsupported = remarks_on([], [], Thresholds(), [other], [other])
    assert unverified == Remark(
        "layers.0.cell",
        "unverified",
        "Layer layers.0.cell (LSTM) is not verified, and has no numbers: nobody knows it.",
    )
    assert unsupported.kind == "unsupported"


# On models


def scaled_mixer(model, factor):
    with torch.no_grad():
        for weight in model.layers[0].mixer.parameters():
            weight.mul_(factor)


def test_a_collapse_that_entropy_cannot_see():
    model = synthetic("LA", "SA")
    watch = ESSWatch(model, ids_of(model))
    before = watch.measure()
    assert [remark.kind for remark in before.noted] == ["saturation"]
    scaled_mixer(model, 1e-3)
    after = watch.measure()
    (remark,) = after.noted
    assert (remark.layer, remark.kind) == ("layers.0.mixer", "collapse")
    assert "fallen from" in remark.words
    assert after.layers[0].tolerance_ess[1e-3] == 0
    assert after.layers[0].entropy_ess == pytest.approx(before.layers[0].entropy_ess, rel=1e-4)
    assert after.remarks == (remark.words,)


def test_a_tolerance_below_the_rounding_floor_has_no_count():
    model = synthetic("LA")
    scaled_mixer(model, 1e3)
    snapshot = hf_ess.watch_ess(model, ids_of(model), tolerances=[1e-3, 1e-40])
    (layer,) = snapshot.layers
    assert layer.below_floor == (1e-40,)
    assert set(layer.tolerance_ess) == {1e-3}
    assert "ess/layer_0/tolerance_1e-40" not in snapshot.metrics()
    assert "ess/tolerance_1e-40" not in snapshot.metrics()
    assert any("rounding noise" in words for words in snapshot.remarks)
