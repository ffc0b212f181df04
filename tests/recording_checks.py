"""What every recording of operators must do, whatever the mixer: part of the conformance suite."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn
from transformers import AttentionInterface

import hf_ess
from hf_ess.operators import ResidualMeter
from model_adapters import LayerOperator

LENGTH = 23
SHORT = 9


@dataclass(frozen=True)
class Case:
    """A tiny model and what is known about its operators.

    Attributes:
        name: in the ids of the tests.
        build: a new model, in evaluation mode, float32, the same each time.
        naive: operators `[B, G, L, L]` of a model and token ids, in the order in which they run,
            without any help of hf_ess.
        state_sizes: of each operator.
        naive_dtype: of the model that `naive` gets.
        naive_tolerance: largest difference of entries.
        receiver: submodule of the mixer that receives its outputs.
        lacks: checks that say nothing of this model, each with the reason.
    """

    name: str
    build: Callable[[], nn.Module]
    naive: Callable[[nn.Module, Tensor], list[Tensor]]
    state_sizes: tuple[int | None, ...]
    naive_dtype: torch.dtype = torch.float64
    naive_tolerance: float = 1e-10
    receiver: str = ""
    lacks: Mapping[str, str] = field(default_factory=dict)


@torch.no_grad()
def run(model: nn.Module, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits


def forget(layer: LayerOperator) -> None:
    """A sink that keeps nothing."""


def footprint(model: nn.Module) -> dict[tuple[str, str], object]:
    """Everything that a recording may touch: hooks, methods, functions of the model's code."""
    found: dict[tuple[str, str], object] = {
        ("torch", "function modes"): torch._C._len_torch_function_stack(),
        ("transformers", "get_interface"): AttentionInterface.get_interface,
    }
    for name, module in model.named_modules():
        for hooks in (value for key, value in vars(module).items() if "_hooks" in key):
            found[name, f"hooks {len(found)}"] = len(hooks)
        found[name, "forward"] = "forward" in vars(module)
        code = sys.modules[type(module).__module__]
        found.update({(code.__name__, key): value for key, value in vars(code).items()})
    return found


