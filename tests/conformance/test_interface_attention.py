"""Conformance of attention through transformers' AttentionInterface."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch
from adapter_conformance import LENGTH, AdapterConformance, Case
from naive_attention import (
    eager_weights,
    naive_gemma2,
    naive_gpt2,
    naive_gpt_bigcode,
    naive_gpt_oss,
    naive_granite_swa,
    naive_llama,
    naive_mistral,
)
from tiny_model_overrides import WINDOW
from tiny_models import build_tiny, tiny_input_ids

SEEN_BEFORE = WINDOW - 1


def _case(model_type, naive, sizes, *, implementation=None, receiver="o_proj", **known) -> Case:
    return Case(
        name=model_type if implementation is None else f"{model_type}-{implementation}",
        build=partial(build_tiny, model_type, attn_implementation=implementation),
        naive=naive,
        state_sizes=sizes,
        receiver=receiver,
        **known,
    )


def _in_float32(model_type, sizes, naive=None, **known) -> Case:
    """For models that cannot run in float64, and for oracles that are a model's eager twin."""
    naive = naive or eager_weights(model_type)
    return _case(model_type, naive, sizes, naive_dtype=torch.float32, naive_tolerance=1e-6, **known)


class TestInterfaceAttention(AdapterConformance):
    mixer = "softmax attention"
    cases = (
        _case("llama", naive_llama, (None, None), implementation="eager"),
        _case("llama", naive_llama, (None, None), implementation="sdpa"),
        _case("gpt2", naive_gpt2, (None, None), receiver="c_proj"),
        _case("gpt_bigcode", naive_gpt_bigcode, (None, None), receiver="c_proj"),
        _case("mistral", naive_mistral, (SEEN_BEFORE, SEEN_BEFORE)),
        _case("mistral", naive_mistral, (SEEN_BEFORE, SEEN_BEFORE), implementation="eager"),
        # Up to transformers 5.20, its sdpa leaves out the soft cap.
        _case("gemma2", naive_gemma2, (SEEN_BEFORE, None), implementation="eager"),
        _in_float32("gpt_oss", (SEEN_BEFORE, None), naive_gpt_oss),
        _case("granite_swa", naive_granite_swa, (None, SEEN_BEFORE)),
        _in_float32("llama4_text", (SEEN_BEFORE, None)),
        _in_float32("deepseek_v3", (None, None)),
        _in_float32("inkling_text", (SEEN_BEFORE, None)),
    )


@pytest.fixture
def nothing_compiled():
    with torch.compiler.set_stance("force_eager"):
        yield


# torch warns that flex attention is slow unless it is compiled, and how to compile its masks.
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method`:DeprecationWarning")
@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning")
class TestUnfusedFlexAttention(AdapterConformance):
    mixer = "softmax attention"
    cases = (
        _case(
            "llama",
            naive_llama,
            (None, None),
            implementation="flex_attention",
            lacks={
                "test_gradients_are_those_of_a_run_without_recording": "no backward on CPUs",
            },
        ),
    )


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++"))), reason="there is no compiler")
@pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning")
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method`:DeprecationWarning")
def test_compiled_flex_attention() -> None:
    model = build_tiny("llama", attn_implementation="flex_attention")
    check = TestInterfaceAttention()
    layers = check.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
    assert len(layers) == 2
    assert check.largest_residual(layers) <= 1e-5
