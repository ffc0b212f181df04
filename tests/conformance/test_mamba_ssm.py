"""Conformance of both Mambas as the mamba_ssm package calls them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from mamba_ssm_stand_in import mamba2, mamba_simple
from mamba_ssm_stand_in.mixer_seq_simple import MambaLMHeadModel
from naive_recurrent import chunk_scan, operators_of, selective_scan
from recurrent_conformance import LENGTH, SHORT, Case, RecurrentConformance
from tiny_model_overrides import STATE
from torch import Tensor, nn
from torch.nn import functional

import hf_ess
from model_adapters import LayerOperator

WIDTH = 32


def stand_in_model(mixer: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if mixer == "mamba":
            mixers = [mamba_simple.Mamba(WIDTH, STATE) for _ in range(2)]
        else:
            mixers = [mamba2.Mamba2(WIDTH, STATE, heads=4, groups=2) for _ in range(2)]
        return MambaLMHeadModel(mixers, WIDTH).eval()


@contextmanager
def unfused(model: nn.Module, switch: str) -> Iterator[None]:
    modules = [module for module in model.modules() if hasattr(module, switch)]
    for module in modules:
        setattr(module, switch, False)
    yield
    for module in modules:
        setattr(module, switch, True)


def naive_mamba(model: nn.Module, ids: Tensor) -> list[Tensor]:
    def rule(call: dict[str, Any]) -> Tensor:
        return selective_scan({**call, "dt": call["delta"]})

    with unfused(model, "use_fast_path"):
        return operators_of(model, ids, "selective_scan_fn", rule)


def naive_mamba2(model: nn.Module, ids: Tensor) -> list[Tensor]:
    with unfused(model, "use_mem_eff_path"):
        return operators_of(model, ids, "mamba_chunk_scan_combined", chunk_scan)


def _case(mixer: str, naive) -> Case:
    return Case(
        name="stand_in",
        build=partial(stand_in_model, mixer),
        naive=naive,
        state_sizes=(STATE, STATE),
        receiver="out_proj",
    )


class _OfThePackage(RecurrentConformance):
    switch: str

    def cached(self, model: nn.Module, result: Any) -> dict[str, Any]:
        return {"inference_params": torch.zeros(1, 1, WIDTH)}

    def test_fused_paths_are_open_while_recording_only(self, model: nn.Module) -> None:
        mixers = [layer.mixer for layer in model.backbone.layers]
        mixers[1].__dict__[self.switch] = False
        inside = []
        with hf_ess.record_operators(model, forget):
            inside += [getattr(mixer, self.switch) for mixer in mixers]
        with pytest.raises(ZeroDivisionError), hf_ess.record_operators(model, forget):
            raise ZeroDivisionError
        assert inside == [False, False]
        assert [getattr(mixer, self.switch) for mixer in mixers] == [True, False]


class TestMambaOfThePackage(_OfThePackage):
    mixer = "mamba"
    switch = "use_fast_path"
    cases = (_case("mamba", naive_mamba),)


class TestMamba2OfThePackage(_OfThePackage):
    mixer = "mamba-2"
    switch = "use_mem_eff_path"
    cases = (_case("mamba2", naive_mamba2),)


# The functions alone


def captured(name: str, **arguments: Any) -> tuple[LayerOperator | None, list[str]]:
    """The operator of one call of a function, and why it was refused."""
    layers: list[LayerOperator] = []
    scan = mamba_simple.Scan if name == "selective_scan_fn" else mamba2.Scan
    model = nn.ModuleList([scan(**arguments)]).eval()
    with hf_ess.record_operators(model, layers.append) as recorder:
        model[0]()
    return (layers[0] if layers else None), [layer.reason for layer in recorder.refused]


def residual(layer: LayerOperator) -> float:
    rebuilt = layer.operator.to_dense() @ layer.inputs.double()
    if layer.output_gate is not None:
        rebuilt = rebuilt * layer.output_gate.double()
    return float((rebuilt - layer.outputs).abs().max() / layer.outputs.abs().max())


def scan_arguments(**more: Any) -> dict[str, Any]:
    """Mamba on 2 samples, 6 channels, 9 tokens, state 3; `more` replaces or adds."""
    torch.manual_seed(0)
    features = {
        "u": torch.randn(2, 6, SHORT),
        "delta": torch.rand(2, 6, SHORT),
        "A": -torch.rand(6, 3),
        "B": torch.randn(2, 3, SHORT),
        "C": torch.randn(2, 3, SHORT),
    }
    return features | more


def chunk_arguments(**more: Any) -> dict[str, Any]:
    """Mamba-2 on 2 samples, 9 tokens, 4 heads of 5 channels, 2 groups, state 3."""
    torch.manual_seed(0)
    features = {
        "x": torch.randn(2, SHORT, 4, 5),
        "dt": torch.rand(2, SHORT, 4),
        "A": -torch.rand(4),
        "B": torch.randn(2, SHORT, 2, 3),
        "C": torch.randn(2, SHORT, 2, 3),
        "chunk_size": 4,
    }
    return features | more


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"D": torch.arange(6.0)},
        {"z": torch.linspace(-3, 3, 108).reshape(2, 6, SHORT)},
        {"delta_bias": torch.linspace(-3, 3, 6), "delta_softplus": True},
        {"delta_softplus": True},
        {"return_last_state": True},
        {"B": torch.linspace(-1, 1, 18).reshape(6, 3)},
        {"C": torch.linspace(-1, 1, 18).reshape(6, 3)},
        {"B": torch.linspace(-1, 1, 108).reshape(2, 2, 3, SHORT)},
        {"B": torch.ones(2, 6, 3, SHORT), "C": torch.linspace(0, 1, 108).reshape(2, 2, 3, SHORT)},
    ],
    ids=lambda more: ", ".join(f"{name} {getattr(v, 'ndim', v)}" for name, v in more.items()),
)
def test_arguments_of_the_selective_scan(more: dict[str, Any]) -> None:
    layer, refused = captured("selective_scan_fn", **scan_arguments(**more))
    assert not refused
    assert layer.operator.shape == (2, 6, SHORT, SHORT)
    assert residual(layer) <= 1e-6


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"D": torch.arange(4.0)},
        {"D": torch.arange(20.0).reshape(4, 5)},
        {"z": torch.linspace(-3, 3, 360).reshape(2, SHORT, 4, 5)},
        {
            "D": torch.arange(20.0).reshape(4, 5),
            "z": torch.linspace(-3, 3, 360).reshape(2, SHORT, 4, 5),
        },
        {"dt_bias": torch.linspace(-3, 3, 4), "dt_softplus": True},
        {"dt_limit": (0.3, 0.6)},
        {"return_final_states": True},
    ],
    ids=lambda more: ", ".join(f"{name} {getattr(v, 'ndim', v)}" for name, v in more.items()),
)
def test_arguments_of_the_chunk_scan(more: dict[str, Any]) -> None:
    layer, refused = captured("mamba_chunk_scan_combined", **chunk_arguments(**more))
    single = getattr(more.get("D"), "ndim", 1) == 2
    assert not refused
    assert layer.operator.shape == (2, 20 if single else 4, SHORT, SHORT)
    assert layer.operator.state_size == 3
    assert residual(layer) <= 1e-6


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"initial_states": torch.zeros(2, 4, 5, 3)}, "earlier state"),
        ({"seq_idx": torch.zeros(2, SHORT, dtype=torch.int32)}, "packed"),
        ({"cu_seqlens": torch.tensor([0, 3, SHORT])}, "packed"),
    ],
)
def test_calls_that_are_no_operator_on_one_text(more: dict[str, Any], reason: str) -> None:
    layer, refused = captured("mamba_chunk_scan_combined", **chunk_arguments(**more))
    assert layer is None
    assert [reason in text for text in refused] == [True]


def test_complex_states_are_refused() -> None:
    arguments = scan_arguments(A=-torch.rand(6, 3).to(torch.complex64))
    layer, refused = captured("selective_scan_fn", **arguments)
    assert layer is None
    assert ["complex" in text for text in refused] == [True]


def forget(layer: LayerOperator) -> None:
    """A sink that keeps nothing."""


def test_errors_of_models_with_their_own_configuration_pass() -> None:
    model = stand_in_model("mamba")
    model.config = SimpleNamespace(vocab_size=128)
    error = RuntimeError("from the model")

    def fail(*arguments: object) -> None:
        raise error

    model.lm_head.register_forward_hook(fail)
    with pytest.raises(RuntimeError) as caught:
        hf_ess.analyze(model, torch.arange(SHORT)[None], progress=False)
    assert caught.value is error


# The package itself


@pytest.fixture(scope="module")
def package() -> Iterator[ModuleType]:
    """The package; without a GPU its own reference functions stand for its kernels."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delitem(sys.modules, "mamba_ssm", raising=False)
        if not torch.cuda.is_available():
            patched.setitem(sys.modules, "selective_scan_cuda", ModuleType("selective_scan_cuda"))
        pytest.importorskip(
            "mamba_ssm", reason="mamba_ssm is not installed (extra `mamba`)", exc_type=ImportError
        )
        simple, second = (importlib.import_module(f"mamba_ssm.modules.{name}") for name in FILES)
        if not torch.cuda.is_available():
            scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
            patched.setattr(simple, "selective_scan_fn", scan.selective_scan_ref)
            combined = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
            patched.setattr(second, "mamba_chunk_scan_combined", _chunk_scan_on_cpu(combined))
        yield importlib.import_module("mamba_ssm.models.mixer_seq_simple")
        for name in [name for name in sys.modules if name.split(".")[0] == "mamba_ssm"]:
            del sys.modules[name]


