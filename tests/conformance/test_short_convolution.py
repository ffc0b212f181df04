"""Conformance of short convolutions that are mixers of their own (LFM2, Inkling)."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from naive_attention import inputs_of
from recurrent_conformance import LENGTH, SHORT, Case, RecurrentConformance, recorded
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn
from transformers import DynamicCache

from model_adapters import record_operators
from model_adapters.captured import EARLIER_STATE

GATED, PLAIN, DYNAMIC, DILATED = (
    "gated short convolution",
    "short convolution",
    "dynamic short convolution",
    "dilated short convolution",
)
NO_RECEIVER = {"test_outputs_are_what_the_layer_passes_on": "no submodule receives them"}
# Their experts run in no float64, and in half precision their routers fail.
IN_FLOAT32 = {"naive_dtype": torch.float32}
NO_HALF = {"test_half_precision": "its router takes no half precision"}


def banded(taps: Tensor, diagonal: float = 0.0) -> Tensor:
    """`M_ij = taps[b, d, i, i - j]` and the diagonal, from taps `[B, D, L, K]`."""
    taps = taps.double()
    batch, width, length, count = taps.shape
    dense = torch.zeros(batch, width, length, length, dtype=torch.float64)
    for i, k in product(range(length), range(count)):
        if k <= i:
            dense[:, :, i, i - k] = taps[:, :, i, k]
    return dense + diagonal * torch.eye(length, dtype=torch.float64)


def naive_gated(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`M_ij = c_i w_{i-j} b_j`."""
    operators = []
    for module, hidden, _ in inputs_of(model, ids, ".conv"):
        features = module.in_proj(hidden).double().transpose(1, 2)
        gate_in, gate_out, _ = features.chunk(3, dim=1)
        weight = module.conv.weight[:, 0].double()
        taps = torch.stack([weight[:, -1 - k] for k in range(weight.shape[1])], dim=-1)
        dense = banded(taps[None, :, None].expand(*gate_in.shape, -1))
        operators.append(gate_out[..., :, None] * dense * gate_in[..., None, :])
    return operators


CONVOLUTIONS = ("_sconv", "_convolution")


