"""Conformance of attention that models compute inline."""

from __future__ import annotations

from functools import partial

import torch
from adapter_conformance import AdapterConformance, Case
from naive_attention import (
    eager_weights,
    naive_bloom,
    naive_falcon_with_alibi,
    naive_gpt2,
    naive_gpt_neo,
    naive_mpt,
    returned_weights,
)
from tiny_model_overrides import WINDOW
from tiny_models import build_tiny


def _case(model_type, naive, *, implementation=None, sizes=(None, None), **known) -> Case:
    name = known.pop("name", model_type)
    overrides = known.pop("overrides", {})
    return Case(
        name=name,
        build=partial(build_tiny, model_type, attn_implementation=implementation, **overrides),
        naive=naive,
        state_sizes=sizes,
        **known,
    )


def _in_float32(model_type, naive=returned_weights, **known) -> Case:
    """For models that return their weights, or compute their scores, in float32."""
    return _case(model_type, naive, naive_dtype=torch.float32, naive_tolerance=1e-6, **known)


class TestInlineAttention(AdapterConformance):
    mixer = "softmax attention (inline)"
    cases = (
        _case("bloom", naive_bloom, receiver="dense"),
        _case("openai-gpt", naive_gpt2, receiver="c_proj"),
        _in_float32("mpt", naive_mpt, receiver="out_proj"),
        _in_float32("gpt_neo", naive_gpt_neo, receiver="out_proj", sizes=(None, WINDOW - 1)),
        _in_float32("gptj", receiver="out_proj"),
        _in_float32("codegen", receiver="out_proj"),
        _in_float32(
            "xlnet",
            lacks={"test_outputs_are_what_the_layer_passes_on": "no submodule receives them"},
        ),
        _in_float32("falcon", name="falcon-eager", implementation="eager", receiver="dense"),
        _in_float32("falcon", eager_weights("falcon"), receiver="dense"),
        _case(
            "falcon",
            naive_falcon_with_alibi,
            name="falcon-alibi",
            overrides={"alibi": True},
            receiver="dense",
        ),
    )
