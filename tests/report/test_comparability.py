"""Every difference is found, named with its reports, and only overruled on purpose."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from report.synthetic import TOLERANCES, make_layer, make_report, unverified

import hf_ess
from hf_ess.errors import NotComparableError
from hf_ess.report import SampleInfo

OTHER = (0.1, 0.02)


def counted_at(tolerances):
    layer = make_layer(0)
    counts = dict.fromkeys(tolerances, layer.tolerance_ess[0.1])
    return make_report([make_layer(0, tolerance_ess=counts)], tolerances=tolerances)


def of_text(sha, ids=None, *, length=12, positions=(2, 5, 9), words=None):
    report = make_report(1, lengths=(length,), positions=positions)
    report.samples = [SampleInfo(length, sha, words, None if ids is None else np.asarray(ids))]
    return report


def every(stride, length):
    return tuple(range(stride, length, stride))


def chosen_layers(layers):
    return make_report(provenance={"model": "m", "settings": {"layers": layers}})


@pytest.mark.parametrize(
    ("other", "aspect", "words"),
    [
        (lambda: counted_at(OTHER), "tolerances", "0.1, 0.001, 1e-05 (a); 0.1, 0.02 (b)"),
        (lambda: make_report(relative=True), "kind of tolerances", "absolute (a); relative (b)"),
        (lambda: make_report(window=(64, 32)), "window", "none (a); 64x32 (b)"),
        (lambda: make_report(scope="jacobian"), "scope", "core (a); jacobian (b)"),
        (lambda: make_report(scope="mixer"), "scope", "core (a); mixer (b)"),
        (lambda: chosen_layers([0, 2]), "chosen layers", "all (a); 0, 2 (b)"),
        (lambda: of_text("1" * 64), "texts", "1 text, 00000000 (a); 1 text, 11111111 (b)"),
        (lambda: make_report(lengths=(12, 12)), "texts", "1 text, 00000000 (a); 2 texts, "),
        (
            lambda: make_report(positions=(3, 6, 9)),
            "positions",
            "3 listed (2 to 9) of 12 tokens (a); one in 3 (3) of 12 tokens (b)",
        ),
        (
            lambda: make_report(complete=False, incomplete_reason="stopped"),
            "complete",
            "yes (a); no (b)",
        ),
        (
            lambda: make_report([make_layer(0, **unverified())]),
            "verified layers",
            "some (a); none (b)",
        ),
    ],
)  # fmt: skip
def test_one_difference(other, aspect, words):
    reports = [make_report(), other()]
    with pytest.raises(NotComparableError) as caught:
        hf_ess.compare(reports, names=["a", "b"])
    message = str(caught.value)
    assert f"  - {aspect}: {words}" in message
    assert message.count("  - ") == 1
    assert "--force" in message
    forced = hf_ess.compare(reports, names=["a", "b"], force=True)
    assert [difference.aspect for difference in forced.differences] == [aspect]
    text = forced.summary(400)
    assert text.startswith("NOT COMPARABLE")
    assert f"{aspect}: {words}" in text.split("2 reports, compared", maxsplit=1)[0]
    assert forced.to_dict()["differences"] == [str(x) for x in forced.differences]
    for row in csv.DictReader(io.StringIO(forced.to_csv("layer"))):
        assert f"{aspect}: {words}" in row["not comparable"]


def test_all_differences_are_listed_at_once_with_the_reports():
    other = make_report(window=(8, 8), relative=True)
    with pytest.raises(NotComparableError) as caught:
        hf_ess.compare([make_report(), other, make_report(seed=1)], names=["a", "b", "c"])
    assert "window: none (a, c); 8x8 (b)" in str(caught.value)
    assert "kind of tolerances: absolute (a, c); relative (b)" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_the_order_of_tolerances_and_texts_does_not_matter():
    one = make_report(lengths=(12, 12))
    other = make_report(lengths=(12, 12), seed=1)
    for report, hashes in ((one, "12"), (other, "21")):
        for sample, digit in zip(report.samples, hashes, strict=True):
            sample.text_sha256 = digit * 64
    assert not hf_ess.compare([one, other]).differences
    assert not hf_ess.compare([counted_at(OTHER), counted_at(OTHER[::-1])]).differences


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("1" * 64, range(12)), ("1" * 64, None), True),
        (("1" * 64, None), ("1" * 64, None), True),
        (("1" * 64, range(12)), ("2" * 64, range(12)), False),
        (("1" * 64, range(12)), (None, range(12)), True),
        ((None, range(12)), (None, range(12)), True),
        ((None, range(12)), (None, range(1, 13)), False),
        (("1" * 64, None), (None, range(12)), False),
        ((None, None), (None, None), False),
    ],
)
def test_texts_are_told_by_their_hash_then_by_their_tokens(one, other, same):
    reports = [of_text(*one), of_text(*other)]
    if same:
        comparison = hf_ess.compare(reports)
        assert len(comparison.to_pandas("position", "entropy")) == 3
    else:
        with pytest.raises(NotComparableError, match="texts: "):
            hf_ess.compare(reports)


def test_equal_ids_of_other_words_are_another_text():
    ids, words = range(12), [f"w{i}" for i in range(12)]
    one, other = of_text(None, ids, words=words), of_text(None, ids, words=words[::-1])
    with pytest.raises(NotComparableError, match="texts: "):
        hf_ess.compare([one, other])
    assert not hf_ess.compare([one, of_text(None, ids, words=words)]).differences


def test_what_is_known_through_a_third_report_is_known():
    hashed, both, counted = (
        of_text("1" * 64), of_text("1" * 64, range(12)), of_text(None, range(12))
    )  # fmt: skip
    for order in ([hashed, both, counted], [counted, hashed, both], [hashed, counted, both]):
        assert not hf_ess.compare(order).differences


@pytest.mark.parametrize(
    ("length", "positions"),
    [((430), every(1, 430)), (430, every(7, 430)), (1100, every(18, 1100))],
)
def test_the_same_text_in_other_tokens(length, positions):
    whole = every(1, 508) if positions == every(1, 430) else every(8, 508)
    one = of_text("1" * 64, range(508), length=508, positions=whole)
    other = of_text("1" * 64, range(length), length=length, positions=positions)
    comparison = hf_ess.compare([one, other], names=["a", "b"])
    assert comparison.to_pandas("depth", "entropy")["difference b"].notna().all()
    assert comparison.to_pandas("layer", "entropy")["difference b"].notna().all()
    message = f"tokens: 508 tokens (a); {length} tokens (b); position i is another place"
    with pytest.raises(NotComparableError) as caught:
        comparison.to_pandas("position")
    assert message in str(caught.value)
    for refused in (comparison.summary, comparison.plot):
        with pytest.raises(NotComparableError):
            refused(
                **({"by": "position"} if refused == comparison.summary else {"kind": "position"})
            )
    assert f"Not comparable by position: {message}" in comparison.summary(300)
    assert "position" not in comparison.to_dict()
    assert comparison.to_dict()["position_differences"]
    forced = hf_ess.compare([one, other], names=["a", "b"], force=True)
    places = forced.to_pandas("position", "entropy")["position"].tolist()
    assert places == sorted({*whole, *positions})


@pytest.mark.parametrize(
    "positions", [every(1, 430), every(20, 430), (3, 100, 400), tuple(range(1, 64))]
)
def test_other_tokens_need_positions_that_are_spread_alike(positions):
    one = of_text("1" * 64, range(508), length=508, positions=every(8, 508))
    other = of_text("1" * 64, range(430), length=430, positions=positions)
    with pytest.raises(NotComparableError, match="positions: one in 8"):
        hf_ess.compare([one, other])


def test_listed_positions_at_the_same_places_of_other_tokens():
    one = of_text("1" * 64, range(400), length=400, positions=(100, 200, 300))
    near = of_text("1" * 64, range(200), length=200, positions=(51, 100, 149))
    far = of_text("1" * 64, range(200), length=200, positions=(53, 100, 149))
    assert not hf_ess.compare([one, near]).differences
    with pytest.raises(NotComparableError, match="positions"):
        hf_ess.compare([one, far])


def test_withheld_tokens_are_taken_for_equal_where_there_are_equally_many_and_it_is_said():
    open_, withheld = of_text("1" * 64, range(12)), of_text("1" * 64, None)
    comparison = hf_ess.compare([open_, withheld], names=["a", "b"])
    assert not comparison.position_differences
    assert "By position: b without tokens; the text has equally many" in comparison.summary(200)
    assert "By position" not in hf_ess.compare([open_, open_]).summary(200)


def test_forced_metrics_are_those_of_any_report_and_nothing_is_filled_in():
    forced = hf_ess.compare([make_report(1), counted_at(OTHER)], names=["a", "b"], force=True)
    assert forced.metrics == ("entropy", 0.1, 0.02, 0.001, 1e-05)
    frame = forced.to_pandas("model", 0.02).set_index("quantity")
    assert np.isnan(frame.loc["average per channel", "value a"])
    assert frame.loc["average per channel", "value b"] > 0
    assert forced.to_pandas("layer", 0.001)["value b"].isna().all()
    windowed = hf_ess.compare([make_report(1), make_report(1, window=(8, 8))], force=True)
    both = "entropy-ESS or windowed entropy-ESS, window 8x8"
    assert windowed.metric_label("entropy") == both
    assert both in windowed.summary(200)


def test_a_forced_report_without_verified_layers_has_no_numbers():
    empty = make_report([make_layer(0, **unverified())])
    forced = hf_ess.compare([make_report(2), empty, empty], names=["a", "b", "c"], force=True)
    for level in ("model", "layer", "depth", "position"):
        frame = forced.to_pandas(level, "entropy")
        assert frame["value a"].notna().any()
        assert frame["value b"].isna().all()
    assert "verified layers: some (a); none (b, c)" in forced.summary(200)
    nothing = hf_ess.compare([empty, empty], force=True)
    assert nothing.to_pandas("depth").empty
    with pytest.raises(hf_ess.ReportError, match="nothing to draw"):
        nothing.plot("layer")


def test_method_accuracy_and_model_may_differ():
    one = make_report([make_layer(0, method="gram")], provenance={"model": "x", "dtype": "float32"})
    other = make_report(
        [make_layer(0, method="svd", mixer="mamba", state_size=4, entropy_half_width=0.01)],
        provenance={"model": "y", "dtype": "bfloat16"},
    )
    assert not hf_ess.compare([one, other]).differences
    assert one.tolerances == TOLERANCES
