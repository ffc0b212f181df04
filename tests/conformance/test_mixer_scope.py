"""Scope "mixer": recurrences with the convolution, its activation, and the gates around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recording_checks import LENGTH, SHORT, footprint, run
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

import hf_ess
from hf_ess.cli.app import app
from hf_ess.operators import ResidualMeter
from model_adapters import LayerOperator

LONG = 48
# With a direct path (D) the rank of blocks is N + K - 1, without N + K - 2.
RANKS = {
    "mamba": 8 + 3, "falcon_mamba": 8 + 3, "jamba": 8 + 3, "zamba": 8 + 3, "mamba2": 8 + 3,
    "bamba": 8 + 3, "falcon_h1": 8 + 3, "qwen3_next": 16 + 2, "olmo_hybrid": 16 + 2,
    "kimi_linear": 16 + 2, "bailing_hybrid": 8 + 2, "recurrent_gemma": 1 + 2,
}  # fmt: skip
GATED = {"mamba": "out_proj", "falcon_mamba": "out_proj", "jamba": "out_proj"}


@torch.no_grad()
def record(model: nn.Module, ids: Tensor, scope: str = "mixer", **kwargs) -> list[LayerOperator]:
    layers: list[LayerOperator] = []
    with hf_ess.record_operators(model, layers.append, scope=scope):
        model(input_ids=ids, **{"use_cache": False, **kwargs})
    return layers


def mixers(model: nn.Module, ids: Tensor, **kwargs) -> list[LayerOperator]:
    return [layer for layer in record(model, ids, **kwargs) if layer.scope == "mixer"]


def residual(layer: LayerOperator) -> float:
    rebuilt = layer.operator.apply(layer.inputs)
    if layer.output_gate is not None:
        rebuilt = rebuilt * layer.output_gate
    if layer.output_offset is not None:
        rebuilt = rebuilt + layer.output_offset
    meter = ResidualMeter(layer.inputs.shape[0])
    meter.add(rebuilt, layer.outputs)
    return float(meter.residual().max())


@torch.no_grad()
def remembering(model_type: str) -> nn.Module:
    """A model whose states decay slowly, so that no direction is lost to rounding."""
    model = build_tiny(model_type)
    delta = any(
        hasattr(module, "dt_bias") and hasattr(module, "b_proj") for module in model.modules()
    )
    for name, weight in model.named_parameters():
        random = torch.Generator().manual_seed(1)
        if "conv" in name and name.endswith("weight"):
            weight.copy_(torch.randn(weight.shape, generator=random))
        elif name.endswith(("dt_bias", "dt_proj.bias")):
            weight.fill_(-8.0 if model_type == "bailing_hybrid" else 0.3)
        elif name.endswith(".D"):
            weight.fill_(3.0)
        elif name.endswith("A_log") and model_type == "bailing_hybrid":
            weight.zero_()
        elif name.endswith("A_log"):
            slow = torch.linspace(0.02, 0.05, weight.shape[-1]).log()
            weight.copy_(slow.expand_as(weight) - (2.0 if delta else 0.0))
    return model


@torch.no_grad()
def naive(model: nn.Module, core: LayerOperator, wide: LayerOperator) -> tuple[Tensor, Tensor]:
    """`diag(gate) T diag(sigmoid(c)) T_conv` and its offset, entry by entry from the equations."""
    module = model.get_submodule(core.name)
    convolution = module.conv1d
    batch, channels, length, _ = wide.inputs.shape
    start = convolution.out_channels - channels if "delta" in core.mixer else 0
    own = slice(start, start + channels)
    taps = convolution.weight.double()[own]
    bias = torch.zeros(channels) if convolution.bias is None else convolution.bias[own]
    bias = bias.double()
    padded = functional.pad(wide.inputs[..., 0].double(), (taps.shape[-1] - 1, 0))
    before = functional.conv1d(padded, taps, bias, groups=channels)
    shifts = torch.zeros(channels, length, length, dtype=torch.float64)
    for i in range(length):
        for k in range(min(taps.shape[-1], i + 1)):
            shifts[:, i, i - k] = taps[:, 0, -1 - k]
    dense = core.operator.to_dense().repeat_interleave(core.inputs.shape[-1], 1)
    gate = torch.ones(batch, channels, length, dtype=torch.float64)
    if core.output_gate is not None:
        gate = core.output_gate[..., 0].double()
    frozen = gate[..., None] * dense * torch.sigmoid(before)[..., None, :]
    return frozen @ shifts, frozen @ bias[:, None].expand(channels, length)[..., None]


@pytest.fixture(params=RANKS)
def model_type(request) -> str:
    return request.param


def test_outputs_are_rebuilt_with_their_offset(model_type: str) -> None:
    model = build_tiny(model_type)
    layers = mixers(model, tiny_input_ids(model, batch=2, length=LENGTH))
    assert layers
    for layer in layers:
        assert layer.inputs.shape == layer.outputs.shape
        assert layer.inputs.shape[-1] == 1
        assert residual(layer) <= 1e-5
        if layer.output_offset is not None:
            assert layer.output_offset.shape == layer.outputs.shape


@pytest.mark.parametrize("known", sorted(set(RANKS) - {"recurrent_gemma", "zamba"}))
def test_operator_is_that_of_the_equations(known: str) -> None:
    model = build_tiny(known)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "conv" in name and name.endswith("bias"):
                weight.copy_(torch.linspace(-1.0, 1.0, len(weight)))
    ids = tiny_input_ids(model, batch=2, length=SHORT)
    cores = {layer.name: layer for layer in record(model, ids, "core")}
    wides = mixers(model, ids)
    assert wides
    for wide in wides:
        expected, offset = naive(model, cores[wide.name], wide)
        assert float((wide.operator.to_dense() - expected).abs().max()) <= 1e-10
        if wide.output_offset is None:
            assert not offset.any()
        else:
            assert float((wide.output_offset - offset).abs().max()) <= 1e-10
        assert residual(wide) <= 1e-5


def test_rg_lru_is_that_of_its_block() -> None:
    model = build_tiny("recurrent_gemma")
    seen: dict[str, Tensor] = {}
    block = model.model.layers[0].temporal_block

    def keep(name: str):
        return lambda _module, args, result: seen.update({name: args[0], f"{name} out": result})

    handles = [
        getattr(block, name).register_forward_hook(keep(name))
        for name in ("conv_1d", "linear_y", "linear_out")
    ]
    ids = tiny_input_ids(model, batch=2, length=SHORT)
    core, wide = record(model, ids, "core")[0], mixers(model, ids)[0]
    for handle in handles:
        handle.remove()
    assert torch.equal(wide.inputs[..., 0], seen["conv_1d"])
    assert torch.equal(wide.outputs[..., 0].mT, seen["linear_out"])
    # The input gate and its scale are what the scan got, per unit of what the convolution gave.
    scale = core.inputs[..., 0] / seen["conv_1d out"][..., :SHORT]
    gate = block.act_fn(seen["linear_y out"]).mT
    taps = torch.zeros(64, SHORT, SHORT, dtype=torch.float64)
    for i in range(SHORT):
        for k in range(min(4, i + 1)):
            taps[:, i, i - k] = block.conv_1d.weight[:, 0, -1 - k]
    expected = gate[..., None] * core.operator.to_dense() * scale[..., None, :] @ taps
    torch.testing.assert_close(wide.operator.to_dense(), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("known", sorted(GATED))
def test_inputs_and_outputs_are_those_of_the_projections(known: str) -> None:
    model = build_tiny(known)
    seen: dict[str, Tensor] = {}
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    wide = mixers(model, ids)[0]
    module = model.get_submodule(wide.name)
    module.in_proj.register_forward_hook(lambda _module, _args, result: seen.update(inputs=result))
    module.out_proj.register_forward_pre_hook(lambda _, args: seen.update(outputs=args[0]))
    run(model, ids)
    assert torch.equal(wide.inputs[..., 0].mT, seen["inputs"].chunk(2, -1)[0])
    assert torch.equal(wide.outputs[..., 0].mT, seen["outputs"])


def test_ranks_are_exact(model_type: str) -> None:
    model = remembering(model_type)
    layers = mixers(model, tiny_input_ids(model, length=LONG))
    assert layers
    for layer in layers:
        assert layer.operator.state_size == RANKS[model_type]
        dense = layer.operator.to_dense().numpy()
        for i in (2, LONG // 2, LONG - 3):
            values = np.linalg.svd(dense[..., i:, :i], compute_uv=False)
            ranks = (values > 1e-9 * values[..., :1]).sum(-1)
            attainable = layer.operator.attainable(torch.tensor([i])).item()
            assert attainable == min(RANKS[model_type], i, LONG - i)
            assert (ranks == attainable).all()


def test_spectra_through_factors(model_type: str) -> None:
    model = remembering(model_type)
    length = 4 * RANKS[model_type] + 4
    layer = mixers(model, tiny_input_ids(model, length=length))[0]
    positions = [3, length // 2, length - 2]
    spectra = hf_ess.block_singular_values(layer.operator, positions)
    assert spectra.method == "factored"
    dense = layer.operator.to_dense().numpy()
    for number, i in enumerate(positions):
        true = np.linalg.svd(dense[..., i:, :i], compute_uv=False)
        found = spectra.values[:, :, number].numpy()
        width = min(true.shape[-1], found.shape[-1])
        assert (np.abs(found[..., :width] - true[..., :width]) <= 1e-10 * true[..., :1]).all()
        assert (true[..., width:] <= 1e-10 * true[..., :1]).all()
        assert (found[..., width:] <= 1e-10 * true[..., :1]).all()


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_short_lengths(model_type: str, length: int) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, length=length)
    assert max(residual(layer) for layer in mixers(model, ids)) <= 1e-5
    if (model_type, length) == ("recurrent_gemma", 1):
        return  # Its single tokens go past the convolution where there is a cache.
    assert max(residual(layer) for layer in mixers(model, ids, use_cache=True)) <= 1e-5


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 2e-2), (torch.float16, 2.5e-3)])
@pytest.mark.parametrize(
    "known", ["mamba", "mamba2", "qwen3_next", "kimi_linear", "recurrent_gemma"]
)
def test_half_precision(known: str, dtype: torch.dtype, bound: float) -> None:
    model = build_tiny(known).to(dtype)
    layers = mixers(model, tiny_input_ids(model, batch=2, length=LENGTH))
    assert max(residual(layer) for layer in layers) <= bound


@pytest.mark.parametrize("known", ["mamba", "mamba2", "qwen3_next", "kimi_linear"])
def test_padding(known: str) -> None:
    model = build_tiny(known)
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    for padded in (slice(None, 5), slice(-5, None)):
        mask = torch.ones_like(ids)
        mask[0, padded] = 0
        layers = mixers(model, ids, attention_mask=mask)
        assert max(residual(layer) for layer in layers) <= 1e-5


def test_models_are_left_alone(model_type: str) -> None:
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, batch=2, length=SHORT)
    before, traces = run(model, ids), footprint(model)
    with hf_ess.record_operators(model, lambda _: None, scope="mixer") as recorder:
        assert torch.equal(run(model, ids), before)
    assert footprint(model) == traces
    assert recorder.convolution is None
    with pytest.raises(ZeroDivisionError):
        record_and_fail(model, ids)
    assert footprint(model) == traces
    assert torch.equal(run(model, ids), before)


def record_and_fail(model: nn.Module, ids: Tensor) -> None:
    with hf_ess.record_operators(model, lambda _: 1 // 0, scope="mixer"):
        run(model, ids)


def test_a_convolution_that_goes_on_from_a_cache_is_refused() -> None:
    model = build_tiny("mamba")
    ids = tiny_input_ids(model, length=LENGTH)
    cache = model(input_ids=ids[:, :SHORT], use_cache=True).cache_params
    layers: list[LayerOperator] = []
    with hf_ess.record_operators(model, layers.append, scope="mixer") as recorder:
        model(input_ids=ids[:, SHORT:], cache_params=cache, use_cache=True)
    assert not layers
    assert all("earlier state" in layer.reason for layer in recorder.refused)
    assert len(recorder.refused) == 2


def test_report_says_which_layers_are_core_only() -> None:
    model = build_tiny("qwen3_next")
    ids = tiny_input_ids(model, batch=2, length=LONG)
    with pytest.warns(UserWarning, match=r"1 layer\(s\) are measured as their core.*attention"):
        report = hf_ess.analyze(model, ids, scope="mixer", progress=False)
    recurrent, attention = report.layers
    assert report.scope == "mixer"
    assert recurrent.verified
    assert (recurrent.groups, recurrent.multiplicity, recurrent.state_size) == (64, 1, 18)
    assert any(attention.name in warning for warning in report.warnings)
    assert not any(recurrent.name in warning for warning in report.warnings)
    core = hf_ess.analyze(model, ids, progress=False)
    assert core.scope == "core"
    assert (core.layers[0].groups, core.layers[0].multiplicity) == (4, 16)
    np.testing.assert_array_equal(core.layers[1].entropy_ess, attention.entropy_ess)


def test_offsets_are_part_of_the_verification() -> None:
    model = build_tiny("mamba")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("conv1d.bias"):
                weight.fill_(1.0)
    ids = tiny_input_ids(model, length=LONG)
    assert all(x.verified for x in hf_ess.analyze(model, ids, scope="mixer", progress=False).layers)
    for layer in mixers(model, ids):
        plain = layer.operator.apply(layer.inputs)
        assert float((plain - layer.outputs).abs().max()) > 0.1 * float(layer.outputs.abs().max())


def test_memory_budget_changes_nothing() -> None:
    model = build_tiny("mamba2")
    ids = tiny_input_ids(model, length=LONG)
    whole, tight = (
        hf_ess.analyze(model, ids, scope="mixer", progress=False, memory_budget=budget)
        for budget in (2**30, 2**21)
    )
    for one, other in zip(whole.layers, tight.layers, strict=True):
        assert other.verified
        np.testing.assert_allclose(one.entropy_ess, other.entropy_ess, rtol=0.0, atol=1e-9)


def test_unknown_scopes_are_refused() -> None:
    model = build_tiny("llama")
    with pytest.raises(hf_ess.InvalidInputError, match="core, mixer"):
        hf_ess.analyze(model, torch.arange(8)[None], scope="layer")
    with pytest.raises(hf_ess.InvalidInputError, match="core, mixer"):
        record(model, torch.arange(8)[None], scope="layer")
    with pytest.raises(hf_ess.InvalidInputError, match="jacobian"):
        hf_ess.analyze(model, torch.arange(8)[None], scope="mixer", method="jacobian")


def test_command_line_help() -> None:
    help_text = CliRunner().invoke(app, ["analyze", "--help"], env={"COLUMNS": "200"}).output
    assert "--scope" in help_text
