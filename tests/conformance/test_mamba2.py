"""Conformance of Mamba-2's chunked scan, in pure models and in hybrids."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from naive_recurrent import naive_mamba2
from recurrent_conformance import LENGTH, Case, RecurrentConformance, recorded
from tiny_model_overrides import STATE
from tiny_models import build_tiny, tiny_input_ids

import hf_ess

# Their experts run in no float64.
IN_FLOAT32 = {"naive_dtype": torch.float32}


def _case(model_type: str, count: int, *, naive_dtype=torch.float64, **overrides) -> Case:
    return Case(
        name=model_type,
        build=partial(build_tiny, model_type, **overrides),
        naive=naive_mamba2,
        state_sizes=(STATE,) * count,
        naive_dtype=naive_dtype,
        receiver="norm",
    )


class TestMamba2(RecurrentConformance):
    mixer = "mamba-2"
    cases = (
        _case("mamba2", 2, time_step_limit=(0.02, 0.4)),
        _case("zamba2", 2, layers_block_type=["hybrid", "hybrid"], num_hidden_layers=2),
        _case("bamba", 1),
        _case("falcon_h1", 2, mamba_rms_norm=True),
        _case("nemotron_h", 1, **IN_FLOAT32),
        _case("granitemoehybrid", 1, **IN_FLOAT32),
    )

    def test_limits_of_the_step_size_are_kept(self) -> None:
        model = build_tiny("mamba2", time_step_limit=(0.02, 0.4))
        layers = self.record(model, tiny_input_ids(model, length=LENGTH))
        steps = torch.stack([layer.operator._write_scale.tensor for layer in layers])
        assert steps.min() == 0.02
        assert steps.max() == 0.4

    def test_heads_with_other_dimensions_than_the_state(self) -> None:
        model = build_tiny("mamba2", n_groups=4, state_size=3, num_heads=16, head_dim=8)
        layers = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert [layer.operator.shape for layer in layers] == [(2, 16, LENGTH, LENGTH)] * 2
        assert [layer.operator.state_size for layer in layers] == [3, 3]
        assert self.largest_residual(layers) <= 1e-5

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_padded_texts(self, side: str) -> None:
        model = build_tiny("mamba2")
        ids = tiny_input_ids(model, batch=2, length=LENGTH)
        mask = torch.ones_like(ids)
        mask[0, slice(None, 5) if side == "left" else slice(-5, None)] = 0
        layers, _, _ = recorded(model, ids, self.mixer, attention_mask=mask, use_cache=False)
        assert self.largest_residual(layers) <= 1e-5

    def test_attention_and_state_space_in_one_layer(self) -> None:
        model = build_tiny("falcon_h1")
        report = hf_ess.analyze(model, tiny_input_ids(model, length=LENGTH), progress=False)
        assert [(layer.index, layer.mixer) for layer in report.layers] == [
            (0, "mamba-2"),
            (0, "softmax attention"),
            (1, "mamba-2"),
            (1, "softmax attention"),
        ]
        assert all(layer.verified for layer in report.layers)
        assert not report.unsupported
