"""Quantized models: operators of what they really computed; packed weights unpacked or refused."""

from __future__ import annotations

import importlib.util
import warnings

import pytest
import torch
from recording_checks import LENGTH, run
from tiny_models import build_tiny, tiny_input_ids
from torch import nn
from transformers import AutoModelForCausalLM

import hf_ess
from hf_ess.analysis.model_checks import non_finite_error
from hf_ess.errors import UnsupportedMixerError
from model_adapters.weights import bias_of, non_finite_weights, weight_of


def _bitsandbytes_8():
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def _bitsandbytes_4():
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)


def _quanto():
    from transformers import QuantoConfig

    return QuantoConfig(weights="int8")


def _torchao():
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"quantizes with {package}, which is not installed")


QUANTIZERS = [
    pytest.param(_bitsandbytes_8, "bitsandbytes: Int8Params", marks=_needs("bitsandbytes")),
    pytest.param(_bitsandbytes_4, "bitsandbytes: Params4bit", marks=_needs("bitsandbytes")),
    pytest.param(_quanto, "quanto: WeightQBytesTensor", marks=_needs("optimum")),
    pytest.param(_torchao, "torchao: Int8Tensor", marks=_needs("torchao")),
]


@pytest.fixture(autouse=True)
def _quiet():
    """Quantizers warn of kernels that they lack and of the dtype in which they compute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("family", ["llama", "lfm2"])
@pytest.mark.parametrize(("quantizer", "named"), QUANTIZERS)
def test_quantized_models_are_verified(tmp_path, family, quantizer, named):
    plain = build_tiny(family, hidden_size=64)
    plain.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=quantizer(), dtype=torch.float32, device_map="cpu"
    )
    ids = tiny_input_ids(plain, length=LENGTH)
    logits = run(model, ids)
    assert not torch.equal(logits, run(plain, ids))
    report = hf_ess.analyze(model, ids, progress=False)
    assert len(report.verified_layers) == 2
    assert not report.unsupported
    assert torch.equal(run(model, ids), logits)
    assert report.provenance["quantization"] == named
    expected = hf_ess.analyze(plain, ids, progress=False)
    assert report.provenance["parameters"] == expected.provenance["parameters"]
    assert report.fingerprint() != expected.fingerprint()


@pytest.mark.parametrize(("quantizer", "named"), QUANTIZERS)
def test_packed_weights_are_unpacked_or_refused(tmp_path, quantizer, named):
    plain = build_tiny("llama", hidden_size=64)
    plain.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=quantizer(), dtype=torch.float32, device_map="cpu"
    )
    packed, kept = (m.model.layers[0].self_attn.q_proj for m in (model, plain))
    broken, unseen = non_finite_weights(model)
    assert not broken
    assert bias_of(packed) is None
    if named.startswith("bitsandbytes"):
        assert "model.layers.0.self_attn.q_proj.weight" in unseen
        with pytest.raises(UnsupportedMixerError, match="its weight is packed"):
            weight_of(packed)
        cause = non_finite_error(model, "The output is NaN.").causes[0]
        assert f"but {len(unseen)} packed ones cannot be looked at" in cause
    else:
        assert not unseen
        torch.testing.assert_close(weight_of(packed), kept.weight.detach(), rtol=0.0, atol=0.02)


class _Unknown(torch.Tensor):
    """What a quantizer makes of a weight and nobody can read."""


def test_weights_packed_in_an_unknown_way_refuse_their_layer():
    model = build_tiny("lfm2")
    conv = model.model.layers[0].conv.conv
    conv.weight = nn.Parameter(conv.weight.detach().as_subclass(_Unknown))
    report = hf_ess.analyze(model, tiny_input_ids(model, length=LENGTH), progress=False)
    assert [layer.mixer for layer in report.verified_layers] == ["softmax attention"]
    (refused,) = report.unsupported
    assert refused.mixer == "gated short convolution"
    assert refused.reason == "its weight is packed (_Unknown) and cannot be unpacked"


def test_blocks_with_packed_taps_are_measured_as_their_core():
    model = build_tiny("recurrent_gemma")
    ids = tiny_input_ids(model, length=LENGTH)
    for block in (part for part in model.modules() if hasattr(part, "conv_1d")):
        block.conv_1d.weight = nn.Parameter(block.conv_1d.weight.detach().as_subclass(_Unknown))
    scopes = {}
    with hf_ess.record_operators(
        model, lambda layer: scopes.update({layer.mixer: layer.scope}), scope="mixer"
    ):
        run(model, ids)
    assert scopes["RG-LRU"] == "core"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_integers_are_never_taken_for_the_numbers_that_they_stand_for(dtype):
    linear = nn.Linear(3, 3)
    linear.weight = nn.Parameter(torch.ones(3, 3, dtype=dtype), requires_grad=False)
    with pytest.raises(UnsupportedMixerError, match="its weight is packed"):
        weight_of(linear)


def test_dynamic_layers_of_torch():
    """They round all tokens with one scale, so that those outside of mixers are named."""
    quantize = importlib.import_module("torch.ao.quantization").quantize_dynamic
    model = quantize(build_tiny("llama"), {nn.Linear}, dtype=torch.qint8)
    ids = tiny_input_ids(model, length=LENGTH)
    logits = run(model, ids)
    report = hf_ess.analyze(model, ids, progress=False)
    assert len(report.verified_layers) == 2
    assert report.provenance["quantization"] == "torch.ao"
    assert all(".mlp." in layer.name for layer in report.unsupported)
    assert torch.equal(run(model, ids), logits)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "mamba", "lfm2"])
def test_half_precision_on_the_cpu(family, dtype):
    model = build_tiny(family).to(getattr(torch, dtype))
    report = hf_ess.analyze(model, tiny_input_ids(model, length=LENGTH), progress=False)
    assert len(report.verified_layers) == len(report.layers) == 2
    assert report.provenance["dtype"] == dtype
    assert report.provenance["quantization"] == ""
