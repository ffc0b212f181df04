"""Windows of long texts: measured and proved from rows, with the numbers of whole matrices."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from analysis.handmade import BidirectionalAttention, Decoder, InlineAttention
from tiny_models import build_tiny, tiny_input_ids
from torch.utils._python_dispatch import TorchDispatchMode

import hf_ess
from hf_ess.analysis import measurement, streaming
from hf_ess.analysis.measurement import OperatorMeasurer
from hf_ess.analysis.spectral import MeasurementSettings
from hf_ess.operators import DenseOperator
from hf_ess.operators.attention import AttentionOperator
from hf_ess.spectra import windowed
from model_adapters import LayerOperator, record_operators

LENGTH, WINDOW = 101, (9, 14)
TOLERANCES = (0.3, 1e-2, 1e-5)
# Attention in every form: soft caps, sinks, sliding windows, biases, compressed and shared keys.
MODELS = [
    "llama", "gemma2", "gpt_oss", "mistral", "mpt", "bloom", "deepseek_v3", "deepseek_v4",
    "diffllama", "inkling2_text", "gpt2", "modernbert-decoder", "falcon", "doge",
]  # fmt: skip


def analyze(model, ids, **options):
    settings = {"window": WINDOW, "tolerances": TOLERANCES, "progress": False} | options
    return hf_ess.analyze(model, ids, **settings)


@pytest.fixture
def by_matrices(monkeypatch):
    """Windows as they are measured where M is formed."""

    def turn_on():
        monkeypatch.setattr(measurement, "streams", lambda *_: False)
        monkeypatch.setattr(hf_ess.spectra.dispatch, "streams", lambda *_: False)

    return turn_on


def assert_same(report, expected):
    for layer, other in zip(report.layers, expected.layers, strict=True):
        assert (layer.name, layer.verified, layer.reason) == (
            other.name,
            other.verified,
            other.reason,
        )
        np.testing.assert_allclose(layer.residual, other.residual, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(layer.entropy_ess, other.entropy_ess, rtol=0, atol=1e-6)
        for tau in TOLERANCES:
            decided = (layer.undecided[tau] == 0) & (other.undecided[tau] == 0)
            np.testing.assert_array_equal(
                layer.tolerance_ess[tau][decided], other.tolerance_ess[tau][decided]
            )
            np.testing.assert_array_equal(layer.below_floor[tau], other.below_floor[tau])
        np.testing.assert_array_equal(layer.capacity, other.capacity)
        np.testing.assert_array_equal(layer.attainable_by_group, other.attainable_by_group)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_report_is_that_of_whole_matrices(batch_size, by_matrices):
    model = build_tiny("llama")
    ids = tiny_input_ids(model, batch=2, length=LENGTH)
    report = analyze(model, ids, batch_size=batch_size)
    assert all(layer.verified for layer in report.layers)
    by_matrices()
    assert_same(report, analyze(model, ids, batch_size=batch_size))


def test_weights_on_the_future_are_seen_in_rows(by_matrices):
    model = Decoder(InlineAttention, BidirectionalAttention)
    ids = torch.randint(64, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    with pytest.warns(hf_ess.UnverifiedOperatorWarning):
        report = analyze(model, ids)
    assert [layer.verified for layer in report.layers] == [True, False]
    assert "not causal" in report.layers[1].reason
    by_matrices()
    with pytest.warns(hf_ess.UnverifiedOperatorWarning):
        assert_same(report, analyze(model, ids))


def layer_of(outputs, gate=None, offset=None):
    generator = torch.Generator().manual_seed(1)
    matrix = torch.rand(1, 2, LENGTH, LENGTH, generator=generator, dtype=torch.float64).tril()
    inputs = torch.randn(1, 2, LENGTH, 3, generator=generator, dtype=torch.float64)
    return LayerOperator(
        name="layer",
        index=0,
        mixer="handmade",
        operator=DenseOperator(matrix),
        inputs=inputs,
        outputs=outputs(matrix @ inputs),
        output_gate=gate,
        output_offset=offset,
    )


def measured(layer, **options):
    settings = MeasurementSettings(
        tolerances=TOLERANCES,
        relative=False,
        window=WINDOW,
        method="auto",
        accuracy="certified",
        keep_singular_values=False,
        **{"memory_budget": 2**28} | options,
    )
    return OperatorMeasurer(layer, (30, 60, 90), settings).measure()


def test_one_wrong_row_shows_in_the_residual(monkeypatch):
    def wrong(exact):
        outputs = exact.clone()
        outputs[0, 1, 77, 2] += 1e-3 * float(exact.abs().max())
        return outputs

    found = measured(layer_of(wrong)).residual
    assert float(found[0]) == pytest.approx(1e-3, rel=1e-2)
    monkeypatch.setattr(streaming, "slices", lambda length, _: [slice(0, length)])
    np.testing.assert_allclose(found, measured(layer_of(wrong)).residual, rtol=1e-12)


def test_gates_and_offsets_are_those_of_the_rows(monkeypatch):
    monkeypatch.setattr(windowed, "STREAMED_BYTES", 2**12)
    generator = torch.Generator().manual_seed(2)
    gate, offset = torch.randn(2, 1, 2, LENGTH, 3, generator=generator, dtype=torch.float64)
    layer = layer_of(lambda exact: exact * gate + offset, gate, offset)
    assert float(measured(layer).residual[0]) <= 1e-14
    assert float(measured(layer_of(lambda exact: exact, gate, offset)).residual[0]) > 0.1


@pytest.mark.parametrize("model_type", MODELS)
def test_models_own_attention_gives_rows(model_type):
    model = build_tiny(model_type)
    ids = tiny_input_ids(model, batch=1, length=23)
    found = []

    def compare(layer):
        operator = layer.operator
        if not isinstance(operator, AttentionOperator):
            return
        dense = operator.to_dense()
        for rows in (slice(0, 7), slice(7, 8), slice(9, 23)):
            block = operator.to_dense_block(None, rows, slice(2, 20))
            error = (block - dense[:, :, rows, 2:20]).abs().max()
            assert float(error) <= 1e-14 * float(dense.abs().max())
        assert operator.block_bytes_per_group(2, 23) < operator.dense_bytes_per_group()
        found.append(layer.name)

    with torch.no_grad(), record_operators(model, compare):
        model(input_ids=ids, use_cache=False)
    assert found


class LargestTensor(TorchDispatchMode):
    """Bytes of the largest tensor made meanwhile."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result


