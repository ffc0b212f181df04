"""What every adapter must do: one test class, which the tests of each adapter inherit.

A new adapter supplies tiny models and a slow, readable oracle, and inherits every check:

    class TestMyMixer(AdapterConformance):
        mixer = "my mixer"
        cases = (Case("my_type", partial(build_tiny, "my_type"), naive_my_mixer, (8, 8)),)
"""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from recording_checks import LENGTH, SHORT, Case, RecordingChecks, run
from tiny_models import tiny_input_ids
from torch import Tensor, nn

import hf_ess
from model_adapters import LayerOperator

__all__ = ["LENGTH", "AdapterConformance", "Case"]


class AdapterConformance(RecordingChecks):
    """The checks; a subclass says its `mixer` and its `cases`."""

    # What is recorded

    def test_names_and_shapes(self, case: Case, model: nn.Module) -> None:
        ids = tiny_input_ids(model, batch=2, length=LENGTH)
        layers = self.record(model, ids)
        paths = [layer.name for layer in layers]
        assert len(layers) == len(case.state_sizes)
        assert set(paths) <= {name for name, _ in model.named_modules()}
        assert len({(layer.name, layer.call) for layer in layers}) == len(layers)
        for layer in layers:
            batch, groups, length, width = layer.operator.shape
            assert (batch, length, width) == (2, LENGTH, LENGTH)
            assert layer.inputs.shape[:3] == layer.outputs.shape[:3] == (batch, groups, length)
            assert layer.inputs.dtype == layer.outputs.dtype == torch.float32
            assert str(layer.index) in layer.name.split(".")

    def test_output_is_rebuilt(self, model: nn.Module) -> None:
        layers = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert self.largest_residual(layers) <= 1e-5

    def test_outputs_are_what_the_layer_passes_on(self, case: Case, model: nn.Module) -> None:
        received: list[Tensor] = []

        def receive(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            received.append(args[0])

        ids = tiny_input_ids(model, batch=2, length=LENGTH)
        handles = [
            model.get_submodule(f"{layer.name}.{case.receiver}").register_forward_pre_hook(receive)
            for layer in self.record(model, ids)
        ]
        layers = self.record(model, ids)
        for handle in handles:
            handle.remove()
        assert len(received) == len(layers)
        for layer, features in zip(layers, received, strict=True):
            passed_on = layer.outputs.transpose(1, 2).reshape(2, LENGTH, -1)
            assert torch.equal(passed_on, features.reshape(2, LENGTH, -1))

    def test_operator_equals_the_naive_one(self, case: Case, model: nn.Module) -> None:
        model = model.to(case.naive_dtype)
        ids = tiny_input_ids(model, batch=2, length=SHORT + 2)
        with torch.no_grad():
            expected = case.naive(model, ids)
        layers = self.record(model, ids)
        assert len(expected) == len(layers)
        for layer, naive in zip(layers, expected, strict=True):
            dense = layer.operator.to_dense()
            assert dense.dtype == torch.float64
            assert dense.shape == naive.shape
            assert float((dense - naive).abs().max()) <= case.naive_tolerance

    def test_nothing_above_the_diagonal(self, model: nn.Module) -> None:
        for layer in self.record(model, tiny_input_ids(model, batch=2, length=LENGTH)):
            dense = layer.operator.to_dense()
            assert not dense.triu(1).any()
            assert dense.diagonal(dim1=-2, dim2=-1).any()

    def test_rank_is_attainable(self, model: nn.Module) -> None:
        positions = torch.arange(1, LENGTH)
        for layer in self.record(model, tiny_input_ids(model, batch=2, length=LENGTH)):
            dense = layer.operator.to_dense().numpy()
            shape = (*dense.shape[:2], len(positions))
            attainable = np.broadcast_to(layer.operator.attainable(positions).numpy(), shape)
            for i in positions.tolist():
                blocks = dense[..., i:, :i]
                values = np.linalg.svd(blocks, compute_uv=False)
                rank = (values > 1e-10 * values[..., :1]).sum(-1)
                assert (rank <= attainable[..., i - 1]).all()
                assert (attainable[..., i - 1] <= min(i, LENGTH - i)).all()

    def test_state_size_and_capacity(self, case: Case, model: nn.Module) -> None:
        positions = torch.arange(1, LENGTH)
        layers = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert tuple(layer.operator.state_size for layer in layers) == case.state_sizes
        for layer in layers:
            size = layer.operator.state_size
            capacity = layer.operator.capacity(positions)
            bound = positions if size is None else positions.clamp(max=size)
            assert bool((capacity <= bound).all())
            assert int(capacity.max()) == int(bound.max())

    # What the model can do meanwhile

    @pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 2e-2), ("float16", 2.5e-3)])
    def test_half_precision(self, model: nn.Module, dtype: str, bound: float) -> None:
        model = model.to(getattr(torch, dtype))
        layers = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert {layer.outputs.dtype for layer in layers} == {getattr(torch, dtype)}
        assert self.largest_residual(layers) <= bound

    @pytest.mark.parametrize("length", [1, 2, 3, 7, 17])
    def test_short_and_odd_lengths(self, case: Case, model: nn.Module, length: int) -> None:
        layers = self.record(model, tiny_input_ids(model, batch=1, length=length))
        assert len(layers) == len(case.state_sizes)
        assert {layer.operator.length for layer in layers} == {length}
        assert self.largest_residual(layers) <= 1e-5

    def test_samples_of_a_batch_are_those_of_single_runs(self, model: nn.Module) -> None:
        ids = tiny_input_ids(model, batch=3, length=LENGTH)
        together = self.record(model, ids)
        for sample in range(3):
            alone = self.record(model, ids[sample : sample + 1])
            for one, all_three in zip(alone, together, strict=True):
                expected = all_three.operator.to_dense()[sample : sample + 1]
                torch.testing.assert_close(one.operator.to_dense(), expected, rtol=0.0, atol=2e-5)

    def test_inference_mode(self, model: nn.Module) -> None:
        ids = tiny_input_ids(model, batch=2, length=LENGTH)
        expected = [layer.operator.to_dense() for layer in self.record(model, ids)]
        with torch.inference_mode():
            layers = self.record(model, ids)
            assert self.largest_residual(layers) <= 1e-5
        for layer, dense in zip(layers, expected, strict=True):
            assert torch.equal(layer.operator.to_dense(), dense)

    def test_gradients_are_those_of_a_run_without_recording(self, model: nn.Module) -> None:
        ids = tiny_input_ids(model, batch=2, length=SHORT)

        def gradients() -> list[Tensor | None]:
            model.zero_grad()
            model(input_ids=ids, use_cache=False).logits.square().mean().backward()
            return [weight.grad for weight in model.parameters()]

        before = gradients()
        denses: list[Tensor] = []
        with hf_ess.record_operators(model, lambda layer: denses.append(layer.operator.to_dense())):
            inside = gradients()
        assert denses
        assert not any(dense.requires_grad for dense in denses)
        assert any(gradient is not None and gradient.any() for gradient in before)
        for one, other in zip(before, inside, strict=True):
            assert (one is None) == (other is None)
            assert one is None or other is None or torch.equal(one, other)

    def test_outputs_of_the_model_are_the_same_bit_for_bit(self, model: nn.Module) -> None:
        ids = tiny_input_ids(model, batch=2, length=LENGTH)
        before = run(model, ids)
        state = torch.random.get_rng_state()
        with hf_ess.record_operators(model, lambda layer: layer.operator.to_dense()):
            inside = run(model, ids)
        after = run(model, ids)
        assert torch.equal(before, inside)
        assert torch.equal(before, after)
        assert torch.equal(state, torch.random.get_rng_state())

    # Memory

    def test_groups_in_chunks(self, model: nn.Module) -> None:
        for layer in self.record(model, tiny_input_ids(model, batch=2, length=LENGTH)):
            operator = layer.operator
            whole = operator.to_dense()
            for step in {1, 2, 3, operator.groups - 1} & set(range(1, operator.groups)):
                chunks = list(operator.group_chunks(step * operator.dense_bytes_per_group()))
                assert max(len(range(operator.groups)[chunk]) for chunk in chunks) == step
                parts = torch.cat([operator.to_dense(chunk) for chunk in chunks], dim=1)
                torch.testing.assert_close(parts, whole, rtol=0.0, atol=1e-15)

    def test_one_operator_is_alive_at_a_time(self, case: Case, model: nn.Module) -> None:
        earlier: list[weakref.ref[object]] = []
        alive: list[int] = []

        def sink(layer: LayerOperator) -> None:
            layer.operator.to_dense()
            alive.append(sum(reference() is not None for reference in earlier))
            earlier.append(weakref.ref(layer.operator))

        with hf_ess.record_operators(model, sink):
            run(model, tiny_input_ids(model, length=LENGTH))
        assert len(alive) >= len(case.state_sizes)
        assert not any(alive)
        assert earlier[-1]() is None
