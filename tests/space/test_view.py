"""A view says of a report what the report says, at every threshold."""

from __future__ import annotations

import base64
import json
import time
import warnings

import numpy as np
import pytest
import torch
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified
from space.measured import spectral_layer, spectral_report
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess.errors import InvalidInputError
from hf_ess.report.publication import published
from hf_ess.space.view import cell, view


def counts_in(shown):
    """The counts of a layer of a view `[P, T]`."""
    flat = np.frombuffer(base64.b64decode(shown["counts"]), f"<{shown['countsType']}")
    return flat.reshape(len(shown["entropy"]), -1)


def slow_counts(layer, thresholds, *, relative=False):
    """The same by loops over everything, `[P, T]`."""
    counts = np.zeros((len(layer.positions), len(thresholds)))
    for p in range(len(layer.positions)):
        for t, threshold in enumerate(thresholds):
            texts = []
            for text in range(layer.samples):
                blocks = layer.singular_values[text, :, p].astype(np.float64)
                if np.isnan(blocks).any():
                    continue
                largest = layer.largest_singular_value[text, :, p]
                least = threshold * largest if relative else np.full(len(blocks), threshold)
                texts.append(sum((block > x).sum() for block, x in zip(blocks, least, strict=True)))
            counts[p, t] = np.mean(texts) if texts else 0
    return counts


@pytest.fixture(scope="module")
def measured():
    """A report of a real measurement, with its singular values."""
    model = build_tiny("llama")
    ids = tiny_input_ids(model, length=37)
    return hf_ess.analyze(model, ids, positions="all", keep_singular_values=True, progress=False)


def test_counts_are_those_of_a_slow_count():
    report = spectral_report()
    drawn = view(report)
    assert drawn["spectra"] is True
    for shown, layer in zip(drawn["layers"], report.layers, strict=True):
        assert shown["countsType"] == "u4"
        np.testing.assert_array_equal(counts_in(shown), slow_counts(layer, drawn["thresholds"]))


@pytest.mark.parametrize("values", [1, 3, 70, 200])
@pytest.mark.parametrize("relative", [False, True])
def test_counts_do_not_depend_on_how_many_values_a_block_has(values, relative):
    report = spectral_report(2, lengths=(40, 12), values=values, relative=relative)
    drawn = view(report)
    for shown, layer in zip(drawn["layers"], report.layers, strict=True):
        slow = slow_counts(layer, drawn["thresholds"], relative=relative)
        np.testing.assert_array_equal(counts_in(shown), slow)


def test_thresholds_are_ten_a_decade_with_the_tolerances_among_them():
    drawn = view(spectral_report())
    thresholds = drawn["thresholds"]
    assert len(thresholds) == 71
    assert (thresholds[0], thresholds[-1]) == (10.0, 1e-6)
    assert set(TOLERANCES) <= set(thresholds)
    np.testing.assert_allclose(np.diff(np.log10(thresholds)), -0.1, atol=1e-12)


def test_a_tolerance_off_the_grid_is_added():
    layer = spectral_layer(0, lengths=(40,), positions=(4, 9), groups=2)
    layer.tolerance_ess = {0.003: layer.tolerance_ess[1e-3]}
    for name in ("undecided", "below_floor"):
        setattr(layer, name, {0.003: getattr(layer, name)[1e-3]})
    report = make_report([layer], lengths=(40,), positions=(4, 9), tolerances=(0.003,))
    thresholds = view(report)["thresholds"]
    assert len(thresholds) == 72
    assert 0.003 in thresholds
    assert thresholds == sorted(thresholds, reverse=True)


