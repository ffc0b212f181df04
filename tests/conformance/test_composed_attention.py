"""Conformance of attention whose operator is made of what its module asks for."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from adapter_conformance import LENGTH, AdapterConformance, Case
from naive_attention import (
    attention_weights,
    eager_weights,
    heads_of,
    inputs_of,
    returned_weights,
    rotated,
    scaled,
)
from recurrent_conformance import recorded
from tiny_model_overrides import HEADS, WINDOW
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn

import hf_ess

NO_RECEIVER = {"test_outputs_are_what_the_layer_passes_on": "no submodule receives them"}
DIFFERENTIAL, DELAYED = "differential attention", "softmax attention (delayed values)"
LOCAL = "compressed attention (local keys)"
COMPRESSED = "compressed attention (compressed keys)"
MAIN, PREDICTED = "n-gram attention (main stream)", "n-gram attention (predicted streams)"
RATES = (8, 4)


def naive_differential(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`T_h - lambda T_{h + H/2}`."""
    operators = []
    for module, hidden, kwargs in inputs_of(model, ids, ".self_attn"):
        angles = kwargs["position_embeddings"]
        query = rotated(heads_of(module.q_proj(hidden), module.head_dim), *angles)
        key = rotated(heads_of(module.k_proj(hidden), module.head_dim), *angles)
        weights = attention_weights(query, key, scaled(module.head_dim**-0.5))
        # Rounded to float32 by the module before the exponential function.
        first = float((module.lambda_q1 * module.lambda_k1).sum().float().exp())
        second = float((module.lambda_q2 * module.lambda_k2).sum().float().exp())
        share = first - second + module.lambda_init
        pairs = weights.shape[1] // 2
        operators.append(weights[:, :pairs] - share * weights[:, pairs:])
    return operators


