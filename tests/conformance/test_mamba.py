"""Conformance of the first Mamba's selective scan, in pure models and in hybrids."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from naive_recurrent import naive_mamba
from recurrent_conformance import LENGTH, SHORT, Case, RecurrentConformance, recorded
from tiny_model_overrides import STATE
from tiny_models import build_tiny, tiny_input_ids
from torch import nn

import hf_ess

# Their experts run in no float64.
IN_FLOAT32 = {"naive_dtype": torch.float32}


def _case(model_type: str, count: int, **known) -> Case:
    return Case(
        name=model_type,
        build=partial(build_tiny, model_type, **known.pop("overrides", {})),
        naive=naive_mamba,
        state_sizes=(STATE,) * count,
        receiver="out_proj",
        **known,
    )


class TestMamba(RecurrentConformance):
    mixer = "mamba"
    cases = (
        _case("mamba", 2),
        _case("falcon_mamba", 2),
        _case("jamba", 1, **IN_FLOAT32),
        _case(
            "zamba",
            4,
            overrides={"layers_block_type": ["hybrid", "hybrid"]},
            lacks={
                "test_outputs_are_what_the_layer_passes_on": "two heads are passed on as one",
            },
        ),
    )

    def test_calls_that_go_on_from_a_state_are_refused(self, case: Case, model: nn.Module) -> None:
        ids = tiny_input_ids(model, length=SHORT)
        first, recorder, result = recorded(model, ids, self.mixer, use_cache=True)
        assert len(first) == len(case.state_sizes)
        assert not recorder.refused
        later, recorder, _ = recorded(model, ids[:, :1], self.mixer, **self.cached(model, result))
        refused = [layer for layer in recorder.refused if layer.mixer == self.mixer]
        assert not later
        assert [layer.name for layer in refused] == [layer.name for layer in first]
        assert all("earlier state" in layer.reason for layer in refused)

    def test_several_tokens_after_a_cache_start_from_a_zero_state(self) -> None:
        model = build_tiny("mamba")
        ids = tiny_input_ids(model, length=LENGTH)
        _, _, result = recorded(model, ids[:, :SHORT], self.mixer, use_cache=True)
        later, recorder, _ = recorded(
            model, ids[:, SHORT:], self.mixer, use_cache=True, cache_params=result.cache_params
        )
        assert not recorder.refused
        assert self.largest_residual(later) <= 1e-5

    def test_module_that_runs_twice(self) -> None:
        model = build_tiny("mamba")
        model.backbone.layers[1].mixer = model.backbone.layers[0].mixer
        layers = self.record(model, tiny_input_ids(model, batch=2, length=LENGTH))
        assert [(layer.name, layer.call) for layer in layers] == [
            ("backbone.layers.0.mixer", 0),
            ("backbone.layers.0.mixer", 1),
        ]
        assert self.largest_residual(layers) <= 1e-5

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_padded_texts(self, side: str) -> None:
        model = build_tiny("mamba")
        ids = tiny_input_ids(model, batch=2, length=LENGTH)
        mask = torch.ones_like(ids)
        padded = slice(None, 5) if side == "left" else slice(-5, None)
        mask[0, padded] = 0
        layers, _, _ = recorded(model, ids, self.mixer, attention_mask=mask, use_cache=False)
        assert self.largest_residual(layers) <= 1e-5

    def test_hybrid_reports_all_of_its_mixers(self) -> None:
        model = build_tiny("zamba")
        ids = tiny_input_ids(model, length=LENGTH)
        report = hf_ess.analyze(model, ids, progress=False)
        mixers = [name for name, _ in model.named_modules() if name.endswith(".mamba")]
        assert {layer.name for layer in report.layers if layer.mixer == "mamba"} == set(mixers)
        assert not report.unsupported
