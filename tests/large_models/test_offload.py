"""Offloaded models: the same report bit for bit, and hooks of accelerate as they were."""

from __future__ import annotations

import copy
import inspect
import warnings

import accelerate
import numpy as np
import pytest
import torch
from large_models.offloading import CPU, FAMILIES, WAYS, to_both, to_disk, to_memory
from recording_checks import LENGTH, SHORT, run
from tiny_models import build_tiny, tiny_input_ids
from torch import nn

import hf_ess
from hf_ess.operators import ResidualMeter
from hf_ess.report import ESSReport
from model_adapters.weights import execution_devices, weight_of, weights_here, where_it_runs

# Whose convolutions and gates scope "mixer" takes in.
WIDER = ("recurrent_gemma", "mamba", "mamba2", "jamba", "zamba", "qwen3_next", "kimi_linear")


@pytest.fixture(autouse=True)
def _quiet():
    """What transformers says of missing kernels and of weights on meta is not tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def analyzed(model: nn.Module, **options: object) -> ESSReport:
    ids = tiny_input_ids(model, length=LENGTH)
    return hf_ess.analyze(model, ids, progress=False, **options)


def hooks_of(model: nn.Module) -> dict[str, object]:
    """Accelerate's hooks, and the forwards that fire them."""
    found: dict[str, object] = {}
    for name, part in model.named_modules():
        for key in ("_hf_hook", "_old_forward", "forward"):
            found[f"{name} {key}"] = vars(part).get(key)
    return found


def devices_of(model: nn.Module) -> dict[str, str]:
    return {name: weight.device.type for name, weight in model.named_parameters()}


@pytest.mark.parametrize(
    ("family", "way"),
    [(family, to_memory) for family in FAMILIES]
    + [(family, way) for family in ("lfm2", "mamba", "diffllama", "gpt2") for way in WAYS[1:]],
)
def test_the_report_is_that_of_the_plain_model(family, way, tmp_path):
    plain = build_tiny(family)
    scopes = ("core", "mixer") if family in WIDER else ("core",)
    expected = {scope: analyzed(plain, scope=scope) for scope in scopes}
    ids = tiny_input_ids(plain, length=LENGTH)
    logits = run(plain, ids)
    model = way(build_tiny(family), tmp_path)
    assert torch.equal(run(model, ids), logits)
    hooks, devices = hooks_of(model), devices_of(model)
    assert "meta" in devices.values()
    for scope, report in expected.items():
        assert report.verified_layers
        assert analyzed(model, scope=scope).fingerprint() == report.fingerprint()
    assert hooks_of(model) == hooks
    assert devices_of(model) == devices
    assert torch.equal(run(model, ids), logits)


@pytest.mark.parametrize("family", ["llama", "mamba", "lfm2", "recurrent_gemma"])
def test_jacobians_are_those_of_the_plain_model(family):
    expected = analyzed(build_tiny(family), method="jacobian", layers=0)
    model = to_memory(build_tiny(family))
    hooks = hooks_of(model)
    report = analyzed(model, method="jacobian", layers=0)
    assert hooks_of(model) == hooks
    assert set(devices_of(model).values()) == {"meta"}
    assert len(report.layers) == len(expected.layers)
    for layer, plain in zip(report.layers, expected.layers, strict=True):
        assert layer.verified
        # In float64, as the plain ones: in float32 they differ by 1e-7.
        np.testing.assert_allclose(layer.entropy_ess, plain.entropy_ess, rtol=1e-11)


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt])
def test_exceptions_leave_the_hooks_and_the_weights(raised):
    model = to_memory(build_tiny("lfm2"))
    ids = tiny_input_ids(model, length=SHORT)
    logits, hooks = run(model, ids), hooks_of(model)

    def sink(layer: object) -> None:
        raise raised("from the sink")

    with pytest.raises(raised), hf_ess.record_operators(model, sink):
        run(model, ids)
    assert hooks_of(model) == hooks
    assert torch.equal(run(model, ids), logits)


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek_v4", "lfm2"])
def test_operators_that_are_kept_work_after_the_run(family):
    """The eager function of gpt-oss reads the sinks of its module whenever it is asked."""
    model = to_memory(build_tiny(family))
    layers = []
    with hf_ess.record_operators(model, layers.append):
        run(model, tiny_input_ids(model, length=SHORT))
    assert layers
    for layer in layers:
        meter = ResidualMeter(layer.operator.batch)
        meter.add(layer.operator.to_dense() @ layer.inputs.double(), layer.outputs)
        assert float(meter.residual().max()) < 1e-5
    assert set(devices_of(model).values()) == {"meta"}