def naive_delayed(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """The value of a place is that of the token before it, in the second half of the heads."""
    operators = []
    for weights in eager_weights("zaya")(model, ids):
        dense = weights.clone()
        for j in range(weights.shape[-1]):
            later = j + 1 < weights.shape[-1]
            dense[:, HEADS // 2 :, :, j] = weights[:, HEADS // 2 :, :, j + 1] if later else 0.0
        operators.append(dense)
    return operators


def naive_local(model: nn.Module, ids: Tensor) -> list[Tensor]:
    return [weights[..., : ids.shape[1]] for weights in returned_weights(model, ids)[1:]]


def naive_compressed(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Entry w sums up the tokens w R to (w + 1) R - 1, and stands at the last of them."""
    length = ids.shape[1]
    operators = []
    for rate, weights in zip(RATES, returned_weights(model, ids)[1:], strict=True):
        dense = torch.zeros_like(weights[..., :length])
        for entry in range(length // rate):
            dense[..., (entry + 1) * rate - 1] = weights[..., length + entry]
        operators.append(dense)
    return operators


def naive_main_stream(model: nn.Module, ids: Tensor) -> list[Tensor]:
    with torch.no_grad():
        result = model(input_ids=ids, use_cache=False, output_attentions=True)
    return [weights.double() for weights in result.attentions]


def naive_predicted_streams(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Streams one after another, each with all heads; the last half of the keys are their own."""
    with torch.no_grad():
        result = model(input_ids=ids, use_cache=False, output_attentions=True)
    weights = [weights.double().flatten(1, 2) for weights in result.ngram_attentions]
    assert not any(own[..., ids.shape[1] :].tril(-1).any() for own in weights)
    return [own[..., : ids.shape[1]] for own in weights]


def _case(model_type: str, naive: Any, sizes: tuple[int | None, ...], **known: Any) -> Case:
    return Case(model_type, partial(build_tiny, model_type), naive, sizes, **known)


IN_FLOAT32 = {"naive_dtype": torch.float32, "naive_tolerance": 1e-6}


class TestDifferentialAttention(AdapterConformance):
    mixer = DIFFERENTIAL
    cases = (_case("diffllama", naive_differential, (None, None), receiver="groupnorm"),)


class TestDelayedValues(AdapterConformance):
    mixer = DELAYED
    # A delayed head still reads the token before its window.
    cases = (_case("zaya", naive_delayed, (None, WINDOW), receiver="o_proj", **IN_FLOAT32),)


class TestMainStream(AdapterConformance):
    mixer = MAIN
    cases = (_case("prophetnet", naive_main_stream, (None, None), lacks=NO_RECEIVER, **IN_FLOAT32),)


class TestPredictedStreams(AdapterConformance):
    mixer = PREDICTED
    cases = (
        _case("prophetnet", naive_predicted_streams, (None, None), lacks=NO_RECEIVER, **IN_FLOAT32),
    )


class TestLocalKeys(AdapterConformance):
    mixer = LOCAL
    cases = (_case("deepseek_v4", naive_local, (WINDOW - 1,) * 2, lacks=NO_RECEIVER, **IN_FLOAT32),)


class TestCompressedKeys(AdapterConformance):
    mixer = COMPRESSED
    cases = (
        _case(
            "deepseek_v4",
            naive_compressed,
            (None, None),
            lacks=NO_RECEIVER
            | {
                "test_short_and_odd_lengths": "a text shorter than a window has no entry",
                "test_state_size_and_capacity": "entries are fewer than tokens",
            },
            **IN_FLOAT32,
        ),
    )

    def test_capacity_counts_complete_windows(self) -> None:
        model = build_tiny("deepseek_v4")
        positions = torch.arange(1, LENGTH)
        dense, sparse = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert torch.equal(dense.operator.capacity(positions)[0, 0], positions // RATES[0])
        assert bool((sparse.operator.capacity(positions) <= positions // RATES[1]).all())

    @pytest.mark.parametrize("length", [1, 3, 4, 7, 8, 9])
    def test_windows_that_just_close(self, length: int) -> None:
        model = build_tiny("deepseek_v4")
        layers = self.record(model, tiny_input_ids(model, length=length))
        assert len(layers) == sum(length >= rate for rate in RATES)
        for layer in layers:
            assert self.largest_residual([layer]) <= 1e-5


@pytest.mark.parametrize(
    ("model_type", "mixers"),
    [
        ("diffllama", [DIFFERENTIAL] * 2),
        ("zaya", [DELAYED] * 2),
        ("deepseek_v4", ["softmax attention", LOCAL, COMPRESSED, LOCAL, COMPRESSED]),
        ("prophetnet", [MAIN, PREDICTED, MAIN, PREDICTED]),
    ],
)
def test_report_holds_every_mixer_and_no_part_of_one(model_type: str, mixers: list[str]) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    report = hf_ess.analyze(model, ids, progress=False)
    assert [layer.mixer for layer in report.layers] == mixers
    assert all(layer.verified for layer in report.layers)
    assert not report.unsupported


@pytest.mark.parametrize("model_type", ["diffllama", "zaya", "deepseek_v4"])
def test_later_calls_of_a_cached_text_are_refused(model_type: str) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, length=LENGTH)
    for mixer in (DIFFERENTIAL, DELAYED, LOCAL, COMPRESSED):
        layers, recorder, result = recorded(model, ids, mixer, use_cache=True)
        assert not recorder.refused
        if layers:
            assert AdapterConformance().largest_residual(layers) <= 1e-5
        later, recorder, _ = recorded(
            model, ids[:, :2], mixer, past_key_values=result.past_key_values, use_cache=True
        )
        assert not later
        assert all("a cache with earlier tokens" in layer.reason for layer in recorder.refused)
        assert {layer.index for layer in recorder.refused} == set(range(len(model.model.layers)))


def test_values_with_a_bias_or_an_odd_number_of_heads_are_refused() -> None:
    for overrides, reason in (
        ({"attention_bias": True}, "a bias stands for"),
        ({"num_key_value_heads": 1}, "half of a value head"),
    ):
        model = build_tiny("zaya", **overrides)
        layers, recorder, _ = recorded(model, tiny_input_ids(model), DELAYED, use_cache=False)
        assert not layers
        assert len(recorder.refused) == 2
        assert all(reason in layer.reason for layer in recorder.refused)
