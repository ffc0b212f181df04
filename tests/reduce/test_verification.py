"""Operators that do not rebuild what their layer computed are not used."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import hf_ess
from hf_ess.analysis.rebuilding import why_unverified
from hf_ess.operators import DenseOperator
from hf_ess.reduce import distill
from hf_ess.synthetics import SyntheticConfig, build_model
from model_adapters import LayerOperator

IDS = torch.randint(16, (4, 10), generator=torch.Generator().manual_seed(0))


def recorded(*, wrong: float = 0.0) -> LayerOperator:
    matrix, inputs = torch.randn(1, 2, 6, 6).tril(), torch.randn(1, 2, 6, 3)
    gate, offset = torch.rand(1, 2, 6, 3), torch.randn(1, 2, 6, 3)
    outputs = gate * (matrix @ inputs) + offset
    operator = DenseOperator(matrix.double())
    return LayerOperator(
        "layer", 0, "dense", operator, inputs, outputs + wrong, gate, output_offset=offset
    )


def test_gates_and_offsets_belong_to_the_output() -> None:
    layer = recorded()
    assert why_unverified(layer) == ""
    for missing in ("output_gate", "output_offset"):
        assert "does not rebuild the output" in why_unverified(replace(layer, **{missing: None}))
    assert "the residual is " in why_unverified(recorded(wrong=0.1))


@pytest.fixture
def doubtful(monkeypatch):
    """A model of which no operator is near enough."""
    monkeypatch.setattr("hf_ess.analysis.rebuilding.residual_bound_of", lambda _: -1.0)
    config = SyntheticConfig(["GLA"], vocab_size=16, hidden_size=8, num_attention_heads=2)
    return build_model(config)


def test_they_are_not_matched(doubtful) -> None:
    quick = {"activation_steps": 1, "progress": False}
    with pytest.raises(hf_ess.UnsupportedMixerError, match="does not rebuild the output"):
        distill(doubtful, 0, 2, IDS, operator_steps=1, **quick)
    found = distill(doubtful, 0, 2, IDS, operator_steps=0, **quick)
    assert found.layers[0].after.operator is None


def test_they_are_not_truncated(doubtful) -> None:
    with pytest.raises(hf_ess.UnsupportedMixerError, match="does not rebuild the output"):
        hf_ess.reduce.truncate(doubtful, 2, IDS, progress=False)
