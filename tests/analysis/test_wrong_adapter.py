"""An adapter is believed only where its operator rebuilds what the layer computed."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from analysis.handmade import Decoder, InlineAttention, RunningMean

import hf_ess
from hf_ess import AdapterError, NonFiniteError, UnverifiedOperatorWarning
from hf_ess.operators import DenseOperator
from model_adapters import MixerAdapter, registered_adapters, unregister_adapter

analyze = partial(hf_ess.analyze, progress=False)
IDS = torch.randint(64, (1, 24), generator=torch.Generator().manual_seed(0))
MIXER = "running mean"


class RunningMeanAdapter(MixerAdapter):
    """Knows `RunningMean`, up to an error."""

    mixer, models = MIXER, "a model made by hand"
    error = 0.0

    @contextmanager
    def watch(self, model, recorder):
        with ExitStack() as stack:
            for module in model.modules():
                if isinstance(module, RunningMean):
                    handle = module.register_forward_hook(partial(self._record, recorder))
                    stack.callback(handle.remove)
            yield

    def _record(self, recorder, module, args, output):
        if not recorder.here:
            return
        length = output.shape[1]
        mean = torch.ones(length, length).tril() / torch.arange(1, length + 1)[:, None]
        mean[-1, 0] += self.error
        recorder.record(
            module,
            mixer=MIXER,
            operator=DenseOperator(mean.expand(output.shape[0], 1, -1, -1)),
            inputs=args[0].detach()[:, None],
            outputs=output.detach()[:, None],
        )


class WrongAdapter(RunningMeanAdapter):
    """One entry of its operator is off by a hundredth."""

    error = 1e-2


class FailingAdapter(RunningMeanAdapter):
    """Cannot compute anything."""

    error = torch.nan


@pytest.fixture
def register():
    def add(adapter):
        hf_ess.register_adapter(adapter)

    yield add
    unregister_adapter(MIXER)


@pytest.fixture
def model():
    return Decoder(RunningMean, InlineAttention)


def test_a_right_adapter_is_verified(model, register):
    register(RunningMeanAdapter)
    report = analyze(model, IDS, positions="all")
    mean, attention = report.layers
    assert (mean.mixer, mean.verified, mean.multiplicity) == (MIXER, True, 32)
    assert mean.residual.max() < 1e-6
    assert np.array_equal(mean.tolerance_ess[1e-3], np.ones((1, 1, 23)))
    assert attention.verified
    assert report.unsupported == []
    both = mean.entropy_ess.mean() * 32 + attention.entropy_ess.mean() * 32
    assert report.average_ess() == pytest.approx(both / 64)


def test_a_wrong_adapter_is_found_out(model, register):
    register(WrongAdapter)
    with pytest.warns(UnverifiedOperatorWarning, match=r"not verified.*first layers\.0\.mixer"):
        report = analyze(model, IDS, positions="all")
    mean, attention = report.layers
    assert (mean.verified, attention.verified) == (False, True)
    assert mean.residual[0] > mean.residual_bound == 1e-4
    assert mean.reason.startswith("the rebuilt output differs from the layer's by ")
    assert mean.reason.endswith("above 1e-04")
    assert report.verified_layers == [attention]
    assert report.average_ess() == attention.entropy_ess.mean()
    assert "1 layer(s) are not verified" in report.warnings[0]
    assert "Not verified: layers.0.mixer: the rebuilt output" in report.summary()
    layers = report.to_dict()["layers"]
    assert [row["average_entropy_ess"] is None for row in layers] == [True, False]


def test_no_average_where_nothing_is_verified(register):
    register(WrongAdapter)
    with pytest.warns(UnverifiedOperatorWarning):
        report = analyze(Decoder(RunningMean), IDS)
    with pytest.raises(hf_ess.ReportError, match="No layer of this report is verified"):
        report.average_ess()
    assert report.to_dict()["model"] is None
    assert "No layer of this report is verified" in report.summary()


def test_an_adapter_that_computes_nan_fails_by_name(model, register):
    register(FailingAdapter)
    with pytest.raises(NonFiniteError, match="matrix has NaN"):
        analyze(model, IDS)
    assert not any(module._forward_hooks for module in model.modules())


def test_two_adapters_cannot_share_a_name(register):
    register(RunningMeanAdapter)
    with pytest.raises(
        AdapterError, match=r"'running mean' is registered by .*\.RunningMeanAdapter"
    ):
        hf_ess.register_adapter(WrongAdapter)
    # Of another module, though of the same name.
    namesake = type("RunningMeanAdapter", (RunningMeanAdapter,), {"__module__": "elsewhere"})
    with pytest.raises(AdapterError, match="'running mean' is registered by"):
        hf_ess.register_adapter(namesake)
    assert sum(adapter.mixer == MIXER for adapter in registered_adapters()) == 1


@pytest.mark.parametrize(
    "adapter", [object, RunningMeanAdapter(), type("Bare", (MixerAdapter,), {})]
)
def test_what_is_no_adapter_is_refused(adapter):
    before = registered_adapters()
    with pytest.raises(AdapterError):
        hf_ess.register_adapter(adapter)
    assert registered_adapters() == before


def test_an_unknown_adapter_cannot_be_taken_out():
    with pytest.raises(AdapterError, match=r"No adapter 'nothing'.*softmax attention"):
        unregister_adapter("nothing")
