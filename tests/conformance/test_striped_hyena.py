"""Conformance of the gated convolutions of StripedHyena (Evo) and StripedHyena 2 (Evo 2)."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from hyena_stand_in.filters import (
    HEADS,
    STATE,
    WIDTH,
    HyenaCascade,
    ParallelGatedConvBlock,
    ParallelHyenaFilter,
)
from mamba_ssm_stand_in.mixer_seq_simple import MambaLMHeadModel
from naive_recurrent import earlier_pairs
from recurrent_conformance import LENGTH, SHORT, Case, RecurrentConformance, recorded
from tiny_models import tiny_input_ids
from torch import Tensor, nn

import hf_ess


def model_of(*filters: partial) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = [ParallelGatedConvBlock(build()) for build in filters]
        return MambaLMHeadModel(blocks, WIDTH).eval()


def taps_of(module: nn.Module, length: int) -> Tensor:
    """`[D, L]`, by the definition of each filter."""
    steps = torch.arange(length)
    if isinstance(module, ParallelHyenaFilter):
        poles, residues = (
            torch.view_as_complex(pairs.detach().double())
            for pairs in (module.poles, module.residues)
        )
        taps = (residues * poles**steps).sum(1).real
    elif module.fir_inner_filter_length is None:
        decays = torch.exp(module.log_poles.detach().double() * steps)
        taps = (module.residues.detach().double()[..., None] * decays).sum(1)
    else:
        stored = module.h.detach()[:, 0].double()
        stored = stored if module.fir_inner_filter_length >= 128 else stored.flip(-1)
        taps = torch.zeros(stored.shape[0], length, dtype=torch.float64)
        count = min(length, stored.shape[1])
        taps[:, :count] = stored[:, :count]
    taps = taps.repeat_interleave(WIDTH // taps.shape[0], dim=0)
    if module.D is not None:
        taps[:, 0] += module.D.detach().double()
    return taps


@torch.no_grad()
def naive(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`M_ij = x2_i h_{i-j} x1_j`, entry by entry, from the projections of each block."""
    operators: list[Tensor] = []

    def of_block(block: nn.Module, args: tuple[Any, ...], result: Tensor) -> None:
        module = block.filter
        length = args[0].shape[1]
        projected = block.projections(args[0]).mT
        padded = nn.functional.pad(projected, (2, 0))
        weight = module.short_filter_weight[:, 0]
        z = sum(weight[:, k, None] * padded[..., k : k + length] for k in range(3)).double()
        operator = torch.zeros(z.shape[0], WIDTH, length, length, dtype=torch.float64)
        taps = taps_of(module, length)
        for channel in range(WIDTH):
            size = WIDTH // HEADS
            first = (
                channel if not module.column_split_hyena else channel // size * 2 * size + channel
            )
            step = size if module.column_split_hyena else WIDTH
            after, before = z[:, first], z[:, first + step]
            if module.engine.hyena_flip_x1x2:
                after, before = before, after
            for i, j in earlier_pairs(length):
                operator[:, channel, i, j] = after[:, i] * taps[channel, i - j] * before[:, j]
        operators.append(operator)

    handles = [layer.mixer.register_forward_hook(of_block) for layer in model.backbone.layers]
    model(input_ids=ids)
    for handle in handles:
        handle.remove()
    return operators


def _case(name: str, sizes: tuple[int | None, ...], *filters: partial) -> Case:
    return Case(
        name=name,
        build=partial(model_of, *filters),
        naive=naive,
        state_sizes=sizes,
    )


class _OfAFilter(RecurrentConformance):
    def cached(self, model: nn.Module, result: Any) -> dict[str, Any]:
        return {"inference_params": torch.zeros(1, 1, 3 * WIDTH)}

    def test_outputs_are_what_the_layer_passes_on(self, case: Case, model: nn.Module) -> None:
        received: list[Tensor] = []
        for layer in model.backbone.layers:
            layer.mixer.out_filter_dense.register_forward_pre_hook(
                lambda _, args: received.append(args[0])
            )
        layers = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert len(received) == len(layers)
        for layer, features in zip(layers, received, strict=True):
            torch.testing.assert_close(layer.outputs[..., 0].mT, features, rtol=0.0, atol=0.0)


class TestStripedHyena(_OfAFilter):
    mixer = "stripedhyena"
    cases = (
        _case(
            "modes",
            (2 * STATE, 2 * STATE),
            partial(ParallelHyenaFilter),
            partial(ParallelHyenaFilter, systems=2, column_split=False),
        ),
    )


class TestStripedHyena2(_OfAFilter):
    mixer = "stripedhyena 2"
    cases = (
        _case(
            "short_long",
            (4, STATE),
            partial(HyenaCascade, 5, groups=2, flip=True),
            partial(HyenaCascade, column_split=False),
        ),
        _case("medium", (None,), partial(HyenaCascade, 128, groups=4)),
    )


