"""Memory that runs out: spectra are tried again in smaller pieces, the model's own run is not."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType

import numpy as np
import pytest
import torch
from analysis.model_state import state_of
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess.analysis import measurement
from hf_ess.analysis.run import TRIAL_LENGTH
from hf_ess.operators import JacobianOperator, SoftmaxAttentionOperator
from hf_ess.operators.compositions import RowScaled
from hf_ess.operators.linearization import Linearization
from hf_ess.report.layer import GRIDS
from hf_ess.spectra.routes import DIVIDE_AND_CONQUER
from hf_ess.synthetics import SyntheticConfig, build_model

analyze = partial(hf_ess.analyze, progress=False, batch_size=2)

SHORTAGES = {
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "allocator of the CPU": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 2147483648 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "library of the GPU": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
    "Python": MemoryError,
}


TOLD = "Measured anew in smaller pieces; told once"
# How a sum is rounded in an error bound depends on how many are summed side by side.
BOUNDS = MappingProxyType({"error_bound": 1e-12})


def _numbers(report):
    """Every array of every layer."""
    for layer in report.layers:
        for name in ("entropy_ess", "residual", *GRIDS):
            yield layer.name, name, getattr(layer, name)
        for name in ("tolerance_ess", "undecided", "below_floor"):
            for tau, values in getattr(layer, name).items():
                yield layer.name, f"{name} {tau}", values


def _assert_same(found, expected, rounded=MappingProxyType({})):
    """To the bit, but for what is given as rounded, with how far it may be off."""
    for (layer, name, one), (_, _, other) in zip(_numbers(found), _numbers(expected), strict=True):
        allowed = {"rtol": rounded.get(name, 0.0), "atol": 0.0}
        np.testing.assert_allclose(one, other, **allowed, err_msg=f"{layer} {name}")


class Scarce:
    """A device on which a kernel may use so many units at once and no more, outside of trials."""

    def __init__(self, units, fits, shortage):
        self.units, self.fits, self.shortage = units, fits, shortage
        self.refused, self.served = [], []

    def patch(self, monkeypatch, owner, name):
        kernel = getattr(owner, name)

        def guarded(*args, **kwargs):
            needed = self.units(*args, **kwargs)
            if needed > self.fits:
                self.refused.append(needed)
                raise self.shortage()
            self.served += [needed] * bool(needed)
            return kernel(*args, **kwargs)

        monkeypatch.setattr(owner, name, guarded)
        return self


def _formed_groups(operator, groups=None, *_):
    """How many operators are formed together; none in the short trial."""
    if operator.length <= TRIAL_LENGTH:
        return 0
    return len(range(operator.groups)[groups or slice(None)])


def _told(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "hf_ess"]


def _attention():
    return build_tiny("llama", num_attention_heads=4, num_key_value_heads=2)


def _synthetic(mixer):
    return build_model(SyntheticConfig([mixer], vocab_size=64, hidden_size=32)).eval()


FORMED = {
    "attention, short": (_attention, SoftmaxAttentionOperator, 40, {}),
    "attention, divide and conquer": (_attention, SoftmaxAttentionOperator, 140, {}),
    "attention, windows": (_attention, SoftmaxAttentionOperator, 40, {"window": 4}),
    "convolution": (partial(_synthetic, "Hyena"), RowScaled, 40, {}),
}
# Certified intervals are up to 1 % wide; where their middles lie depends on rounding in float32.
CERTIFIED = {"entropy_ess": 1e-6, "entropy_half_width": 1e-3}


@pytest.mark.parametrize(
    ("structure", "shortage"), [*zip(FORMED, SHORTAGES, strict=True), (next(iter(FORMED)), "other")]
)
def test_operators_that_are_formed(structure, shortage, monkeypatch, caplog, tried):
    build, kind, length, options = FORMED[structure]
    model = build()
    ids = tiny_input_ids(model, batch=2, length=length)
    expected = analyze(model, ids, **options)
    form = "to_dense_block" if "window" in options else "to_dense"
    scarce = Scarce(_formed_groups, 1, SHORTAGES.get(shortage, MemoryError))
    scarce.patch(monkeypatch, kind, form)
    report = analyze(model, ids, **options)
    assert scarce.refused[0] > 2
    assert set(scarce.served) == {1}
    assert len(_told(caplog)) == 1
    assert "smaller pieces" in _told(caplog)[0]
    what = "Memory runs out in the spectra of attention and convolutions, in every layer"
    if "divide" in structure:
        _assert_same(report, expected, CERTIFIED)
        what += f", measured by {DIVIDE_AND_CONQUER}"
        happened = "the same counts to the bit, entropies to six digits"
    else:
        _assert_same(report, expected)
        assert report.fingerprint() == expected.fingerprint()
        happened = "the same report to the bit, from one group at a time in the end"
    tried("Faults", what, f"{TOLD}; {happened}", times=len(report.layers))


RECURRENT = {
    "state space": (partial(_synthetic, "S6"), 24),
    "linear attention": (partial(_synthetic, "LA"), 24),
    "delta rule": (partial(build_tiny, "qwen3_next"), 24),
}


@pytest.mark.parametrize(("structure", "shortage"), [*zip(RECURRENT, SHORTAGES, strict=False)])
def test_recurrences(structure, shortage, monkeypatch, caplog, tried):
    """The kernel refuses until the budget for its pieces has become small enough."""
    build, length = RECURRENT[structure]
    model = build()
    ids = tiny_input_ids(model, batch=2, length=length)
    options = {"positions": [3, 11, 20]}
    expected = analyze(model, ids, **options)
    scarce = Scarce(lambda *_, memory_budget: memory_budget, 2**19, SHORTAGES[shortage])
    scarce.patch(monkeypatch, measurement, "operator_block_singular_values")
    report = analyze(model, ids, **options)
    assert len(scarce.refused) >= 12
    assert scarce.served
    _assert_same(report, expected, BOUNDS)
    assert len(_told(caplog)) == 1
    tried(
        "Faults",
        "Memory runs out in the spectra of recurrences (state spaces, delta rules), in every layer",
        f"{TOLD}; the same numbers to the bit, error bounds to their last places",
        times=len(scarce.served),
    )


def test_jacobians(monkeypatch, caplog, tried):
    """Fewer products at once; the way to the spectra stays the same."""
    model = _synthetic("GLA")
    ids = tiny_input_ids(model, length=10)
    options = {"positions": [3, 7], "method": "jacobian"}
    expected = analyze(model, ids, **options)
    scarce = Scarce(
        lambda *given, **_: len(given[-1]) if len(given[-1]) > 1 else 0,  # one is no choice
        32,
        SHORTAGES["allocator of the CPU"],
    )
    scarce.patch(monkeypatch, Linearization, "_gradients")
    report = analyze(model, ids, **options)
    assert len(scarce.refused) >= 2
    assert scarce.served
    for found, one in zip(report.layers, expected.layers, strict=True):
        assert found.method == one.method == "jacobian"
        np.testing.assert_allclose(found.entropy_ess, one.entropy_ess, rtol=1e-9)
    for tau in report.tolerances:
        np.testing.assert_array_equal(
            report.layers[0].tolerance_ess[tau], expected.layers[0].tolerance_ess[tau]
        )
    assert len(_told(caplog)) == 1
    tried(
        "Faults",
        "Memory runs out in the products of a Jacobian",
        "Fewer are computed at once; the same counts, entropies to nine digits; told once",
    )


@pytest.mark.parametrize(
    ("way", "shortage"), [*zip(["attention", "recurrence", "jacobian"], SHORTAGES, strict=False)]
)
def test_where_the_smallest_pieces_do_not_fit(way, shortage, monkeypatch, tried):
    models = {"attention": _attention, "recurrence": partial(_synthetic, "S6")}
    model = models.get(way, partial(_synthetic, "GLA"))()
    before = state_of(model)

    def refuse(*_, **__):
        raise SHORTAGES[shortage]()

    owner, name = {
        "attention": (measurement, "future_share"),
        "recurrence": (measurement, "operator_block_singular_values"),
        "jacobian": (JacobianOperator, "form"),
    }[way]
    monkeypatch.setattr(owner, name, refuse)
    options = {"method": "jacobian"} if way == "jacobian" else {}
    ids = tiny_input_ids(model, length=20)
    with pytest.raises(hf_ess.OutOfMemoryError, match="in the smallest pieces") as caught:
        analyze(model, ids, positions=[3], **options)
    assert isinstance(caught.value, MemoryError)
    assert "What to do: Let fewer texts run together" in str(caught.value)
    assert state_of(model) == before
    tried(
        "Faults",
        "Memory runs out in the spectra, also for the smallest pieces",
        "OutOfMemoryError with what to do; the model as it was",
    )


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_the_model_itself(shortage, tried):
    model = _attention()
    before = state_of(model)
    runs = []

    def fail(_module, args):
        if args[0].shape[1] > TRIAL_LENGTH:
            runs.append(1)
            raise SHORTAGES[shortage]()

    handle = model.model.layers[1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(hf_ess.OutOfMemoryError, match=r"ran on 2 text.s. of 20 tokens") as caught:
        analyze(model, tiny_input_ids(model, batch=2, length=20))
    handle.remove()
    assert runs == [1]
    assert "batch_size" in caught.value.fix
    assert caught.value.__cause__ is not None
    assert state_of(model) == before
    tried(
        "Faults",
        "Memory runs out in the model's own forward pass",
        "OutOfMemoryError with what to do, at once; the model as it was",
    )


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_any_command(shortage, run_command, monkeypatch, tried):
    from hf_ess.cli import app

    def fail():
        raise SHORTAGES[shortage]()

    monkeypatch.setattr(app, "app", fail)
    status, stdout, stderr = run_command("recall", "model")
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: Memory ran out. ")
    assert "What to do: Take fewer or shorter texts" in stderr
    tried(
        "Faults",
        "Memory runs out anywhere else in a command",
        "Status 1 and what to do; no traceback",
    )


def test_a_budget_that_is_too_small_is_no_lack_of_memory(caplog):
    model = _attention()
    with pytest.raises(hf_ess.MemoryBudgetError):
        analyze(model, tiny_input_ids(model, length=20), memory_budget=100)
    assert _told(caplog) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_that_is_full(caplog, tried):
    """All but a little of a GPU is taken by somebody else."""
    model = build_tiny("llama", num_attention_heads=8, num_key_value_heads=8).cuda()
    ids = tiny_input_ids(model, length=2048)
    expected = analyze(model, ids, positions=[512, 1024])
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - 700 * 2**20, dtype=torch.uint8, device="cuda")
    report = analyze(model, ids, positions=[512, 1024])
    del taken
    assert len(_told(caplog)) == 1
    _assert_same(report, expected)
    tried("Faults", "Memory of a GPU runs out in the spectra", f"{TOLD}; the same numbers")
