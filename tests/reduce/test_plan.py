"""Plans from reports, against singular values of dense blocks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified

import hf_ess
from hf_ess.reduce import ReductionPlan, plan
from hf_ess.synthetics import SyntheticConfig, build_model

LENGTH, BATCH = 26, 2
IDS = torch.randint(32, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
MIXERS = ("LA", "GLA-S6", "S6", "SA")


@pytest.fixture(scope="module")
def model():
    config = SyntheticConfig(MIXERS, vocab_size=32, hidden_size=16, num_attention_heads=2)
    return build_model(config, seed=2).double()


@pytest.fixture(scope="module")
def spectra(model) -> list[np.ndarray]:
    """Singular values of each layer `[B, G, L - 1, L]`, by decompositions of dense blocks."""
    layers = []
    with torch.no_grad(), hf_ess.record_operators(model, layers.append):
        model(input_ids=IDS)
    found = []
    for layer in layers:
        dense = layer.operator.to_dense().numpy()
        values = np.zeros((*dense.shape[:2], LENGTH - 1, LENGTH))
        for i in range(1, LENGTH):
            own = np.linalg.svd(dense[..., i:, :i], compute_uv=False)
            values[:, :, i - 1, : own.shape[-1]] = own
        found.append(values)
    return found


def measured(model, **more) -> hf_ess.ESSReport:
    return hf_ess.analyze(model, IDS, progress=False, **({"positions": "all"} | more))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_sizes_and_errors_are_those_of_dense_blocks(model, spectra, tolerance, keep) -> None:
    small = plan(measured(model, keep_singular_values=keep), tolerance=tolerance)
    assert len(small.layers) == len(MIXERS)
    for layer, values in zip(small.layers, spectra, strict=True):
        counts = (values > tolerance).sum(-1)
        assert layer.size == max(1, counts.max())
        assert layer.by_group == tuple(counts.max((0, 2)))
        assert layer.between == layer.size
        left = values[..., layer.size]
        assert (layer.error_below <= left + 1e-12).all()
        assert (layer.error_above >= left - 1e-12).all()
        assert layer.largest_error <= tolerance + 1e-6
        if keep:
            np.testing.assert_allclose(layer.error_above, left, rtol=1e-6, atol=1e-8)
        else:
            known = {0.0, *TOLERANCES}
            assert set(layer.error_below.ravel()) <= known


def test_numbers_and_bytes(model) -> None:
    small = plan(measured(model), tolerance=0.1)
    la, headed, selective, attention = small.layers
    assert (la.numbers_now(99), headed.numbers_now(99)) == (2 * 8 * 8, 2 * 8 * 8)
    assert selective.numbers_now(99) == 16 * 16
    assert attention.numbers_now(99) == attention.numbers_then(99) == 16 * 99
    assert small.state_numbers_now == 128 + 128 + 256
    then = 16 * (la.size + headed.size + selective.size)
    assert small.state_numbers_then == then < small.state_numbers_now
    assert (small.bytes_now("float64"), small.bytes_then("bfloat16")) == (8 * 512, 2 * then)
    assert small.sizes == {layer.name: layer.size for layer in small.layers[:3]}
    with pytest.raises(hf_ess.InvalidInputError, match=r"(?s)no dtype 'int8'.*float32"):
        small.bytes_now("int8")


@pytest.mark.parametrize("positions", [5, [9], [3, 4, 20], "all"])
@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_the_bound_between_positions_holds(model, spectra, tolerance, positions) -> None:
    small = plan(measured(model, positions=positions), tolerance=tolerance)
    for layer, values in zip(small.layers, spectra, strict=True):
        most = max(1, int((values > tolerance).sum(-1).max()))
        assert layer.size <= most <= layer.between
        assert layer.between <= min(layer.state_size or LENGTH // 2, LENGTH // 2)
    said = "only some positions were measured"
    assert any(said in remark for remark in small.remarks) == (positions != "all")


def test_a_budget_is_met_by_the_best_of_all_choices(model) -> None:
    report = measured(model, positions=4)
    by_level = [plan(report, tolerance=level) for level in sorted(TOLERANCES)]
    totals = [small.state_numbers_then for small in by_level]
    assert totals == sorted(totals, reverse=True)
    for budget in range(totals[-1], totals[0] + 17, 24):
        small = plan(report, state_budget=budget)
        assert small.tolerance is None
        assert small.state_numbers_then <= budget
        for layer, at in zip(
            small.layers, zip(*(one.layers for one in by_level), strict=True), strict=True
        ):
            assert (layer.tolerance, layer.size) in {(one.tolerance, one.size) for one in at}
    assert plan(report, state_budget=totals[0]).state_numbers_then == totals[0]
    with pytest.raises(hf_ess.InvalidInputError, match=f"(?s)cannot be met.*0.1, .* {totals[-1]}"):
        plan(report, state_budget=totals[-1] - 1)


def test_relative_tolerances(model, spectra) -> None:
    small = plan(measured(model, relative=True), tolerance=0.1)
    assert small.relative
    assert any("fractions" in remark for remark in small.remarks)
    for layer, values in zip(small.layers, spectra, strict=True):
        counts = (values > 0.1 * values[..., :1]).sum(-1)
        assert layer.size == counts.max()
        left = values[..., layer.size]
        assert (layer.error_above >= left - 1e-12).all()
        assert (layer.error_above <= 0.1 * values[..., 0] + 1e-8).all()
    sampled = plan(measured(model, relative=True, positions=5), tolerance=0.1)
    assert [layer.between for layer in sampled.layers[:3]] == [8, 8, 13]
    unknown = make_report([make_layer(0), make_layer(1, largest_singular_value=np.nan)])
    unknown.relative = True
    first, second = plan(unknown, tolerance=0.1).layers
    assert first.size is not None
    assert second.size is None
    assert "not computed" in second.reason


def test_layers_without_a_plan_say_why() -> None:
    layers = [make_layer(0, state_size=6), make_layer(1, **unverified({"state_size": 6}))]
    report = make_report(layers, unsupported=[UNSUPPORTED])
    small = plan(report, tolerance=0.1)
    known, wrong, unsupported = small.layers
    assert known.size is not None
    assert not known.reason
    assert (wrong.size, wrong.reason) == (None, "not verified: residual 3.0e-01 above 1.0e-04")
    assert (unsupported.size, unsupported.reason) == (None, "not analysed: no adapter knows it")
    text = small.summary()
    for line in (wrong.reason, unsupported.reason):
        assert line in " ".join(text.split())
    assert np.isnan(wrong.largest_error)
    assert small.sizes == {known.name: known.size}
    assert set(plan(report, state_budget=999).sizes) == {known.name}


def test_rounding_noise_is_no_certificate() -> None:
    noise = {tau: np.full((1, 2, 3), tau == TOLERANCES[-1]) for tau in TOLERANCES}
    report = make_report([make_layer(0, below_floor=noise)])
    assert plan(report, tolerance=TOLERANCES[0]).layers[0].certified
    (layer,) = plan(report, tolerance=TOLERANCES[-1]).layers
    assert not layer.certified
    assert "rounding error" in layer.remark


def test_undecided_values_count_where_no_error_is_known() -> None:
    counts = {tau: np.full((1, 2, 3), 2.0) for tau in TOLERANCES}
    near = {tau: np.array([[[0, 1, 0], [0, 0, 0]]]) for tau in TOLERANCES}
    room = {"attainable_by_group": np.full((1, 2, 3), 9.0), "tolerance_ess": counts}
    for bound, size in ((1e-13, 2), (np.nan, 3)):
        layer = make_layer(0, **room, undecided=near, error_bound=bound)
        (found,) = plan(make_report([layer]), tolerance=0.1).layers
        assert found.size == size
        assert found.by_group == (size, 2)


def test_a_mixer_that_runs_twice_needs_the_larger_state() -> None:
    sizes = {"state_size": 9}
    layers = [make_layer(0, seed=seed, call=seed, **sizes) for seed in range(4)]
    small = plan(make_report(layers), tolerance=0.1)
    assert len({layer.size for layer in small.layers}) > 1
    assert small.sizes == {layers[0].name: max(layer.size for layer in small.layers)}


def attention(counts, length: int = 64):
    """A layer of attention with tolerance-ESS by a function of the position."""
    positions = np.arange(4, length, 4)
    ess = np.array([[[counts(i) for i in positions]]], dtype=np.float64)
    layer = make_layer(
        0,
        lengths=(length,),
        positions=positions,
        groups=1,
        entropy_ess=np.ones_like(ess),
        tolerance_ess=dict.fromkeys(TOLERANCES, ess),
    )
    return make_report([layer], lengths=(length,), positions=positions)


@pytest.mark.parametrize(
    ("counts", "verdict", "said"),
    [
        (lambda i: min(i, 3), True, "at most 38% of what is attainable"),
        (lambda i: 0 * i, True, "carries nothing above the tolerance"),
        (lambda i: min(i, 64 - i), False, "needs up to 100%"),
        (lambda i: min(i, 64 - i) // 2, False, "grows along the text, from 10 to 16 in group 0"),
        (lambda i: 3 if i < 60 else 4, True, "(up to 3) than before it (up to 3)"),
    ],
)
def test_which_attention_could_become_a_recurrence(counts, verdict, said: str) -> None:
    small = plan(attention(counts), tolerance=0.1)
    (layer,) = small.layers
    assert layer.recurrence is verdict
    assert said in layer.remark
    assert small.recurrences == ((layer,) if verdict else ())
    assert not small.sizes
    assert ("1 layer of growing state could become a recurrence: " in small.summary(200)) == verdict


def test_short_texts_say_nothing_about_attention() -> None:
    (layer,) = plan(attention(lambda i: min(i, 1), length=12), tolerance=0.1).layers
    assert layer.recurrence is None
    assert "too short" in layer.remark


def test_plans_survive_json(model) -> None:
    report = measured(model, positions=[4, 13])
    for small in (plan(report, tolerance=0.1), plan(report, state_budget=400, length=1000)):
        again = ReductionPlan.from_json(small.to_json())
        assert again.to_json() == small.to_json()
        assert again.summary() == small.summary()
        assert again.sizes == small.sizes
        for one, other in zip(again.layers, small.layers, strict=True):
            np.testing.assert_array_equal(one.error_above, other.error_above)
            assert one.by_group == other.by_group
    assert small.length == 1000
    ragged = plan(make_report(2, lengths=(12, 7)), tolerance=0.1)
    again = ReductionPlan.from_json(ragged.to_json())
    assert np.isnan(again.layers[0].error_above[1, :, 2]).all()
    other = json.loads(small.to_json()) | {"format": 99}
    for wrong in ("", "[]", "{}", json.dumps(other), small.to_json().replace("mixer", "mxr")):
        with pytest.raises(hf_ess.InvalidInputError, match="This is no plan"):
            ReductionPlan.from_json(wrong)


def test_tables(model) -> None:
    small = plan(measured(model), tolerance=0.1)
    frame = small.to_pandas()
    assert frame["name"].tolist() == [f"layers.{i}.mixer" for i in range(4)]
    assert frame["size"].tolist() == [layer.size for layer in small.layers]
    groups = small.to_pandas("group")
    assert len(groups) == 2 + 2 + 16 + 2
    assert groups.groupby("layer")["size"].max().tolist() == [
        max(layer.by_group) for layer in small.layers
    ]
    with pytest.raises(hf_ess.InvalidInputError, match="no level 'block'"):
        small.to_pandas("block")
    for width in (60, 120):
        lines = small.summary(width).splitlines()
        assert max(map(len, lines)) <= width
        assert "tolerance 0.1" in " ".join(lines[:2])
    assert "512 ->" in small.summary()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({}, hf_ess.InvalidInputError, "either a tolerance or a state_budget"),
        ({"tolerance": 0.1, "state_budget": 9}, hf_ess.InvalidInputError, "either a tolerance"),
        ({"tolerance": 0.2}, hf_ess.InvalidInputError, "(?s)no metric 0.2.*0.1, 0.001, 1e-05"),
        ({"tolerance": "entropy"}, hf_ess.InvalidInputError, "Only a tolerance"),
        ({"state_budget": 0}, hf_ess.InvalidInputError, "state_budget must be at least 1, got 0"),
        ({"state_budget": 5.0}, hf_ess.InvalidTypeError, "state_budget must be a whole number"),
        ({"state_budget": 50}, hf_ess.InvalidInputError, "(?s)No layer has a state of fixed size"),
        ({"tolerance": 0.1, "length": -1}, hf_ess.InvalidInputError, "length must be at least 1"),
    ],
)
def test_wrong_arguments(arguments, error, said: str) -> None:
    with pytest.raises(error, match=said):
        plan(make_report(), **arguments)


def test_reports_that_cannot_be_planned_with() -> None:
    with pytest.raises(hf_ess.InvalidInputError, match="windowed report"):
        plan(make_report(window=(4, 4)), tolerance=0.1)
    for scope in ("mixer", "jacobian"):
        with pytest.raises(hf_ess.InvalidInputError, match=f"of scope '{scope}'"):
            plan(make_report(scope=scope), tolerance=0.1)
    with pytest.raises(hf_ess.ReportError, match="No layer of this report is verified"):
        plan(make_report([make_layer(0, **unverified())]), tolerance=0.1)
    with pytest.raises(hf_ess.InvalidTypeError, match="needs an ESSReport, got str"):
        plan("report", tolerance=0.1)
    cut = make_report(complete=False, incomplete_reason="interrupted")
    assert "incomplete (interrupted)" in plan(cut, tolerance=0.1).summary()


def test_no_head_hides_that_another_grows() -> None:
    length, positions = 64, np.arange(4, 64, 4)
    constant, growing = np.minimum(positions // 2, 9), positions // 4
    counts = np.array([[constant, np.minimum(growing, 9)]], dtype=np.float64)
    layer = make_layer(
        0,
        lengths=(length,),
        positions=positions,
        groups=2,
        entropy_ess=np.ones_like(counts),
        tolerance_ess=dict.fromkeys(TOLERANCES, np.minimum(counts, (length - positions) // 2)),
    )
    report = make_report([layer], lengths=(length,), positions=positions)
    small = plan(report, tolerance=0.1)
    assert small.layers[0].recurrence is False
    assert "from 5 to 9 in group 1" in small.layers[0].remark


def test_heads_that_share_values_are_not_said_to_cache_them_all() -> None:
    small = plan(attention(lambda i: min(i, 3)), tolerance=0.1)
    words = " ".join(small.summary(200).split())
    assert "1 layer of growing state could become a recurrence: values for every channel" in words
    assert "heads that share them keep fewer" in words