def test_counts_at_the_tolerances_are_those_of_the_report(measured):
    drawn = view(measured)
    for shown, layer in zip(drawn["layers"], measured.layers, strict=True):
        counts = counts_in(shown)
        for tolerance in measured.tolerances:
            column = counts[:, drawn["thresholds"].index(tolerance)]
            expected = layer.tolerance_ess[tolerance].sum(axis=1)[0]
            np.testing.assert_array_equal(column, expected)
        assert (np.diff(counts.astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("llama", {"window": (6, 9)}),
        ("llama", {"relative": True}),
        ("llama", {"relative": True, "window": 5, "tolerances": [0.25, 1e-4]}),
        ("mamba", {}),
        ("jamba", {"scope": "mixer"}),
        ("llama", {"tolerances": [1e-1, 1e-15]}),
    ],
    ids=str,
)
def test_every_kind_of_measurement_is_counted_as_it_was(model_type, options):
    model = build_tiny(model_type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = hf_ess.analyze(
            model, tiny_input_ids(model, length=29), positions="all",
            keep_singular_values=True, progress=False, **options,
        )  # fmt: skip
    drawn = view(report)
    json.dumps(drawn, allow_nan=False)
    assert drawn["scope"] == report.scope
    assert len(report.verified_layers) == 2
    for shown, layer in zip(drawn["layers"], report.layers, strict=True):
        counts = counts_in(shown)
        present = [entropy is not None for entropy in shown["entropy"]]
        assert present == (~np.isnan(layer.entropy_ess[0, 0])).tolist()
        for tolerance in report.tolerances:
            column = counts[present, drawn["thresholds"].index(tolerance)]
            expected = layer.tolerance_ess[tolerance].sum(axis=1)[0, present]
            np.testing.assert_array_equal(column, expected)
            below = layer.below_floor[tolerance].any(axis=1)[0]
            scale = np.array([np.inf if x is None else x for x in shown["floor"]])
            np.testing.assert_array_equal((tolerance <= scale)[present], below[present])
        slow = slow_counts(layer, drawn["thresholds"], relative=report.relative)
        others = [t not in report.tolerances for t in drawn["thresholds"]]
        np.testing.assert_array_equal(counts[:, others], slow[:, others])


def test_a_value_that_float32_rounds_across_the_tolerance_counts_as_measured():
    layer = spectral_layer(0, lengths=(9,), positions=(4,), groups=1, values=3)
    layer.singular_values[:] = [0.5, 0.1, 0.0]  # the last but one was 0.1 - 1e-12 in float64
    layer.tolerance_ess[0.1][:] = 1
    assert np.float64(np.float32(0.1)) > 0.1
    drawn = view(make_report([layer], lengths=(9,), positions=(4,)))
    counts = counts_in(drawn["layers"][0])[0]
    at = drawn["thresholds"].index(0.1)
    assert counts[at - 1 : at + 2].tolist() == [1, 1, 2]


def test_means_are_those_of_the_report(measured):
    drawn = view(measured)
    frame = measured.to_pandas("position").groupby("name", sort=False)
    for shown, (_, rows) in zip(drawn["layers"], frame, strict=True):
        assert shown["entropy"] == rows["average_entropy_ess"].tolist()
        assert shown["attainable"] == rows["attainable"].tolist()
        assert shown["capacity"] == rows["capacity"].tolist()
        total = np.array(shown["entropy"]) * shown["channels"]
        np.testing.assert_allclose(total, rows["total_entropy_ess"], rtol=1e-15)
    assert drawn["positions"] == measured.positions.tolist()
    by_group = measured.to_pandas("group")["average_entropy_ess"]
    assert [x for shown in drawn["layers"] for x in shown["groupEntropy"]] == by_group.tolist()


def test_the_total_of_the_model_is_that_of_the_paper(measured):
    drawn = view(measured)
    rows = [np.array(shown["entropy"]) * shown["channels"] for shown in drawn["layers"]]
    expected = measured.total_ess_by_position("entropy")
    np.testing.assert_allclose(np.mean(rows, axis=0), expected, rtol=1e-14)


def test_texts_of_different_length_are_averaged_over_those_that_reach_a_position():
    report = spectral_report(lengths=(40, 12, 25))
    drawn = view(report)
    assert (drawn["samples"], drawn["length"], drawn["tokens"]) == (3, 40, None)
    assert "3 texts" in drawn["notes"][0]
    for shown, layer in zip(drawn["layers"], report.layers, strict=True):
        assert shown["countsType"] == "f4"
        slow = slow_counts(layer, drawn["thresholds"])
        np.testing.assert_allclose(counts_in(shown), slow, rtol=1e-6)
        column = report.to_pandas("position").query("name == @layer.name")
        assert shown["entropy"] == column["average_entropy_ess"].tolist()


def test_relative_thresholds_are_fractions_of_the_largest_value():
    report = spectral_report(relative=True)
    drawn = view(report)
    assert drawn["relative"] is True
    assert (drawn["thresholds"][0], len(drawn["thresholds"])) == (1.0, 61)
    for shown, layer in zip(drawn["layers"], report.layers, strict=True):
        slow = slow_counts(layer, drawn["thresholds"], relative=True)
        np.testing.assert_array_equal(counts_in(shown), slow)
        floor = (layer.error_bound / layer.largest_singular_value).max(axis=(0, 1))
        assert shown["floor"] == floor.tolist()


def test_the_floor_is_the_largest_error_at_a_position():
    report = spectral_report(lengths=(40, 12))
    for shown, layer in zip(view(report)["layers"], report.layers, strict=True):
        assert shown["floor"] == np.nanmax(layer.error_bound, axis=(0, 1)).tolist()


def test_without_singular_values_only_the_tolerances_are_counted():
    report = make_report(2, lengths=(12, 7))
    drawn = view(report)
    assert drawn["spectra"] is False
    assert drawn["thresholds"] == [0.1, 0.001, 1e-05]
    assert any("not kept" in note for note in drawn["notes"])
    for shown, layer in zip(drawn["layers"], report.layers, strict=True):
        expected = [np.nanmean(layer.tolerance_ess[t].sum(axis=1), axis=0) for t in TOLERANCES]
        np.testing.assert_allclose(counts_in(shown), np.transpose(expected), rtol=1e-6)


def test_an_unverified_layer_has_no_numbers():
    layers = [make_layer(0), make_layer(1, **unverified())]
    drawn = view(make_report(layers, unsupported=[UNSUPPORTED]))
    good, bad = drawn["layers"]
    assert not bad["verified"]
    assert bad["reason"] == "residual 3.0e-01 above 1.0e-04"
    for name in ("entropy", "capacity", "attainable", "floor", "groupEntropy"):
        assert all(value is None for value in bad[name]), name
        assert len(bad[name]) == len(good[name])
    assert not counts_in(bad).any()
    assert bad["residual"] is not None
    assert drawn["proof"]["verified"] == 1
    assert drawn["proof"]["largestResidual"] == good["residual"]
    assert drawn["unsupported"] == [
        {"name": "model.layers.9.mlstm", "mixer": "mlstm", "reason": "no adapter knows it"}
    ]


def test_windows_and_incomplete_reports_say_so():
    report = make_report(1, window=(4, 8), complete=False, incomplete_reason="interrupted")
    drawn = view(report)
    assert drawn["window"] == [4, 8]
    assert drawn["complete"] is False
    assert drawn["notes"][0] == "Incomplete: interrupted."


def test_positions_where_no_window_fits_are_not_filled_in():
    layer = make_layer(0)
    entropy = layer.entropy_ess.copy()
    entropy[:, :, 0] = np.nan
    gap = make_layer(0, entropy_ess=entropy)
    shown = view(make_report([gap], window=(4, 4)))["layers"][0]
    assert shown["entropy"][0] is None
    assert shown["attainable"][0] is None
    assert shown["entropy"][1] is not None


def test_a_report_without_its_text_says_so():
    drawn = view(published(spectral_report()))
    assert drawn["tokens"] is None
    assert drawn["separators"] == []
    assert any("text is not part" in note for note in drawn["notes"])


def test_tokens_stay_as_they_are_and_names_are_made_visible():
    report = spectral_report(1, lengths=(4,), positions=(2,))
    report.samples[0].tokens = ["<script>", "\u05d0", "a\u200d\ud800", ".\n"]
    report.provenance["model"] = "evil\u202eledom"
    drawn = view(report, key="abc")
    assert drawn["tokens"] == ["<script>", "\u05d0", "a\u200d?", ".\n"]
    assert drawn["separators"] == [3]
    assert drawn["model"]["name"] == drawn["title"] == "evil\\u202eledom"
    assert drawn["key"] == "abc"


@pytest.mark.parametrize("relative", [False, True])
def test_a_view_is_json(relative):
    report = spectral_report(lengths=(40, 9), relative=relative)
    again = json.loads(json.dumps(view(report), allow_nan=False))
    assert again == view(report)


def test_a_cell_is_the_spectrum_that_was_kept(measured):
    layer = measured.layers[1]
    position = int(layer.positions[11])
    shown = cell(measured, 1, position)
    assert (shown["layer"], shown["position"]) == (1, position)
    assert [group["group"] for group in shown["groups"]] == list(range(layer.groups))
    for group in shown["groups"]:
        kept = layer.singular_values[0, group["group"], 11]
        assert group["values"] == [float(value) for value in kept if value > 0]
        assert group["entropy"] == layer.entropy_ess[0, group["group"], 11]
        assert group["errorBound"] == layer.error_bound[0, group["group"], 11]
        assert sum(value > 1e-3 for value in group["values"]) == pytest.approx(
            layer.tolerance_ess[1e-3][0, group["group"], 11]
        )


def test_a_cell_shows_the_first_text_that_reaches_it():
    report = spectral_report(lengths=(12, 40))
    shown = cell(report, 0, 33)
    kept = report.layers[0].singular_values[1, 2, -1]
    assert shown["groups"][2]["values"] == [float(value) for value in kept if value > 0]


def test_cells_that_do_not_exist_are_refused(measured):
    with pytest.raises(InvalidInputError, match="There is no layer 9"):
        cell(measured, 9, 3)
    with pytest.raises(InvalidInputError, match="There is no layer -1"):
        cell(measured, -1, 3)
    with pytest.raises(InvalidInputError, match="Position 99 was not measured"):
        cell(measured, 0, 99)
    with pytest.raises(InvalidInputError, match="no singular values"):
        cell(make_report(), 0, 5)


def test_a_report_without_anything_is_drawn():
    drawn = view(make_report(0, samples=[]))
    assert (drawn["length"], drawn["samples"], drawn["layers"]) == (0, 0, [])
    assert drawn["tokens"] is None
    json.dumps(drawn, allow_nan=False)


@pytest.mark.parametrize("number", [np.inf, -np.inf, -1e300, 1e300])
def test_impossible_numbers_from_elsewhere_do_not_break_the_page(number):
    layer = spectral_layer(0, lengths=(40,), positions=(4, 9), groups=2)
    names = ("entropy_ess", "capacity", "attainable_by_group", "error_bound", "residual")
    for name in (*names, "entropy_half_width", "largest_singular_value"):
        getattr(layer, name)[:] = number
    for counts in layer.tolerance_ess.values():
        counts[:] = number
    layer.singular_values[..., :2] = number if abs(number) == np.inf else 1e30
    for relative in (False, True):
        report = make_report([layer], lengths=(40,), positions=(4, 9), relative=relative)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what numpy says of such numbers
            json.dumps([view(report), cell(report, 0, 4)], allow_nan=False)
            assert counts_in(view(report)["layers"][0]).shape[0] == 2


def test_a_large_report_is_ready_in_a_moment():
    positions = range(1, 513)
    made = spectral_layer(0, lengths=(1024,), positions=positions, groups=9, values=256)
    report = make_report([made] * 30, lengths=(1024,), positions=positions)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.process_time()
    drawn = view(report)
    spent = time.process_time() - began
    torch.set_num_threads(threads)
    assert len(drawn["layers"]) == 30
    # 30 layers, 9 heads, 512 positions, 256 values; a busy machine gets twice the time.
    assert spent < 4