def naive_residual(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`(I + T) / sqrt(K + 1)`, without the root in the first Inkling."""
    operators = []
    for module, hidden, _ in inputs_of(model, ids, CONVOLUTIONS):
        if not hasattr(module, "conv1d"):
            continue
        count = module.conv_kernel_size
        taps = module.conv1d.weight[:, 0].flip(-1)[None, :, None]
        dense = banded(taps.expand(hidden.shape[0], -1, hidden.shape[1], -1), diagonal=1.0)
        first = type(module).__name__ == "InklingShortConvolution"
        operators.append(dense if first else dense / math.sqrt(count + 1))
    return operators


def naive_dynamic(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`(I + T) / sqrt(2 K + 1)`, T with taps of each token."""
    operators = []
    told: list[Tensor] = []
    handles = [
        module.weight_proj.register_forward_hook(lambda *run: told.append(run[-1]))
        for module in model.modules()
        if hasattr(module, "weight_proj")
    ]
    runs = [run for run in inputs_of(model, ids, CONVOLUTIONS) if hasattr(run[0], "weight_proj")]
    for handle in handles:
        handle.remove()
    for (module, hidden, _), changes in zip(runs, told, strict=True):
        batch, length, width = hidden.shape
        count, per_head = module.conv_kernel_size, width // module.num_heads
        taps = torch.zeros(batch, width, length, count)
        for c, k in product(range(width), range(count)):
            change = changes[:, :, (c // per_head) * count + k]
            taps[:, c, :, k] = module.static_weight[k, c] + change
        operators.append(banded(taps, diagonal=1.0) / math.sqrt(2 * count + 1))
    return operators


def naive_dilated(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Taps as far apart as an n-gram is long."""
    operators = []
    apart = model.config.ngram_size
    for layer in model.model.layers:
        if layer.ple is None:
            continue
        weight = layer.ple.conv1d.weight[:, 0]
        width, count = weight.shape
        taps = torch.zeros(len(ids), width, ids.shape[1], (count - 1) * apart + 1)
        for k in range(count):
            taps[..., k * apart] = weight[:, count - 1 - k, None]
        operators.append(banded(taps))
    return operators


def _case(model_type: str, naive: Any, sizes: tuple[int, ...], **known: Any) -> Case:
    return Case(model_type, partial(build_tiny, model_type), naive, sizes, **known)


class TestGatedShortConvolution(RecurrentConformance):
    mixer = GATED
    cases = (
        _case("lfm2", naive_gated, (2,), receiver="out_proj"),
        _case("lfm3", naive_gated, (6,), receiver="out_proj", **IN_FLOAT32),
    )


class TestResidualShortConvolution(RecurrentConformance):
    mixer = PLAIN
    cases = (
        _case("inkling2_text", naive_residual, (3,) * 6, lacks=NO_RECEIVER | NO_HALF, **IN_FLOAT32),
    )


class TestDynamicShortConvolution(RecurrentConformance):
    mixer = DYNAMIC
    cases = (
        _case("inkling2_text", naive_dynamic, (3, 3), lacks=NO_RECEIVER | NO_HALF, **IN_FLOAT32),
    )


class TestDilatedShortConvolution(RecurrentConformance):
    mixer = DILATED
    cases = (_case("qwen4_exp_text", naive_dilated, (9,), lacks=NO_RECEIVER, **IN_FLOAT32),)

    def test_the_table_of_n_grams_is_named(self) -> None:
        model = build_tiny("qwen4_exp_text")
        _, recorder, _ = recorded(model, tiny_input_ids(model), DILATED, use_cache=False)
        (refused,) = recorder.refused
        assert (refused.name, refused.mixer) == ("model.layers.0.ple", "n-gram embedding")
        assert "hash" in refused.reason


CHECKS = TestGatedShortConvolution()


@pytest.mark.parametrize(
    ("model_type", "mixer", "naive", "sizes"),
    [
        ("lfm2_moe", GATED, naive_gated, [2]),
        ("inkling_text", PLAIN, naive_residual, [3] * 8),
    ],
)
def test_kin(model_type: str, mixer: str, naive: Any, sizes: list[int]) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    layers, _, _ = recorded(model, ids, mixer, use_cache=False)
    assert CHECKS.largest_residual(layers) <= 1e-5
    assert [layer.operator.state_size for layer in layers] == sizes
    with torch.no_grad():
        for layer, expected in zip(layers, naive(model, ids), strict=True):
            assert float((layer.operator.to_dense() - expected).abs().max()) <= 1e-10


def test_every_mixer_of_a_layer_is_found() -> None:
    model = build_tiny("inkling2_text")
    names: dict[str, list[str]] = {}
    for mixer in (PLAIN, DYNAMIC, "softmax attention"):
        layers, recorder, _ = recorded(model, tiny_input_ids(model), mixer, use_cache=False)
        names[mixer] = [layer.name.removeprefix("model.layers.") for layer in layers]
        assert not recorder.refused
    outside = ["post_attention_convolution", "post_mlp_convolution"]
    inside = ["self_attn.k_sconv", "self_attn.v_sconv"]
    assert names[PLAIN] == [f"0.{name}" for name in inside + outside] + [
        f"1.{name}" for name in outside
    ]
    assert names[DYNAMIC] == [f"1.{name}" for name in inside]
    assert names["softmax attention"] == ["0.self_attn", "1.self_attn"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bias_is_no_part_of_the_operator(dtype: torch.dtype) -> None:
    model = build_tiny("lfm2", conv_bias=True)
    model.model.layers[0].conv.conv.bias.data += 1.0
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    (layer,), _, _ = recorded(model.to(dtype), ids, GATED, use_cache=False)
    assert CHECKS.largest_residual([layer]) <= (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize(
    ("model_type", "mixer"), [("lfm2", GATED), ("inkling2_text", PLAIN), ("inkling2_text", DYNAMIC)]
)
@pytest.mark.parametrize("padded", [slice(0, 5), slice(LENGTH - 5, LENGTH)])
def test_padding(model_type: str, mixer: str, padded: slice) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    mask = torch.ones_like(ids)
    mask[0, padded] = 0
    layers, _, _ = recorded(model, ids, mixer, attention_mask=mask, use_cache=False)
    assert CHECKS.largest_residual(layers) <= 1e-5
    for layer in layers:
        dense = layer.operator.to_dense().tril(-1)
        assert not dense[0, ..., padded].any()
        assert dense[1, ..., padded].any()


def test_texts_shorter_than_the_filter_fill_the_cache() -> None:
    model = build_tiny("lfm3")
    ids = tiny_input_ids(model, length=SHORT)
    layers, _, _ = recorded(model, ids[:, :4], GATED, use_cache=True)
    assert CHECKS.largest_residual(layers) <= 1e-5


def test_a_cache_that_holds_inputs_is_refused() -> None:
    model = build_tiny("lfm2")
    ids = tiny_input_ids(model, length=SHORT)
    cache = DynamicCache(config=model.config)
    first: list[Any] = []
    with record_operators(model, first.append) as recorder, torch.no_grad():
        model(input_ids=ids[:, :3], past_key_values=cache)
    assert not recorder.refused
    names = [layer.name for layer in first if layer.mixer == GATED]
    with record_operators(model, [].append) as recorder, torch.no_grad():
        model(input_ids=ids[:, 3:], past_key_values=cache)
    refused = [layer for layer in recorder.refused if layer.mixer == GATED]
    assert [layer.name for layer in refused] == names != []
    assert {layer.reason for layer in refused} == {EARLIER_STATE}