@pytest.mark.parametrize("kind", [ParallelHyenaFilter, HyenaCascade])
def test_filters_that_are_not_those_of_the_modes(kind: type[nn.Module]) -> None:
    model = model_of(kind)
    module = model.backbone.layers[0].mixer.filter
    ids = torch.randint(128, (2, LENGTH))
    mixer = "stripedhyena" if kind is ParallelHyenaFilter else "stripedhyena 2"

    def check(state_size: int | None) -> None:
        (layer,), recorder, _ = recorded(model, ids, mixer)
        rebuilt = layer.operator.to_dense() @ layer.inputs.double()
        assert float((rebuilt - layer.outputs).abs().max()) <= 1e-5 * layer.outputs.abs().max()
        assert layer.operator.state_size == state_size
        assert not recorder.refused

    module.long_fir_threshold = 4
    check(3)
    module.long_fir_threshold = None
    module.h = torch.randn(1, WIDTH, LENGTH)
    check(None)
    # Rounded to half precision it is still the filter of the modes.
    module.h = None
    exact = module.compute_filter(LENGTH).detach()
    module.h = exact.half().float()
    (layer,), _, _ = recorded(model, ids, mixer)
    assert layer.operator.state_size == (2 * STATE if kind is ParallelHyenaFilter else STATE)


@pytest.mark.parametrize("bias", ["gated", "added"])
def test_bias_and_padding_of_explicit_filters(bias: str) -> None:
    class Masked(HyenaCascade):
        def mix(self, z_pre: Tensor, length: int) -> Tensor:
            mask = torch.ones(2, length)
            mask[0, -3:] = 0
            y, _ = self.engine.parallel_fir(
                nn.functional.conv1d, z_pre, self.h, torch.linspace(-1, 1, WIDTH), length,
                dims=self.dims, gate=True, gated_bias=bias == "gated", dim_last=False,
                column_split_hyena=True, fir_length=5, padding_mask=mask,
            )  # fmt: skip
            return y.mT

    model = model_of(partial(Masked, 5))
    (layer,), _, _ = recorded(model, torch.randint(128, (2, SHORT)), "stripedhyena 2")
    rebuilt = layer.operator.to_dense() @ layer.inputs.double()
    assert float((rebuilt - layer.outputs).abs().max()) <= 1e-5 * layer.outputs.abs().max()


# The packages themselves


class Options(dict[str, Any]):
    """A configuration of either package."""

    __getattr__ = dict.__getitem__


def options(**more: Any) -> Options:
    known = {
        "hidden_size": 16,
        "num_filters": 16,
        "state_size": STATE,
        "num_attention_heads": 4,
        "short_filter_length": 3,
        "short_filter_bias": True,
        "hyena_filter_groups": 1,
        "interleave": True,
    }
    return Options(known | more)


class _Around(nn.Module):
    """A model of one layer that gets features; filters of the packages return two things."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer])

    def forward(self, features: Tensor) -> Tensor:
        return self.layers[0](features)[0]


def residual_of(layer: nn.Module, mixer: str) -> tuple[float, int | None]:
    found: list[Any] = []
    model = _Around(layer).eval()
    with torch.no_grad(), hf_ess.record_operators(model, found.append):
        model(torch.randn(2, LENGTH, 48))
    (one,) = found
    assert one.mixer == mixer
    error = one.operator.to_dense() @ one.inputs.double() - one.outputs
    return float(error.abs().max() / one.outputs.abs().max()), one.operator.state_size


@pytest.mark.parametrize("column_split", [False, True])
def test_filter_of_the_stripedhyena_package(column_split: bool) -> None:
    code = pytest.importorskip("stripedhyena.model", reason="stripedhyena is not installed")
    torch.manual_seed(0)
    layer = code.ParallelHyenaFilter(options(column_split_hyena=column_split), 0)
    layer.poles.data = 0.6 * torch.randn(16, STATE, 1, 2).tanh()
    layer.D.data.normal_()
    residual, state_size = residual_of(layer, "stripedhyena")
    assert residual <= 1e-5
    assert state_size == 2 * STATE


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("column_split", [False, True])
@pytest.mark.parametrize(("taps", "state_size"), [(7, 6), (128, None), (None, STATE)])
def test_filter_of_the_vtx_package(
    monkeypatch, tmp_path, taps, state_size, column_split, flip
) -> None:
    # The package writes its log where it is imported.
    monkeypatch.chdir(tmp_path)
    for package in ("vortex", "triton"):
        pytest.importorskip(package, reason=f"vtx is not installed, or not its {package}")
    monkeypatch.setitem(sys.modules, "flash_attn_2_cuda", ModuleType("flash_attn_2_cuda"))
    code = importlib.import_module("vortex.model.model")
    torch.manual_seed(0)
    known = options(column_split_hyena=column_split, hyena_flip_x1x2=flip, short_filter_bias=False)
    layer = code.HyenaCascade(known, 0, 4 if taps else 16, taps)
    if taps is None:
        layer.log_poles.data = -torch.rand(16, STATE, 1)
    residual, found = residual_of(layer, "stripedhyena 2")
    assert residual <= 1e-5
    assert found == state_size
