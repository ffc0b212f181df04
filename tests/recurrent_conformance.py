"""What adapters of recurrent mixers must do besides: part of the conformance suite."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from adapter_conformance import AdapterConformance, Case
from recording_checks import LENGTH, SHORT
from tiny_models import tiny_input_ids
from torch import Tensor, nn

import hf_ess
from model_adapters import LayerOperator, Recorder

__all__ = ["LENGTH", "SHORT", "Case", "RecurrentConformance", "recorded"]


@torch.no_grad()
def recorded(
    model: nn.Module, ids: Tensor, mixer: str, **kwargs: Any
) -> tuple[list[LayerOperator], Recorder, Any]:
    """Operators of one mixer, what was refused, and the model's result."""
    layers: list[LayerOperator] = []
    with hf_ess.record_operators(model, layers.append) as recorder:
        result = model(input_ids=ids, **kwargs)
    return [layer for layer in layers if layer.mixer == mixer], recorder, result


def entropy_of(values: np.ndarray) -> np.ndarray:
    values = np.where(values > 1e-13 * values[..., :1], values, 0.0)
    shares = values / np.maximum(values.sum(-1, keepdims=True), 1e-300)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return np.where(values[..., 0] > 0, np.exp(-(shares * logs).sum(-1)), 0.0)


class RecurrentConformance(AdapterConformance):
    """Adds spectra, runs with a cache, and reports of whole models."""

    def cached(self, model: nn.Module, result: Any) -> dict[str, Any]:
        """Arguments that make the model go on from an earlier result."""
        named = {name: getattr(result, name, None) for name in ("past_key_values", "cache_params")}
        return {name: cache for name, cache in named.items() if cache is not None} | {
            "use_cache": True
        }

    def test_spectra_are_those_of_the_dense_operator(self, model: nn.Module) -> None:
        for layer in self.record(model, tiny_input_ids(model, batch=2, length=LENGTH)):
            spectra = hf_ess.block_singular_values(layer.operator, "all").values.numpy()
            dense = layer.operator.to_dense().numpy()
            for i in range(1, LENGTH):
                true = np.linalg.svd(dense[..., i:, :i], compute_uv=False)
                expected = np.zeros((*true.shape[:-1], max(true.shape[-1], spectra.shape[-1])))
                expected[..., : true.shape[-1]] = true
                found = np.zeros_like(expected)
                found[..., : spectra.shape[-1]] = spectra[..., i - 1, :]
                assert (np.abs(found - expected) <= 1e-10 * true[..., :1]).all()

    def test_report_holds_every_mixer(self, case: Case, model: nn.Module) -> None:
        ids = tiny_input_ids(model, batch=2, length=LENGTH)
        layers = self.record(model, ids)
        with warnings.catch_warnings():
            # Models may mix tokens in other places too, which no adapter knows.
            warnings.simplefilter("ignore", hf_ess.UnverifiedOperatorWarning)
            report = hf_ess.analyze(model, ids, positions="all", batch_size=2, progress=False)
        found = {(layer.name, layer.call): layer for layer in report.layers}
        for layer in layers:
            measured = found[layer.name, layer.call]
            assert measured.mixer == self.mixer
            assert measured.verified, measured.reason
            assert measured.state_size == layer.operator.state_size
            dense = layer.operator.to_dense().numpy()
            for i in range(1, LENGTH):
                true = np.linalg.svd(dense[..., i:, :i], compute_uv=False)
                np.testing.assert_allclose(
                    measured.entropy_ess[..., i - 1], entropy_of(true), rtol=0.0, atol=1e-8
                )

    def test_calls_that_go_on_from_a_state_are_refused(self, case: Case, model: nn.Module) -> None:
        ids = tiny_input_ids(model, batch=1, length=LENGTH)
        first, recorder, result = recorded(model, ids[:, :SHORT], self.mixer, use_cache=True)
        assert len(first) == len(case.state_sizes)
        assert self.largest_residual(first) <= 1e-5
        for more in (ids[:, SHORT:], ids[:, :1]):
            later, recorder, result = recorded(
                model, more, self.mixer, **self.cached(model, result)
            )
            reasons = [layer.reason for layer in recorder.refused if layer.mixer == self.mixer]
            assert not later
            assert len(reasons) == len(case.state_sizes)
            assert all("earlier state" in reason for reason in reasons)
