"""Comparisons against numbers computed by hand, or by numpy on a fine grid."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified

import hf_ess
from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.report import UnsupportedLayer

AVERAGE = "average per channel"


def hand_layer(index, entropy, counts=None, **changes):
    """A layer of 2 groups of 4 channels, positions 2, 5, 9, and counts at every tolerance."""
    entropy = np.asarray(entropy, dtype=float)
    counts = np.ceil(entropy) if counts is None else np.asarray(counts, dtype=float)
    fields = {"entropy_ess": entropy, "tolerance_ess": dict.fromkeys(TOLERANCES, counts)}
    return make_layer(index, **(fields | changes))


def level_layers(values, **changes):
    """One layer for each value, which is its entropy-ESS everywhere; None for an unverified one."""
    return [
        hand_layer(i, np.full((1, 2, 3), 1.0 if value is None else value), **changes)
        if value is not None
        else make_layer(i, **unverified())
        for i, value in enumerate(values)
    ]


def numbers(comparison, level, column, quantity=AVERAGE, metric="entropy"):
    frame = comparison.to_pandas(level, metric)
    return frame[frame["quantity"] == quantity][column].tolist()


@pytest.fixture
def pair():
    """Averages 3 and 7.5 per channel; capacities are the positions, 2, 5 and 9."""
    one = make_report([hand_layer(0, [[[1, 2, 3], [3, 4, 5]]])])
    other = make_report([hand_layer(0, [[[6, 7, 8], [7, 8, 9]]], multiplicity=10)])
    return hf_ess.compare([one, other], names=["one", "other"])


def test_numbers_of_the_model(pair):
    frame = pair.to_pandas("model", "entropy").set_index("quantity")
    assert frame.loc[AVERAGE, ["value one", "value other"]].tolist() == [3.0, 7.5]
    assert frame.loc[AVERAGE, ["difference other", "ratio other"]].tolist() == [4.5, 2.5]
    # 4 channels each of 4, 6, 8; 10 channels each of 13, 15, 17.
    assert frame.loc["total, mean of layers", "value one"] == pytest.approx(24)
    assert frame.loc["total, sum of layers", "difference other"] == pytest.approx(150 - 24)
    shares = [(1 / 2 + 2 / 5 + 3 / 9 + 3 / 2 + 4 / 5 + 5 / 9) / 6]
    shares += [(6 / 2 + 7 / 5 + 8 / 9 + 7 / 2 + 8 / 5 + 9 / 9) / 6]
    assert frame.loc["utilization", ["value one", "value other"]].tolist() == pytest.approx(shares)
    assert frame.loc["utilization", "ratio other"] == pytest.approx(shares[1] / shares[0])


def test_facts_that_are_numbers():
    layers = [make_layer(0), make_layer(1, **unverified()), make_layer(2, state_size=4)]
    both = [make_report(layers, unsupported=[UNSUPPORTED]), make_report(1)]
    frame = hf_ess.compare(both, names=["a", "b"]).to_pandas("model").set_index("quantity")
    assert frame.loc["verified layers", ["value a", "value b"]].tolist() == [2, 1]
    assert frame.loc["not verified", "value a"] == frame.loc["unsupported", "value a"] == 1
    # Of 2, 5, 9 and of 2, 4, 4; attainable are 2, 5, 3 and 2, 4, 3.
    assert frame.loc["capacity per channel", "value a"] == pytest.approx((16 + 10) / 6)
    assert frame.loc["attainable per channel", "value a"] == pytest.approx((10 + 9) / 6)


@pytest.mark.parametrize("level", ["model", "layer", "depth", "position"])
@given(seed=st.integers(0, 10**6), lengths=st.lists(st.integers(6, 20), min_size=1, max_size=3))
def test_a_report_compared_with_itself(level, seed, lengths):
    report = make_report(3, lengths=(20, *lengths), seed=seed)
    frame = hf_ess.compare([report, report], names=["a", "b"]).to_pandas(level)
    assert (frame["difference b"] == 0).all()
    assert (frame.loc[frame["value a"] != 0, "ratio b"] == 1).all()
    assert frame["value a"].notna().all()
    assert frame["decided b"].all()


@pytest.mark.parametrize("level", ["model", "layer", "depth", "position"])
def test_other_orders_only_exchange_columns(level):
    reports = {name: make_report(n, seed=n) for name, n in (("a", 2), ("b", 3), ("c", 5))}
    there = hf_ess.compare(list(reports.values()), names=list(reports)).to_pandas(level)
    names = ["c", "a", "b"]
    back = hf_ess.compare([reports[name] for name in names], names=names).to_pandas(level)
    for name in names:
        assert there[f"value {name}"].equals(back[f"value {name}"])
        assert there[f"half width {name}"].equals(back[f"half width {name}"])
    assert np.allclose(there["difference c"], -back["difference a"], equal_nan=True)
    product = there["ratio c"] * back["ratio a"]
    assert np.allclose(product[product.notna()], 1)


def test_layers_stand_side_by_side_by_their_number():
    one = make_report(level_layers([2.0, 3.0]))
    two = hand_layer(1, np.full((1, 2, 3), 4.0), mixer="mamba")
    again = hand_layer(1, np.full((1, 2, 3), 5.0), call=1)
    last = hand_layer(-1, np.full((1, 2, 3), 6.0))
    gone = make_layer(3, **unverified())
    frame = hf_ess.compare(
        [one, make_report([two, again, gone, last])], names=["a", "b"]
    ).to_pandas("layer", "entropy")
    frame = frame[frame["quantity"] == AVERAGE]
    assert frame["layer"].tolist() == ["0", "1", "1 (2)", "3", "unnumbered 1"]
    nan = pytest.approx(math.nan, nan_ok=True)
    assert frame["value a"].tolist() == [2.0, 3.0, nan, nan, nan]
    assert frame["value b"].tolist() == [nan, 4.0, 5.0, nan, 6.0]
    assert frame["difference b"].tolist() == [nan, 1.0, nan, nan, nan]
    assert frame["decided b"].tolist() == [None, True, None, None, None]
    assert frame["mixer b"].tolist()[1:3] == ["mamba", "softmax attention"]


def test_twelve_and_thirty_layers_by_depth():
    random = np.random.default_rng(0)
    few, many = random.uniform(1, 2, 12), random.uniform(1, 2, 30)
    reports = [make_report(level_layers(values)) for values in (few, many)]
    comparison = hf_ess.compare(reports, names=["few", "many"])
    # 60 cells: 5 for each of 12 layers, 2 for each of 30.
    fine = np.repeat(many, 2).reshape(12, 5).mean(axis=1)
    assert numbers(comparison, "depth", "value few") == pytest.approx(few)
    assert numbers(comparison, "depth", "value many") == pytest.approx(fine)
    assert numbers(comparison, "depth", "difference many") == pytest.approx(fine - few)
    assert numbers(comparison, "depth", "depth") == pytest.approx((np.arange(12) + 0.5) / 12)
    # What is spread over parts of the depth adds up again.
    assert np.mean(numbers(comparison, "depth", "value many")) == pytest.approx(many.mean())


def test_depth_leaves_the_place_of_what_was_not_measured():
    gap = UnsupportedLayer("model.layers.1.mixer", 1, "unknown", "no adapter knows it")
    first, second, third = level_layers([1.0, None, 3.0])
    for second_index in (2, 3):
        second.index, third.index = second_index, second_index + 1
        report = make_report([first, second, third], unsupported=[gap, gap])
        whole = make_report(level_layers([5.0, 6.0, 7.0, 8.0]))
        comparison = hf_ess.compare([report, whole], names=["a", "b"])
        nan = pytest.approx(math.nan, nan_ok=True)
        assert numbers(comparison, "depth", "value a") == [1.0, nan, nan, 3.0]
        assert numbers(comparison, "depth", "value b") == [5.0, 6.0, 7.0, 8.0]


def test_channels_count_in_a_part_of_the_depth_as_in_averages():
    wide = hand_layer(0, np.full((1, 2, 3), 1.0), multiplicity=6)
    narrow = hand_layer(1, np.full((1, 2, 3), 5.0), multiplicity=2)
    reports = [make_report(level_layers([2.0])), make_report([wide, narrow])]
    comparison = hf_ess.compare(reports, names=["a", "b"])
    assert numbers(comparison, "depth", "value b") == [pytest.approx((12 * 1 + 4 * 5) / 16)]
    totals = numbers(comparison, "depth", "value b", quantity="total over channels")
    assert totals == [pytest.approx((12 * 1 + 4 * 5) / 2)]
    assert reports[1].average_ess() == pytest.approx(2.0)


def test_totals_by_position(pair):
    frame = pair.to_pandas("position", "entropy")
    assert frame["position"].tolist() == [2, 5, 9]
    assert frame["value one"].tolist() == [16, 24, 32]
    assert frame["value other"].tolist() == [130, 150, 170]
    assert frame["ratio other"].tolist() == [130 / 16, 150 / 24, 170 / 32]


def test_a_difference_within_the_certified_intervals_is_not_decided():
    def certified(value, width):
        return make_report(level_layers([value], entropy_half_width=width))

    reports = [certified(4.0, 0.01), certified(4.07, 0.01), certified(4.09, 0.01)]
    frame = hf_ess.compare(reports, names=["a", "b", "c"]).to_pandas("model", "entropy")
    average = frame.set_index("quantity").loc[AVERAGE]
    assert average[["half width a", "half width b"]].tolist() == pytest.approx([0.04, 0.0407])
    assert not average["decided b"]
    assert average["decided c"]
    totals = frame.set_index("quantity").loc["total, sum of layers"]
    assert totals["half width a"] == pytest.approx(8 * 0.04)
    utilization = frame.set_index("quantity").loc["utilization"]
    assert utilization["half width a"] == pytest.approx(0.04 * (1 / 2 + 1 / 5 + 1 / 9) / 3)
    text = hf_ess.compare(reports, names=["a", "b", "c"]).summary()
    assert "+0.07≈" in text
    assert "+0.09 " in text
    assert "≈ the difference is smaller" in text
    assert "±0.04" in text


def test_counts_that_may_be_off_decide_nothing():
    grid = np.zeros((1, 2, 3))
    grid[0, 0, 0] = 3.0
    counts = np.full((1, 2, 3), 2.0)
    plain = make_report([hand_layer(0, counts)])
    changed = np.array(counts)
    changed[0, 0, 0] = 5.0
    unsure = make_report(
        [hand_layer(0, counts, changed, undecided=dict.fromkeys(TOLERANCES, grid))]
    )
    # Attainable are 2, 5 and 3: a count of 5 in noise may be off by 5, at 5 of 5 by 5.
    noise = dict.fromkeys(TOLERANCES, grid > 0)
    noisy = make_report([hand_layer(0, counts, changed, below_floor=noise)])
    frame = hf_ess.compare([plain, unsure, noisy], names=["a", "b", "c"]).to_pandas("model", 0.1)
    average = frame.set_index("quantity").loc[AVERAGE]
    assert average["difference b"] == pytest.approx(0.5)
    assert average["half width b"] == pytest.approx(3 / 6)
    assert not average["decided b"]
    assert average["half width c"] == pytest.approx(5 / 6)
    assert not average["decided c"]


def test_standard_errors_over_the_same_texts():
    random = np.random.default_rng(1)
    texts = {"lengths": (12, 12, 12), "positions": (2, 5, 9)}
    values = [random.uniform(1, 2, (3, 2, 3)) for _ in range(2)]
    reports = [
        make_report([hand_layer(0, value, lengths=texts["lengths"])], **texts) for value in values
    ]
    for report in reports:
        for number, sample in enumerate(report.samples):
            sample.text_sha256 = f"{number}" * 64
    frame = hf_ess.compare(reports, names=["a", "b"]).to_pandas("model", "entropy")
    average = frame.set_index("quantity").loc[AVERAGE]
    means = [value.mean(axis=(1, 2)) for value in values]
    assert average["standard error a"] == pytest.approx(means[0].std(ddof=1) / np.sqrt(3))
    paired = (means[1] - means[0]).std(ddof=1) / np.sqrt(3)
    assert average["difference standard error b"] == pytest.approx(paired)
    reports[1].samples.reverse()
    frame = hf_ess.compare(reports, names=["a", "b"]).to_pandas("model", "entropy")
    assert frame["difference standard error b"].isna().all()
    assert frame["standard error b"].notna().any()


def test_a_ratio_to_nothing_does_not_exist():
    zero = make_report(level_layers([0.0]))
    comparison = hf_ess.compare([zero, make_report(level_layers([2.0]))])
    row = comparison.to_dict()["layer"][0]
    assert row["values"] == [0.0, 2.0]
    assert row["differences"] == [0.0, 2.0]
    assert row["ratios"] == [None, None]


def test_json_and_csv_hold_the_same_numbers(pair):
    document = json.loads(json.dumps(pair.to_dict(), allow_nan=False))
    assert [one["name"] for one in document["reports"]] == ["one", "other"]
    assert document["reports"][0]["fingerprint"] == pair.reports[0].fingerprint()
    entropy = [row for row in document["position"] if row["metric"] == "entropy-ESS"]
    assert [row["values"] for row in entropy] == [[16, 130], [24, 150], [32, 170]]
    read = list(csv.DictReader(io.StringIO(pair.to_csv("position", "entropy"))))
    assert [float(row["value other"]) for row in read] == [130, 150, 170]
    assert read[0]["decided other"] == "true"
    assert "not comparable" not in read[0]


@pytest.mark.parametrize("by", ["model", "layer", "depth", "position"])
def test_the_summary_shows_names_numbers_and_notes(pair, by):
    text = " ".join(pair.summary(by=by).split())
    # The capacities are 2, 5 and 9.
    for piece in (
        "one", "other", "7.50", "+4.50", "2.500", "tolerance-ESS(1e-05)", "test/model",
        "capacity per channel 5.33 5.33",
    ):  # fmt: skip
        assert piece in text, piece
    assert ("by layer" in text, "by depth" in text) == (by == "layer", by == "depth")
    assert "NOT COMPARABLE" not in text
    assert "≈" not in text


def test_the_summary_says_what_hybrids_and_unverified_layers_are():
    layers = [make_layer(0), make_layer(1, mixer="mamba"), make_layer(2, **unverified())]
    both = [make_report(layers, unsupported=[UNSUPPORTED]), make_report(3, seed=1)]
    text = hf_ess.compare(both, names=["hybrid", "plain"]).summary()
    assert "mixer" in text
    assert "2 of 4" in text
    assert "hybrid: Not verified: model.layers.2.self_attn" in text
    assert "hybrid: Unsupported: model.layers.9.mlstm" in text


def test_many_positions_are_thinned_in_the_table_only():
    common = {"lengths": (101,), "positions": tuple(range(1, 101))}
    both = [make_report(1, **common), make_report(1, seed=1, **common)]
    comparison = hf_ess.compare(both, names=["a", "b"])
    text = comparison.summary(by="position")
    assert "by position (one in 4)" in " ".join(text.split())
    assert "\n 97 " in text
    assert "\n 98 " not in text
    assert len(comparison.to_pandas("position", 0.1)) == 100


NASTY = "a\x1b[31m \u202e[bold]|`\n日本" + "x" * 70


@pytest.mark.parametrize("width", [40, 80, 120])
def test_names_are_harmless_in_tables(width):
    both = [make_report(2, provenance={"model": NASTY}), make_report(3, seed=2)]
    comparison = hf_ess.compare(both, names=[NASTY + "1", NASTY + "2"])
    text = comparison.summary(width)
    assert not set("\x1b\u202e") & set(text)
    assert "[bold]" in comparison.summary(200)
    assert "1. a" in text
    assert max(map(len, text.splitlines())) <= width
    for report in both:
        assert f"{report.average_ess():.2f}" in text


def test_default_names():
    def named(*models):
        return hf_ess.compare([make_report(provenance={"model": x}) for x in models]).names

    assert named("org/one", "/home/user/two/") == ("one", "two")
    assert named("a/model", "b/model") == ("a/model", "b/model")
    assert named("a/model", "a/model") == ("model [1]", "model [2]")
    assert named("", "x") == ("report", "x")


def test_what_cannot_be_compared_at_all():
    report = make_report()
    with pytest.raises(InvalidTypeError, match=r"type str.*\n.*ESSReport.load"):
        hf_ess.compare(["folder", "other"])
    with pytest.raises(InvalidInputError, match="at least two reports, got 1"):
        hf_ess.compare([report])
    with pytest.raises(InvalidInputError, match="at least two reports"):
        hf_ess.compare([])
    for names in (["a"], "a", ["a", "a"], ["a", " "]):
        with pytest.raises(InvalidInputError, match="name"):
            hf_ess.compare([report, report], names=names)
    comparison = hf_ess.compare([report, report])
    with pytest.raises(InvalidInputError, match="model, layer, depth, position"):
        comparison.to_pandas("head")
    with pytest.raises(InvalidInputError, match=r"no metric 0\.2"):
        comparison.summary(metric=0.2)