def test_weights_come_and_go_with_the_context():
    plain = build_tiny("llama")
    model = to_memory(copy.deepcopy(plain))
    attention, kept = (m.model.layers[0].self_attn for m in (model, plain))
    with weights_here(attention):
        assert torch.equal(attention.q_proj.weight, kept.q_proj.weight)
        assert model.model.layers[1].self_attn.q_proj.weight.is_meta
    assert attention.q_proj.weight.is_meta
    assert torch.equal(weight_of(attention.k_proj), kept.k_proj.weight)
    assert attention.k_proj.weight.is_meta


def test_a_module_that_runs_keeps_its_weights():
    layer = to_memory(nn.Linear(3, 3))
    forward = layer._old_forward

    def inside(features: torch.Tensor) -> torch.Tensor:
        with weights_here(layer):
            pass
        return forward(features)

    layer._old_forward = inside
    assert layer(torch.ones(1, 3)).shape == (1, 3)
    assert layer.weight.is_meta


def test_weights_that_nobody_brings_are_refused_by_name(tmp_path):
    model = to_both(build_tiny("llama"), tmp_path)
    stray = model.model.layers[1].mlp.up_proj
    stray.forward = stray._old_forward
    del stray._hf_hook, stray._old_forward
    stray.weight = nn.Parameter(torch.empty_like(stray.weight, device="meta"))
    with pytest.raises(hf_ess.HfEssError, match=r"first model\.layers\.1\.mlp\.up_proj\.weight"):
        analyzed(model)


def test_the_report_says_where_it_was_computed(tmp_path):
    plain, model = build_tiny("gpt2"), to_disk(build_tiny("gpt2"), tmp_path)
    assert set(devices_of(model).values()) == {"meta"}
    assert set(execution_devices(model).values()) == {CPU}
    # The head of gpt2 is its embedding, which is not counted twice.
    for key in ("device", "dtype", "parameters", "quantization"):
        assert analyzed(model).provenance[key] == analyzed(plain).provenance[key]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_broken_weights_on_disk_are_named(broken, tmp_path):
    model = build_tiny("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 2] = broken
    model = to_disk(model, tmp_path)
    with pytest.raises(hf_ess.NonFiniteError) as caught:
        analyzed(model)
    (cause,) = caught.value.causes
    assert cause == "these weights hold NaN or infinity: model.layers.1.mlp.up_proj.weight"
    assert set(devices_of(model).values()) == {"meta"}


def test_arguments_are_seen_where_the_module_runs():
    plain, placed = nn.Linear(3, 3), nn.Linear(3, 3)
    accelerate.hooks.add_hook_to_module(placed, accelerate.hooks.AlignDevicesHook("meta"))
    call = {"features": torch.ones(2), "scale": 3.0}
    assert where_it_runs(plain, call) is call
    moved = where_it_runs(placed, call)
    assert moved["features"].is_meta
    assert moved["scale"] == 3.0


def test_signatures_are_seen_through_the_hooks(tmp_path):
    model = to_both(build_tiny("llama"), tmp_path)
    assert "input_ids" in inspect.signature(model.forward).parameters
