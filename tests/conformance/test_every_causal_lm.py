"""Every causal model type of transformers: measured right, or refused with the mixer's name."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import torch
from tiny_model_overrides import CANNOT_BUILD
from tiny_models import build_tiny, causal_lm_types, tiny_input_ids
from torch import nn

import hf_ess
from hf_ess.report import ESSReport, LayerESS
from model_adapters import LayerOperator

LENGTH = 23
TOLERANCES = (1e-1, 1e-3, 1e-5)
# Of the largest singular value.
LARGEST_ERROR = 3e-8
ATTENTION = "softmax attention"
# Early tokens see later ones in these: no number may come out as verified.
NOT_CAUSAL = {"cpmant", "reformer"}
# Where the mixers that are no attention sit in hybrids.
OTHER_MIXERS = {
    "bailing_hybrid": "layers.0.self_attn",
    "bamba": ".mamba",
    "falcon_h1": ".mamba",
    "granitemoehybrid": ".mamba",
    "inkling2_text": "_convolution",
    "inkling_text": "mlp_sconv",
    "jamba": ".mamba",
    "kimi_linear": "layers.0.self_attn",
    "lfm2": "layers.0.conv",
    "lfm2_moe": "layers.0.conv",
    "lfm3": "layers.0.conv",
    "minimax": "layers.1.self_attn",
    "nemotron_h": "layers.0.mixer",
    "olmo_hybrid": ".linear_attn",
    "qwen3_5": ".linear_attn",
    "qwen3_5_moe": ".linear_attn",
    "qwen3_5_moe_text": ".linear_attn",
    "qwen3_5_text": ".linear_attn",
    "qwen3_next": ".linear_attn",
    "qwen4_exp": ".linear_attn",
    "qwen4_exp_text": ".linear_attn",
    "recurrent_gemma": ".rg_lru",
    "zamba": ".mamba",
    "zamba2": ".mamba",
}


def analyzed(model: nn.Module, ids: torch.Tensor) -> ESSReport | None:
    """The report; None if no mixer is known, which the error must say of each by its name.

    The only warnings of hf_ess say that some mixers are left out, and only if some are.
    """
    options = {"positions": "all", "tolerances": TOLERANCES, "batch_size": 2, "progress": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", hf_ess.UnverifiedOperatorWarning)
        try:
            report = hf_ess.analyze(model, ids, **options)
        except hf_ess.UnsupportedModelError as error:
            refusal = error.causes
        else:
            incomplete = report.unsupported or not all(layer.verified for layer in report.layers)
            assert bool(caught) == bool(incomplete)
            return report
    modules = [name for name, _ in model.named_modules() if "." in name]
    assert refusal
    assert all(any(name in cause for name in modules) for cause in refusal)
    return None


def operators(model: nn.Module, ids: torch.Tensor) -> dict[tuple[str, int], LayerOperator]:
    found: dict[tuple[str, int], LayerOperator] = {}

    def keep(layer: LayerOperator) -> None:
        found[layer.name, layer.call] = layer

    with torch.no_grad(), hf_ess.record_operators(model, keep):
        model(input_ids=ids, use_cache=False)
    return found


def entropy_of(values: np.ndarray) -> np.ndarray:
    """`exp(-sum p log p)` of the last axis; values below rounding are zeros."""
    values = np.where(values > 1e-13 * values[..., :1], values, 0.0)
    shares = values / np.maximum(values.sum(-1, keepdims=True), 1e-300)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return np.where(values[..., 0] > 0, np.exp(-(shares * logs).sum(-1)), 0.0)


def of_size(values: np.ndarray, size: int) -> np.ndarray:
    """Values without padding; those that a structure of small rank leaves out are zeros."""
    assert not values[..., size:].any()
    missing = max(0, size - values.shape[-1])
    return np.pad(values[..., :size], [(0, 0)] * (values.ndim - 1) + [(0, missing)])


def check_layer(layer: LayerESS, recorded: LayerOperator) -> None:
    dense = recorded.operator.to_dense()
    assert layer.verified, layer.reason
    assert layer.residual.max() <= 1e-5
    if layer.mixer.startswith(ATTENTION):
        assert not dense.triu(1).any()
    else:
        assert dense.triu(1).abs().max() <= 1e-9 * dense.abs().max()
    spectra = hf_ess.block_singular_values(recorded.operator, "all")
    for place, i in enumerate(layer.positions.tolist()):
        true = np.linalg.svd(dense.numpy()[..., i:, :i], compute_uv=False)
        found, errors = (
            of_size(values[..., place, :].numpy(), true.shape[-1])
            for values in (spectra.values, spectra.value_errors())
        )
        assert (np.abs(found - true) <= errors + 1e-13 * true[..., :1]).all()
        assert (errors <= LARGEST_ERROR * true[..., :1]).all()
        entropy = entropy_of(true)
        np.testing.assert_allclose(layer.entropy_ess[..., place], entropy, rtol=0.0, atol=1e-8)
        for tau in TOLERANCES:
            decided = layer.undecided[tau][..., place] == 0
            assert (layer.tolerance_ess[tau][..., place] == (true > tau).sum(-1))[decided].all()
        rank = (true > 1e-10 * true[..., :1]).sum(-1)
        assert (rank <= layer.attainable_by_group[..., place]).all()
    for tau in TOLERANCES:
        assert (layer.undecided[tau] == 0).mean() > 0.95


def attention_that_ran(model: nn.Module, ids: torch.Tensor) -> set[str]:
    """Modules that ran and whose code asks transformers for an attention function."""
    ran: set[str] = set()
    handles = []
    for name, module in model.named_modules():
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        if code is not None and "get_interface" in code.co_names:
            handles.append(module.register_forward_hook(lambda *_, name=name: ran.add(name)))
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return ran


def named_in(report: ESSReport) -> set[str]:
    return {layer.name for layer in (*report.layers, *report.unsupported)}


@pytest.mark.parametrize(
    "model_type", [name for name in causal_lm_types() if name not in CANNOT_BUILD]
)
def test_measured_right_or_refused_by_name(model_type: str) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    report = analyzed(model, ids)
    if report is None:
        assert model_type in NOT_CAUSAL
        return
    assert model_type not in NOT_CAUSAL
    recorded = operators(model, ids)
    assert report.layers
    for layer in report.layers:
        check_layer(layer, recorded[layer.name, layer.call])
    names = named_in(report)
    assert attention_that_ran(model, ids) <= names
    assert all(layer.reason and layer.mixer for layer in report.unsupported)
    if model_type in OTHER_MIXERS:
        others = [
            name for name, _ in model.named_modules() if name.endswith(OTHER_MIXERS[model_type])
        ]
        assert others
        assert set(others) <= names


def test_tables_name_real_types() -> None:
    assert NOT_CAUSAL | set(OTHER_MIXERS) <= set(causal_lm_types())
