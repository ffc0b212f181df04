"""Conformance of Kimi delta attention."""

from __future__ import annotations

from functools import partial

import torch
from naive_recurrent import naive_kimi_delta_attention
from recurrent_conformance import LENGTH, Case, RecurrentConformance
from tiny_model_overrides import HEAD_DIM
from tiny_models import build_tiny, tiny_input_ids
from torch import nn
from transformers import Glm5NextConfig, Glm5NextForConditionalGeneration

import hf_ess


def tiny_glm5_next() -> nn.Module:
    """A model of images and text, of which transformers names no causal language model."""
    config = Glm5NextConfig(
        text_config={
            "vocab_size": 128,
            "hidden_size": 64,
            "intermediate_size": 96,
            "moe_intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "kv_lora_rank": 32,
            "q_lora_rank": 32,
            "v_head_dim": 16,
            "qk_nope_head_dim": 16,
            "index_topk": 8,
            "index_kpool": 2,
            "index_head_dim": 16,
            "index_n_heads": 2,
            "linear_head_dim": HEAD_DIM,
            "linear_num_heads": 4,
            "hc_mult": 2,
            "pad_token_id": 0,
            "initializer_range": 0.15,
            "layer_types": ["linear_attention", "indexed_attention"],
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 32,
            "out_hidden_size": 64,
            "projection_intermediate_size": 64,
        },
        image_token_id=120,
        video_token_id=121,
        image_start_token_id=122,
        image_end_token_id=123,
        video_start_token_id=124,
        video_end_token_id=125,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Glm5NextForConditionalGeneration(config).eval()


def _case(name: str, build, width: int) -> Case:
    return Case(
        name=name,
        build=build,
        naive=naive_kimi_delta_attention,
        state_sizes=(width,),
        # Their experts run in no float64.
        naive_dtype=torch.float32,
        receiver="o_norm",
    )


class TestKimiDeltaAttention(RecurrentConformance):
    mixer = "kimi delta attention"
    cases = (
        _case("kimi_linear", partial(build_tiny, "kimi_linear"), HEAD_DIM),
        _case("bailing_hybrid", partial(build_tiny, "bailing_hybrid"), HEAD_DIM // 2),
        _case("glm5_next", tiny_glm5_next, HEAD_DIM),
    )

    def test_decays_differ_between_key_channels(self) -> None:
        model = build_tiny("kimi_linear")
        layers = self.record(model, tiny_input_ids(model, length=LENGTH))
        decays = layers[0].operator.transition.features[-1].tensor
        assert decays.shape[-1] == HEAD_DIM
        assert float(decays.std(-1).min()) > 0

    def test_hybrid_reports_both_kinds_of_mixers(self) -> None:
        model = build_tiny("bailing_hybrid")
        report = hf_ess.analyze(model, tiny_input_ids(model, length=LENGTH), progress=False)
        assert [layer.mixer for layer in report.layers] == [
            "kimi delta attention",
            "softmax attention",
        ]
        assert not report.unsupported
