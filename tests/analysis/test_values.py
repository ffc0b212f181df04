"""A report holds what a slow and independent computation of the same model gives."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from analysis import slow_oracle as oracle
from tiny_models import build_tiny, tiny_input_ids

import hf_ess

LENGTH = 23
POSITIONS = (1, 4, 9, 16, 22)
TOLERANCES = (0.3, 1e-2, 1e-6)
MULTIPLICITY = 16

analyze = partial(hf_ess.analyze, progress=False, tolerances=TOLERANCES)


@pytest.fixture(scope="module")
def model():
    return build_tiny("llama").double()


@pytest.fixture(scope="module")
def ids(model):
    return tiny_input_ids(model, batch=3, length=LENGTH)


@pytest.fixture(scope="module")
def operators(model, ids):
    """For each sample the attention weights of every layer."""
    return [oracle.llama_operators(model, row) for row in ids]


@pytest.fixture(scope="module")
def report(model, ids):
    return analyze(model, ids, positions=POSITIONS, keep_singular_values=True)


def _metrics(relative=False):
    counts = {tau: partial(oracle.count, tolerance=tau, relative=relative) for tau in TOLERANCES}
    return {"entropy": oracle.entropy, **counts}


def _grid(table):
    """`[layer, sample, head, position]` with NaN for what does not exist."""
    return np.array(table, dtype=float)


def _assert_values(report, samples, positions, window=None, relative=False):
    for metric, function in _metrics(relative).items():
        expected = _grid(oracle.ess_table(samples, positions, function, window))
        found = np.stack([layer.values(metric) for layer in report.layers])
        if metric == "entropy":
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
        else:
            np.testing.assert_array_equal(found, expected)


def test_every_value_of_every_block(report, operators):
    assert report.positions.tolist() == list(POSITIONS)
    assert [layer.name for layer in report.layers] == [
        f"model.layers.{number}.self_attn" for number in range(2)
    ]
    assert all(layer.verified and layer.residual.max() < 1e-7 for layer in report.layers)
    assert all(layer.undecided[tau].sum() == 0 for layer in report.layers for tau in TOLERANCES)
    _assert_values(report, operators, POSITIONS)


def test_largest_singular_values_and_all_of_them_where_kept(report, operators):
    for number, layer in enumerate(report.layers):
        for sample, weights in enumerate(operators):
            for head in range(layer.groups):
                for place, position in enumerate(POSITIONS):
                    expected = np.linalg.svd(
                        weights[number][head][position:, :position], compute_uv=False
                    )
                    kept = layer.singular_values[sample, head, place]
                    largest = layer.largest_singular_value[sample, head, place]
                    assert largest == pytest.approx(expected[0], rel=1e-12)
                    np.testing.assert_allclose(kept[: len(expected)], expected, atol=2e-7)
                    assert not kept[len(expected) :].any()


def test_singular_values_are_left_out_unless_asked_for(model, ids):
    report = analyze(model, ids[:1], positions=[9])
    assert [layer.singular_values for layer in report.layers] == [None, None]


def test_averages_and_totals(report, operators):
    for metric, function in _metrics().items():
        table = oracle.ess_table(operators, POSITIONS, function)
        totals = oracle.layer_totals(table, MULTIPLICITY)
        by_position = np.array(oracle.totals_by_layer_and_position(table, MULTIPLICITY))
        assert report.average_ess(metric) == pytest.approx(oracle.average(table), rel=1e-9)
        assert report.standard_error(metric) == pytest.approx(
            oracle.standard_error(table), rel=1e-7
        )
        assert report.total_ess(metric) == pytest.approx(sum(totals) / 2, rel=1e-9)
        assert report.total_ess(metric, layers="sum") == pytest.approx(sum(totals), rel=1e-9)
        np.testing.assert_allclose(
            report.total_ess_by_position(metric), by_position.mean(axis=0), rtol=1e-9
        )
        np.testing.assert_allclose(
            report.total_ess_by_position(metric, layers="sum"), by_position.sum(axis=0), rtol=1e-9
        )


def test_one_sample_has_no_standard_error(model, ids):
    assert math.isnan(analyze(model, ids[:1], positions=[9]).standard_error())


def test_texts_of_different_length(model, ids):
    lengths = (LENGTH, 17, 10)
    mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    report = analyze(model, {"input_ids": ids, "attention_mask": mask.long()}, positions=POSITIONS)
    rows = zip(ids, lengths, strict=True)
    samples = [oracle.llama_operators(model, row[:length]) for row, length in rows]
    assert [sample.length for sample in report.samples] == list(lengths)
    _assert_values(report, samples, POSITIONS)
    table = oracle.ess_table(samples, POSITIONS, oracle.entropy)
    totals = oracle.layer_totals(table, MULTIPLICITY)
    by_position = np.array(oracle.totals_by_layer_and_position(table, MULTIPLICITY))
    assert report.average_ess() == pytest.approx(oracle.average(table), rel=1e-9)
    assert report.total_ess() == pytest.approx(sum(totals) / 2, rel=1e-9)
    np.testing.assert_allclose(report.total_ess_by_position(), by_position.mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize(("window", "meaning"), [(6, (6, 6)), ((3, 8), (3, 8)), ((50, 2), (50, 2))])
def test_windowed_values(model, ids, operators, window, meaning):
    report = analyze(model, ids, positions=POSITIONS, window=window)
    assert report.window == meaning
    _assert_values(report, operators, POSITIONS, window=meaning)
    for layer in report.layers:
        sizes = [min(*meaning, position, LENGTH - position) for position in POSITIONS]
        assert (layer.entropy_ess <= np.array(sizes) + 1e-12).all()
        assert (layer.attainable == np.array(sizes)).all()


def test_relative_tolerances(model, ids, operators):
    report = analyze(model, ids, positions=POSITIONS, relative=True)
    assert report.relative
    _assert_values(report, operators, POSITIONS, relative=True)
    absolute = analyze(model, ids, positions=POSITIONS)
    assert report.average_ess(0.3) != absolute.average_ess(0.3)


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ("all", list(range(1, LENGTH))),
        ("auto", list(range(1, LENGTH))),
        (5, [5, 10, 15, 20]),
        ([9, 2, 16], [2, 9, 16]),
        (torch.tensor([3, 11]), [3, 11]),
        (range(4, 20, 7), [4, 11, 18]),
    ],
)
def test_positions(model, ids, operators, positions, expected):
    report = analyze(model, ids[:1], positions=positions)
    assert report.positions.tolist() == expected
    _assert_values(report, operators[:1], expected)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_batch_size_does_not_matter(model, ids, operators, report, batch_size):
    batched = analyze(model, ids, positions=POSITIONS, batch_size=batch_size)
    _assert_values(batched, operators, POSITIONS)
    assert [layer.name for layer in batched.layers] == [layer.name for layer in report.layers]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([1], [1]),
        ([0, 1], [0, 1]),
        (["model.layers.0.self_attn"], [0]),
        (["model.layers.1"], [1]),
        (["model.layers", 1], [0, 1]),
        ("model.layers.1", [1]),
        (0, [0]),
    ],
)
def test_chosen_layers_only(model, ids, report, layers, expected):
    chosen = analyze(model, ids, positions=POSITIONS, layers=layers)
    assert [layer.index for layer in chosen.layers] == expected
    for layer in chosen.layers:
        np.testing.assert_array_equal(layer.entropy_ess, report.layers[layer.index].entropy_ess)


@pytest.mark.parametrize("method", ["gram", "svd"])
def test_methods_agree(model, ids, operators, method):
    report = analyze(model, ids, positions=POSITIONS, method=method, tolerances=[0.3])
    expected = _grid(oracle.ess_table(operators, POSITIONS, oracle.entropy))
    found = np.stack([layer.entropy_ess for layer in report.layers])
    assert {layer.method for layer in report.layers} == {method}
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 if method == "gram" else 1e-10)


def test_tolerances_in_any_order(model, ids, operators):
    tolerances = [TOLERANCES[place] for place in (1, 2, 0)]
    report = analyze(
        model, ids, positions=POSITIONS, tolerances=tolerances, method="divide-and-conquer"
    )
    assert report.tolerances == tuple(tolerances)
    assert [layer.tolerances for layer in report.layers] == [tuple(tolerances)] * 2
    for tau in tolerances[::2]:  # at 1e-6 some values are undecided
        expected = oracle.ess_table(operators, POSITIONS, partial(oracle.count, tolerance=tau))
        found = np.stack([layer.values(tau) for layer in report.layers])
        np.testing.assert_array_equal(found, _grid(expected))


def test_bounds_are_those_of_the_dtype_that_a_layer_computes_in():
    model = build_tiny("qwen3_next").double()
    model.set_experts_implementation("eager")  # torch's own knows no float64
    report = analyze(model, tiny_input_ids(model, length=LENGTH), positions=[9])
    bounds = {layer.mixer: layer.residual_bound for layer in report.verified_layers}
    # The delta rule of transformers computes in float32, whatever its model is in.
    assert bounds == {"gated delta rule": 1e-4, "softmax attention": 1e-6}


def test_memory_budget_does_not_change_the_values(model, ids, report):
    one_head = 4 * 8 * LENGTH**2
    frugal = analyze(model, ids, positions=POSITIONS, memory_budget=2 * one_head)
    for layer, reference in zip(frugal.layers, report.layers, strict=True):
        np.testing.assert_allclose(layer.entropy_ess, reference.entropy_ess, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_agrees_with_the_weights_that_the_model_itself_returns(dtype):
    model = build_tiny("llama", attn_implementation="eager").to(dtype)
    ids = tiny_input_ids(model, length=LENGTH)
    with torch.no_grad():
        attentions = model(input_ids=ids, output_attentions=True, use_cache=False).attentions
    own = [weights[0].double().numpy() for weights in attentions]
    report = analyze(model, ids, positions=POSITIONS, tolerances=[0.1])
    expected = _grid(oracle.ess_table([own], POSITIONS, oracle.entropy))
    found = np.stack([layer.entropy_ess for layer in report.layers])
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    assert all(layer.verified for layer in report.layers)


def test_no_cache_is_made_where_only_the_base_of_a_model_has_a_switch_for_it():
    """A cache of linear attention alone has no length, for which this type asks."""
    model = build_tiny("granitemoehybrid", layer_types=["linear_attention"], num_hidden_layers=1)
    ids = tiny_input_ids(model)
    report = hf_ess.analyze(model, ids, progress=False)
    assert [layer.verified for layer in report.layers] == [True]
    scored = hf_ess.recall_perplexity(model, ids, progress=False)
    assert scored.all.tokens == ids.numel() - len(ids)
