"""Conformance of the gated delta rule."""

from __future__ import annotations

import sys
from functools import partial, wraps

import pytest
import torch
from naive_recurrent import naive_gated_delta_rule
from recurrent_conformance import LENGTH, SHORT, Case, RecurrentConformance, recorded
from tiny_model_overrides import HEAD_DIM
from tiny_models import build_tiny, tiny_input_ids

# Their experts run in no float64.
IN_FLOAT32 = {"naive_dtype": torch.float32}


def _case(model_type: str, *, receiver="norm", naive_dtype=torch.float64, **overrides) -> Case:
    return Case(
        name=model_type,
        build=partial(build_tiny, model_type, **overrides),
        naive=naive_gated_delta_rule,
        state_sizes=(HEAD_DIM,),
        naive_dtype=naive_dtype,
        receiver=receiver,
    )


class TestGatedDeltaRule(RecurrentConformance):
    mixer = "gated delta rule"
    cases = (
        _case("qwen3_next", **IN_FLOAT32),
        _case("qwen3_5"),
        _case("qwen3_5_moe", **IN_FLOAT32),
        _case("olmo_hybrid", receiver="o_norm"),
        _case("qwen4_exp", **IN_FLOAT32),
    )

    @pytest.mark.parametrize("negative", [False, True])
    def test_eigenvalues_of_both_signs(self, negative: bool) -> None:
        model = build_tiny("olmo_hybrid", linear_allow_neg_eigval=negative)
        layers = self.record(model, tiny_input_ids(model, batch=2, length=70))
        assert self.largest_residual(layers) <= 1e-5
        betas = layers[0].operator._write_scale.tensor
        assert (betas.max() > 1) == negative

    def test_function_that_goes_token_by_token(self, monkeypatch) -> None:
        model = build_tiny("qwen3_5")
        code = sys.modules[type(model).__module__]
        monkeypatch.setattr(
            code, "torch_chunk_gated_delta_rule", code.torch_recurrent_gated_delta_rule
        )
        layers = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert self.largest_residual(layers) <= 1e-5
        assert layers[0].operator.state_size == HEAD_DIM

    def test_packed_texts_are_refused(self, monkeypatch) -> None:
        model = build_tiny("qwen3_5")
        code = sys.modules[type(model).__module__]
        rule = code.torch_chunk_gated_delta_rule

        # A kernel takes the argument; the function for CPUs raises an error.
        @wraps(rule)
        def kernel(*args, cu_seqlens=None, **kwargs):
            return rule(*args, **kwargs)

        monkeypatch.setattr(code, "torch_chunk_gated_delta_rule", kernel)
        ids, starts = tiny_input_ids(model, length=SHORT), torch.tensor([0, 4, SHORT])
        layers, recorder, _ = recorded(
            model, ids, self.mixer, use_cache=False, cu_seq_lens_q=starts
        )
        assert not layers
        assert ["packed" in layer.reason for layer in recorder.refused] == [True]

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_padded_texts(self, side: str) -> None:
        model = build_tiny("qwen3_5")
        ids = tiny_input_ids(model, batch=2, length=LENGTH)
        mask = torch.ones_like(ids)
        mask[0, slice(None, 5) if side == "left" else slice(-5, None)] = 0
        layers, _, _ = recorded(model, ids, self.mixer, attention_mask=mask, use_cache=False)
        assert self.largest_residual(layers) <= 1e-5

    def test_value_heads_that_share_keys(self) -> None:
        model = build_tiny("qwen3_5", linear_num_value_heads=6, linear_value_head_dim=5)
        layers = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert layers[0].inputs.shape == (2, 6, LENGTH, 5)
        assert self.largest_residual(layers) <= 1e-5