def test_no_tensor_is_as_large_as_a_matrix():
    length = 1024
    model = build_tiny("llama", max_position_embeddings=length)
    ids = tiny_input_ids(model, batch=1, length=length)
    # The attention of older torch makes the matrix itself.
    with torch.no_grad(), LargestTensor() as alone:
        model(input_ids=ids, use_cache=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch, LargestTensor() as largest:
            patch.setattr(windowed, "STREAMED_BYTES", 2**20)
            report = analyze(model, ids, window=16)
    finally:
        torch.set_num_threads(before)
    assert all(layer.verified for layer in report.layers)
    assert largest.bytes <= max(alone.bytes, 8 * length**2 / 16)


def test_too_long_for_the_budget_offers_a_window_that_fits():
    model = build_tiny("llama")
    ids = tiny_input_ids(model, batch=1, length=200)
    run = partial(analyze, model, ids, window=None, memory_budget=2**20)
    with pytest.raises(hf_ess.MemoryBudgetError, match="measure windows") as caught:
        run()
    analyze(model, ids, window=4, memory_budget=2**20)
    needed = int(caught.value.fix.split("memory_budget to ")[1].split(" bytes")[0])
    assert run(memory_budget=needed).layers
    with pytest.raises(hf_ess.MemoryBudgetError):
        run(memory_budget=needed - 1)
    shorter = int(caught.value.fix.rsplit("at most ", 1)[1].split()[0])
    assert hf_ess.analyze(model, ids[:, :shorter], memory_budget=2**20, progress=False).layers


def test_a_window_beyond_the_budget_says_what_is_needed():
    model = build_tiny("llama")
    ids = tiny_input_ids(model, batch=1, length=200)
    with pytest.raises(
        hf_ess.MemoryBudgetError, match=r"Windows of 9 x 14 .* length 200"
    ) as caught:
        analyze(model, ids, memory_budget=1000)
    needed = int(caught.value.fix.split("memory_budget to ")[1].split(" bytes")[0])
    assert analyze(model, ids, memory_budget=needed).layers
    with pytest.raises(hf_ess.MemoryBudgetError):
        analyze(model, ids, memory_budget=needed - 1)