FILES = ("mamba_simple", "mamba2")


def _chunk_scan_on_cpu(combined: ModuleType) -> Callable[..., Tensor]:
    """The package's reference, which wants whole chunks and takes fewer arguments."""

    @wraps(combined.mamba_chunk_scan_combined)
    def scan(x, dt, A, B, C, chunk_size, D, z, dt_bias, dt_softplus, **known):  # noqa: N803
        padding = -x.shape[1] % chunk_size
        x, dt, B, C, z = (  # noqa: N806
            functional.pad(t, (0, 0) * (t.ndim - 2) + (0, padding)) for t in (x, dt, B, C, z)
        )
        y = combined.ssd_chunk_scan_combined_ref(
            x, dt, A, B, C, chunk_size, D, z, dt_bias, dt_softplus
        )
        return y[:, : y.shape[1] - padding].to(x.dtype)

    return scan


@pytest.mark.parametrize(("layer", "mixer"), [("Mamba1", "mamba"), ("Mamba2", "mamba-2")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_of_the_package(package: ModuleType, layer: str, mixer: str, dtype) -> None:
    known = {"layer": layer, "d_state": STATE}
    if layer == "Mamba2":
        known |= {"headdim": 16, "ngroups": 2, "chunk_size": 8, "rmsnorm": False}
        if not torch.cuda.is_available():
            known["use_mem_eff_path"] = False
    config = package.MambaConfig(
        d_model=WIDTH,
        n_layer=2,
        vocab_size=128,
        ssm_cfg=known,
        rms_norm=False,
        fused_add_norm=False,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = package.MambaLMHeadModel(config, device=device, dtype=dtype).eval()
    ids = torch.randint(128, (2, LENGTH), device=device)
    report = hf_ess.analyze(model, ids, positions="all", progress=False)
    assert [layer.mixer for layer in report.layers] == [mixer, mixer]
    assert [layer.state_size for layer in report.layers] == [STATE, STATE]
    assert all(layer.verified for layer in report.layers)
    assert not report.unsupported
    if dtype == torch.float32 and device == "cpu":
        assert max(float(layer.residual.max()) for layer in report.layers) <= 1e-6