class RecordingChecks:
    """What a recording leaves behind, and what it sees; a subclass says `mixer` and `cases`."""

    mixer: ClassVar[str]
    cases: ClassVar[tuple[Case, ...]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            cases = [case for case in self.cases if metafunc.function.__name__ not in case.lacks]
            metafunc.parametrize("case", cases, ids=lambda case: case.name)

    @pytest.fixture
    def model(self, case: Case) -> nn.Module:
        return case.build()

    def record(
        self,
        model: nn.Module,
        ids: Tensor,
        sink: Callable[[LayerOperator], object] = forget,
    ) -> list[LayerOperator]:
        """The operators of this adapter in one run of the model."""
        layers: list[LayerOperator] = []

        def keep(layer: LayerOperator) -> None:
            if layer.mixer == self.mixer:
                layers.append(layer)
                sink(layer)

        with hf_ess.record_operators(model, keep):
            run(model, ids)
        return layers

    def largest_residual(self, layers: list[LayerOperator]) -> float:
        assert layers
        residuals = []
        for layer in layers:
            meter = ResidualMeter(layer.operator.batch)
            gate = 1.0 if layer.output_gate is None else layer.output_gate.double()
            dense = layer.operator.to_dense()
            meter.add(dense @ layer.inputs.double() * gate, layer.outputs)
            rebuilt = layer.operator.apply(layer.inputs) * gate
            error = (rebuilt - layer.outputs.double()).abs().amax((1, 2, 3))
            scale = layer.outputs.double().abs().amax((1, 2, 3))
            torch.testing.assert_close(meter.residual(), error / scale, rtol=1e-6, atol=0.0)
            residuals.append(float(meter.residual().max()))
        return max(residuals)

    # What is left behind

    def test_everything_is_removed(self, model: nn.Module) -> None:
        ids = tiny_input_ids(model, length=SHORT)
        self.record(model, ids)
        before = footprint(model)
        with hf_ess.record_operators(model, forget):
            assert footprint(model) != before
            run(model, ids)
        assert footprint(model) == before

    @pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
    def test_exceptions_of_the_sink_pass_and_leave_nothing(
        self, model: nn.Module, raised: type[BaseException]
    ) -> None:
        ids = tiny_input_ids(model, length=SHORT)
        layers = self.record(model, ids)
        before = footprint(model)
        error = raised("from the sink")

        def sink(layer: LayerOperator) -> None:
            raise error

        with pytest.raises(raised) as caught:
            self.record(model, ids, sink)
        assert caught.value is error
        assert footprint(model) == before
        assert len(self.record(model, ids)) == len(layers)

    @pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt])
    def test_exceptions_of_a_layer_pass_and_leave_nothing(
        self, model: nn.Module, raised: type[BaseException]
    ) -> None:
        ids = tiny_input_ids(model, length=SHORT)
        last = model.get_submodule(self.record(model, ids)[-1].name)
        before = footprint(model)
        error = raised("from a layer")

        def fail(*arguments: object) -> None:
            raise error

        handle = last.register_forward_hook(fail)
        with pytest.raises(raised) as caught:
            self.record(model, ids)
        handle.remove()
        assert caught.value is error
        assert footprint(model) == before
        assert self.largest_residual(self.record(model, ids)) <= 1e-5

    def test_training_mode_is_refused(self, model: nn.Module) -> None:
        before = footprint(model)
        model.train()
        recording = hf_ess.record_operators(model, forget)
        with pytest.raises(hf_ess.UnsupportedModelError, match=r"model\.eval\(\)"), recording:
            pass
        assert footprint(model) == before

    # Several recordings

    def test_repeated_and_nested_recordings(self, model: nn.Module) -> None:
        ids = tiny_input_ids(model, length=SHORT)
        expected = [layer.operator.to_dense() for layer in self.record(model, ids)]
        outer: list[LayerOperator] = []
        inner: list[LayerOperator] = []
        before = footprint(model)
        with hf_ess.record_operators(model, outer.append):
            run(model, ids)
            with hf_ess.record_operators(model, inner.append):
                run(model, ids)
            run(model, ids)
        assert footprint(model) == before
        mine = [layer.operator.to_dense() for layer in outer if layer.mixer == self.mixer]
        within = [layer.operator.to_dense() for layer in inner if layer.mixer == self.mixer]
        assert len(within) == len(expected)
        assert len(mine) == 2 * len(expected)
        for dense, same in zip(mine + within, expected * 3, strict=True):
            assert torch.equal(dense, same)

    def test_a_sink_may_record_the_same_model(self, model: nn.Module) -> None:
        ids = tiny_input_ids(model, length=SHORT)
        expected = [layer.operator.to_dense() for layer in self.record(model, ids)]
        within: list[LayerOperator] = []

        def sink(layer: LayerOperator) -> None:
            if not within:
                within.extend(self.record(model, ids))

        outer = self.record(model, ids, sink)
        for layers in (outer, within):
            assert len(layers) == len(expected)
            for layer, dense in zip(layers, expected, strict=True):
                assert torch.equal(layer.operator.to_dense(), dense)

    def test_other_models_and_other_threads_are_not_seen(self, model: nn.Module) -> None:
        ids = tiny_input_ids(model, length=SHORT)
        other = build_tiny("llama", seed=1)
        seen: list[LayerOperator] = []
        with hf_ess.record_operators(model, seen.append):
            run(other, tiny_input_ids(other, length=SHORT))
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(run, model, ids).result()
            assert seen == []
            run(model, ids)
        assert seen != []

    def test_two_threads_record_two_models_at_once(self, model: nn.Module) -> None:
        other = build_tiny("llama", seed=1, num_hidden_layers=3)
        models = (model, other)
        texts = [tiny_input_ids(one, length=SHORT) for one in models]
        both_are_inside = threading.Barrier(2, timeout=60)

        def denses(number: int, together: bool) -> list[tuple[str, Tensor]]:
            found: list[tuple[str, Tensor]] = []

            def sink(layer: LayerOperator) -> None:
                if together and not found:
                    both_are_inside.wait()
                found.append((layer.name, layer.operator.to_dense()))

            with hf_ess.record_operators(models[number], sink):
                run(models[number], texts[number])
            return found

        expected = [denses(number, together=False) for number in range(2)]
        with ThreadPoolExecutor(2) as threads:
            running = [threads.submit(denses, number, together=True) for number in range(2)]
            found = [future.result() for future in running]
        for one, same in zip(found, expected, strict=True):
            assert [name for name, _ in one] == [name for name, _ in same]
            assert all(torch.equal(a[1], b[1]) for a, b in zip(one, same, strict=True))
