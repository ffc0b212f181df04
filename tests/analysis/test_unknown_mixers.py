"""Mixers that no adapter knows are named; what is not causal is never averaged."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from analysis.handmade import (
    HEADS,
    BidirectionalAttention,
    Decoder,
    InlineAttention,
    LongTextAttention,
    Lstm,
    Pointwise,
    RunningMean,
    RunningSum,
)

import hf_ess
from hf_ess import UnsupportedModelError, UnverifiedOperatorWarning

analyze = partial(hf_ess.analyze, progress=False)
IDS = torch.randint(64, (1, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("mixer", "name", "kind"),
    [
        (Lstm, "layers.0.mixer.cell", "LSTM"),
        (RunningSum, "layers.0.mixer", "RunningSum"),
        # Without weights of its own it counts to the layer that holds it.
        (RunningMean, "layers.0", "Layer"),
    ],
)
def test_an_unknown_mixer_is_named_and_the_others_are_measured(mixer, name, kind):
    with pytest.warns(UnverifiedOperatorWarning, match=r"1 mixer\(s\) were found and not analysed"):
        report = analyze(Decoder(mixer, InlineAttention, Pointwise), IDS)
    assert [(found.name, found.index, found.mixer) for found in report.unsupported] == [
        (name, 0, kind)
    ]
    assert "no adapter knows its operator" in report.unsupported[0].reason
    assert "1 mixer(s) were found" in report.warnings[0]
    assert f"Unsupported: {name} ({kind})" in report.summary()
    assert [layer.name for layer in report.verified_layers] == ["layers.1.mixer"]
    assert report.layers[0].groups == HEADS
    assert report.average_ess() > 1


def test_without_unknown_mixers_nothing_is_listed(recwarn):
    report = analyze(Decoder(InlineAttention, Pointwise, InlineAttention), IDS)
    assert [layer.index for layer in report.layers] == [0, 2]
    assert report.unsupported == []
    assert report.warnings == []
    assert not recwarn.list


def test_a_model_of_unknown_mixers_only():
    with pytest.raises(UnsupportedModelError, match="no causal mixer") as caught:
        analyze(Decoder(Lstm, RunningSum), IDS)
    assert [cause.split(" (")[0] for cause in caught.value.causes] == [
        "layers.0.mixer.cell",
        "layers.1.mixer",
    ]


def test_a_bidirectional_layer_among_causal_ones_is_not_averaged():
    model = Decoder(InlineAttention, BidirectionalAttention)
    with pytest.warns(UnverifiedOperatorWarning, match=r"1 layer\(s\) are not verified"):
        report = analyze(model, IDS)
    causal, other = report.layers
    assert (causal.verified, other.verified) == (True, False)
    assert other.name == "layers.1.mixer"
    assert other.reason.startswith("not causal: weights on future tokens reach")
    assert report.average_ess() == causal.entropy_ess.mean()
    assert report.average_ess() != np.mean([causal.entropy_ess, other.entropy_ess])
    assert report.total_ess() == pytest.approx(causal.entropy_ess.mean() * causal.channels)
    frame = report.to_pandas()
    assert frame["average_entropy_ess"].isna().tolist() == [False, True]
    assert "layers.1.mixer: not causal" in report.summary()


def test_bidirectional_layers_only():
    with pytest.raises(UnsupportedModelError, match="in all of its 2 mixers"):
        analyze(Decoder(BidirectionalAttention, BidirectionalAttention), IDS)


def test_a_layer_that_skips_some_texts_is_not_averaged():
    model = Decoder(InlineAttention, LongTextAttention)
    inputs = {"input_ids": [IDS[0].tolist(), IDS[0, :15].tolist()]}
    with pytest.warns(UnverifiedOperatorWarning):
        report = analyze(model, inputs, positions=[4, 9])
    assert [layer.verified for layer in report.layers] == [True, False]
    assert report.layers[1].reason == "it ran on 1 of 2 texts only"


def test_a_layer_that_ran_in_the_trial_only_is_listed():
    model = Decoder(InlineAttention, LongTextAttention)
    with pytest.warns(UnverifiedOperatorWarning):
        report = analyze(model, IDS[:, :15], positions=[4, 9])
    assert [layer.name for layer in report.layers] == ["layers.0.mixer"]
    assert [(found.name, found.reason) for found in report.unsupported] == [
        ("layers.1.mixer", "it ran in a short trial, and not on the text")
    ]


def test_an_unknown_mixer_cannot_be_chosen():
    with pytest.raises(hf_ess.InvalidInputError, match="No analysable layer is called 0") as caught:
        analyze(Decoder(Lstm, InlineAttention), IDS, layers=[0])
    assert "layers.1.mixer" in caught.value.fix


def test_layers_that_share_a_mixer_are_runs_of_it(recwarn):
    shared = InlineAttention()
    report = analyze(Decoder(lambda: shared, Pointwise, lambda: shared), IDS)
    assert [(layer.name, layer.call) for layer in report.verified_layers] == [
        ("layers.0.mixer", 0),
        ("layers.0.mixer", 1),
    ]
    first, second = report.layers
    assert not np.array_equal(first.entropy_ess, second.entropy_ess)
    assert report.unsupported == []
    assert not recwarn.list
    assert "0 (run 2)" in report.summary()


@pytest.mark.parametrize("how", ["wrapped", "in place", "one layer"])
def test_a_compiled_model_is_analysed_as_it_was_before(how):
    reference = analyze(Decoder(InlineAttention, Pointwise), IDS)
    model = Decoder(InlineAttention, Pointwise)
    if how == "wrapped":
        model = torch.compile(model, backend="eager")
    elif how == "in place":
        model.compile(backend="eager")
    else:
        model.layers[0].compile(backend="eager")
    report = analyze(model, IDS)
    assert report.unsupported == []
    assert [layer.name for layer in report.verified_layers] == ["layers.0.mixer"]
    np.testing.assert_array_equal(report.layers[0].entropy_ess, reference.layers[0].entropy_ess)
    assert report.warnings == []
