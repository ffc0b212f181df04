"""Saturated and collapsed layers are called so by the rules that are written down."""

from __future__ import annotations

import numpy as np
import pytest
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified

from hf_ess.space.words import findings, kind_of, layer_labels, verdict

SHAPE = (1, 2, 3)


def layer_with(entropy, attainable=10.0, counts=5.0, index=0, **changes):
    """A layer of constant entropy-ESS, with that many values above every tolerance."""
    fields = {
        "entropy_ess": np.full(SHAPE, entropy),
        "attainable_by_group": np.full(SHAPE, attainable),
        "tolerance_ess": {tau: np.full(SHAPE, counts) for tau in TOLERANCES},
    }
    return make_layer(index, **(fields | changes))


@pytest.mark.parametrize(
    ("entropy", "attainable", "kind"),
    [
        (9.0, 10.0, "saturated"),
        (8.9, 10.0, ""),
        (1.1, 10.0, "collapsed"),
        (1.2, 10.0, ""),
        (1.0, 2.0, ""),
        (2.0, 2.0, ""),
        (2.0, 2.1, "saturated"),
        (1.0, 2.1, "collapsed"),
        (5.0, 10.0, ""),
    ],
)
def test_the_rules_of_entropy(entropy, attainable, kind):
    sentence = verdict(layer_with(entropy, attainable))
    assert kind_of(sentence) == kind
    assert bool(sentence) == bool(kind)


def test_averages_decide_and_not_single_positions():
    uneven = np.array([[[1.0, 10.0, 10.0]]] * 2).reshape(SHAPE)
    attainable = np.array([1.0, 10.0, 10.0])
    full = layer_with(0, entropy_ess=uneven, attainable_by_group=attainable)
    assert kind_of(verdict(full)) == "saturated"
    half = layer_with(0, entropy_ess=uneven, attainable_by_group=np.array([10.0, 10.0, 10.0]))
    assert verdict(half) == ""


def test_no_value_above_the_smallest_sound_tolerance_is_collapse():
    sentence = verdict(layer_with(5.0, counts=0.0))
    assert sentence.startswith("Collapsed: no singular value of any head is above 1e-05")
    counts = {tau: np.zeros(SHAPE) for tau in TOLERANCES}
    counts[1e-5][0, 1, 2] = 1
    assert verdict(layer_with(5.0, tolerance_ess=counts)) == ""


def test_tolerances_below_the_floor_say_nothing():
    counts = {tau: np.zeros(SHAPE) for tau in TOLERANCES}
    counts[1e-5][:] = 7
    below = {tau: tau == 1e-5 for tau in TOLERANCES}
    sentence = verdict(layer_with(5.0, tolerance_ess=counts, below_floor=below))
    assert "above 0.001" in sentence
    everywhere = dict.fromkeys(TOLERANCES, True)
    assert verdict(layer_with(5.0, tolerance_ess=counts, below_floor=everywhere)) == ""


def test_sentences_give_the_numbers():
    assert verdict(layer_with(9.5)) == (
        "Saturated: entropy-ESS is 95.0% of what is attainable; nearly every token counts."
    )
    assert "95.0% of what a state of 16 can hold" in verdict(layer_with(9.5, state_size=16))
    assert verdict(layer_with(1.05)) == (
        "Collapsed: entropy-ESS is 1.05 on average, so that one direction carries nearly "
        "everything, where 10.00 are attainable."
    )


def test_nothing_is_said_of_a_layer_that_is_not_verified():
    assert verdict(layer_with(9.5, **unverified())) == ""


def test_findings_name_the_layers():
    layers = [
        layer_with(entropy, index=number)
        for number, entropy in enumerate([9.5, 5.0, 1.0, 9.9, 9.2, 1.05])
    ]
    layers.append(layer_with(9.5, index=6, **unverified()))
    assert findings(make_report(layers, unsupported=[UNSUPPORTED])) == [
        "6 of 7 measured layers are verified: their operators rebuild what the layers computed. "
        "1 more could not be measured.",
        "Layers 0, 3 and 4 are saturated.",
        "Layers 2 and 5 are collapsed.",
    ]
    assert findings(make_report([layer_with(1.0, index=4)]))[1:] == ["Layer 4 is collapsed."]
    assert findings(make_report([layer_with(5.0)]))[1:] == ["No layer is saturated or collapsed."]


def test_a_report_without_verified_layers_says_that_no_number_is_shown():
    assert findings(make_report([layer_with(5.0, **unverified())])) == [
        "None of the 1 measured layers is verified, so no number is shown."
    ]


def test_layers_of_one_number_are_told_apart():
    twins = [
        layer_with(9.5, index=3, name=f"model.layers.3.{mixer}", mixer=mixer)
        for mixer in ("mamba-2", "softmax attention")
    ]
    report = make_report([*twins, layer_with(5.0, index=4)])
    assert layer_labels(report) == ["3 mamba-2", "3 softmax attention", "4"]
    assert findings(report)[1] == "Layers 3 mamba-2 and 3 softmax attention are saturated."
