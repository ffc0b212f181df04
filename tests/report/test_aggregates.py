"""Every average against loops over single numbers."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified

from hf_ess.errors import InvalidInputError


@pytest.fixture
def report():
    """Layers of unequal channels, samples of unequal length, one layer unverified."""
    common = {"lengths": (12, 7, 5), "positions": (2, 4, 6, 9)}
    layers = [
        make_layer(0, groups=2, multiplicity=4, **common),
        make_layer(1, groups=3, multiplicity=1, state_size=4, mixer="mamba", **common),
        make_layer(2, groups=1, multiplicity=7, **common, **unverified()),
        make_layer(3, groups=1, multiplicity=5, **common),
    ]
    return make_report(layers, **common)


def channels(report, metric, of=lambda layer, metric: layer.values(metric)):
    """Every number of the report as (layer, channel, sample, position number, value)."""
    for number, layer in enumerate(report.layers):
        if not layer.verified:
            continue
        values = of(layer, metric)
        for sample, info in enumerate(report.samples):
            for group in range(layer.groups):
                for channel in range(layer.multiplicity):
                    for p, position in enumerate(report.positions):
                        if position < info.length:
                            yield number, (group, channel), sample, p, values[sample, group, p]


def slow_total(report, metric, number):
    """Sum over channels, then mean over the pairs of sample and position."""
    sums = {}
    for n, _, sample, p, value in channels(report, metric):
        if n == number:
            sums[sample, p] = sums.get((sample, p), 0.0) + value
    return statistics.fmean(sums.values())


@pytest.mark.parametrize("metric", ["entropy", *TOLERANCES])
def test_average(report, metric):
    expected = statistics.fmean(value for *_, value in channels(report, metric))
    assert report.average_ess(metric) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("metric", ["entropy", *TOLERANCES])
def test_totals(report, metric):
    totals = [slow_total(report, metric, number) for number in (0, 1, 3)]
    assert report.total_ess(metric) == pytest.approx(statistics.fmean(totals), rel=1e-13)
    assert report.total_ess(metric, layers="sum") == pytest.approx(sum(totals), rel=1e-13)


def test_total_is_average_times_channels(report):
    mean_channels = statistics.fmean([8, 3, 5])
    assert report.total_ess() == pytest.approx(report.average_ess() * mean_channels, rel=1e-13)


def test_totals_by_position(report):
    expected = []
    for p in range(4):
        layers = {}
        for number, _, sample, q, value in channels(report, 0.1):
            if q == p:
                layers.setdefault(number, {}).setdefault(sample, []).append(value)
        expected.append(
            [statistics.fmean(sum(v) for v in samples.values()) for samples in layers.values()]
        )
    means = [statistics.fmean(rows) for rows in expected]
    sums = [sum(rows) for rows in expected]
    assert report.total_ess_by_position(0.1) == pytest.approx(means, rel=1e-13)
    assert report.total_ess_by_position(0.1, layers="sum") == pytest.approx(sums, rel=1e-13)


def test_utilization(report):
    ratios = [
        value
        for *_, value in channels(report, 0.1, lambda x, metric: x.values(metric) / x.capacity)
    ]
    assert report.utilization(0.1) == pytest.approx(statistics.fmean(ratios), rel=1e-13)


def test_blocks_without_capacity_have_no_utilization():
    layer = make_layer(capacity=[[[0, 5, 9]]])
    expected = (layer.entropy_ess[0, :, 1:] / [5, 9]).mean()
    assert make_report([layer]).utilization() == pytest.approx(expected)
    assert math.isnan(make_report([make_layer(capacity=0)]).utilization())


def test_standard_error_with_equal_lengths_is_that_of_the_sample_means():
    report = make_report(2, lengths=(12, 12, 12))
    means = []
    for sample in range(3):
        values = [v for *_, s, _, v in channels(report, "entropy") if s == sample]
        means.append(statistics.fmean(values))
    expected = statistics.stdev(means) / math.sqrt(3)
    assert report.standard_error() == pytest.approx(expected, rel=1e-12)


def test_standard_error_with_unequal_lengths_is_that_of_a_ratio(report):
    by_sample = {}
    for *_, sample, _, value in channels(report, "entropy"):
        by_sample.setdefault(sample, []).append(value)
    average, count = report.average_ess(), len(by_sample)
    deviations = [sum(values) - len(values) * average for values in by_sample.values()]
    size = sum(len(values) for values in by_sample.values())
    expected = math.sqrt(count / (count - 1) * sum(d**2 for d in deviations)) / size
    assert report.standard_error() == pytest.approx(expected, rel=1e-12)


def test_standard_error_of_one_sample_is_nan():
    assert math.isnan(make_report().standard_error())
    # The second sample is too short for any position, so that there is still one.
    assert math.isnan(make_report(lengths=(12, 2)).standard_error())


def test_positions_that_no_sample_reaches_are_nan():
    report = make_report(lengths=(7, 5), positions=(2, 6, 9))
    assert np.isnan(report.total_ess_by_position()).tolist() == [False, False, True]
    assert math.isfinite(report.average_ess())


def test_unknown_metric_lists_the_choices(report):
    for call in (report.average_ess, report.total_ess, report.utilization, report.standard_error):
        with pytest.raises(InvalidInputError, match=r"'entropy', 0.1, 0.001, 1e-05"):
            call(0.2)
    with pytest.raises(InvalidInputError, match="'mean' or 'sum'"):
        report.total_ess(layers="max")


def test_layer_frame(report):
    frame = report.to_pandas()
    assert frame["verified"].tolist() == [True, True, False, True]
    assert frame["total_entropy_ess"].iloc[1] == pytest.approx(slow_total(report, "entropy", 1))
    assert np.isnan(frame["average_entropy_ess"].iloc[2])
    assert np.isnan(frame["state_size"].iloc[0])
    assert frame["state_size"].iloc[1] == 4
    assert frame["residual"].iloc[2] == report.layers[2].residual.max()
    used = frame[frame.verified]
    weights = used.groups * used.multiplicity
    mean = np.average(used["average_tolerance_ess_0.1"], weights=weights)
    assert mean == pytest.approx(report.average_ess(0.1))


def test_group_frame(report):
    frame = report.to_pandas("group")
    assert len(frame) == 2 + 3 + 1 + 1
    layer = report.layers[1]
    row = frame[(frame["index"] == 1) & (frame.group == 2)].iloc[0]
    assert row["average_entropy_ess"] == pytest.approx(np.nanmean(layer.entropy_ess[:, 2]))
    assert row["attainable"] == pytest.approx(np.nanmean(layer.attainable_by_group[:, 2]))


def test_position_frame(report):
    frame = report.to_pandas("position")
    assert len(frame) == 4 * 4
    by_position = frame.groupby("position")["total_tolerance_ess_0.1"].mean()
    assert by_position.to_numpy() == pytest.approx(report.total_ess_by_position(0.1))


def test_unknown_level(report):
    with pytest.raises(InvalidInputError, match="layer, group, position"):
        report.to_pandas("head")


def test_flags_are_shares_of_blocks():
    below = np.array([[[True, False, True], [False, False, False]]])
    layer = make_layer(
        below_floor={tau: below & (tau < 1e-4) for tau in TOLERANCES},
        undecided=dict.fromkeys(TOLERANCES, 2.0 * below),
    )
    row = make_report([layer]).to_pandas().iloc[0]
    assert row["below_floor_tolerance_ess_1e-05"] == pytest.approx(1 / 3)
    assert row["below_floor_tolerance_ess_0.1"] == 0
    assert row["undecided_tolerance_ess_0.1"] == pytest.approx(1 / 3)


def test_windowed_and_relative_show_in_every_name():
    report = make_report(window=(64, 32), relative=True)
    assert report.metric_label("entropy") == "windowed entropy-ESS, window 64x32"
    assert report.metric_label(0.1) == "windowed relative tolerance-ESS(0.1), window 64x32"
    for level in ("layer", "group", "position"):
        names = [name for name in report.to_pandas(level).columns if "_ess" in name]
        assert names
        assert all("windowed" in name and "window_64x32" in name for name in names)
        assert all("relative" in name for name in names if "tolerance" in name)


def test_dictionary_is_json(report):
    report.unsupported.append(UNSUPPORTED)
    numbers = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert numbers["model"]["entropy-ESS"]["average_per_channel"] == report.average_ess()
    assert numbers["layers"][2]["average_entropy_ess"] is None
    assert numbers["unsupported"][0]["name"] == UNSUPPORTED.name
