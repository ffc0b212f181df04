from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified

from hf_ess.errors import InvalidInputError, OutputPathError
from hf_ess.report.token_labels import labelled_tokens, separators, token_label

PNG = b"\x89PNG\r\n\x1a\n"
NASTY = [
    " the", "\n", "\t", "", " ", "<|endoftext|>", "日本語", "😀", "\x1b[0m", "\u202eabc", "$x^$",
    "internationalization", "\ud800", "\U00100000", "_", "\\alpha", "e\u0301", "{", "%",
]  # fmt: skip


@pytest.fixture
def report():
    positions = tuple(range(2, 38, 3))
    common = {"lengths": (38,), "positions": positions}
    layers = [
        make_layer(0, **common, mixer="_日本 $mixer$"),
        make_layer(1, **common, state_size=4, mixer="mamba"),
        make_layer(2, **common, **unverified()),
    ]
    report = make_report(layers, **common, unsupported=[UNSUPPORTED])
    report.samples[0].tokens = NASTY * 2
    report.provenance["model"] = "org/😀_$model$_" + "x" * 90
    return report


@pytest.mark.parametrize("kind", ["heatmap", "profile", "positions"])
@pytest.mark.parametrize("metric", ["entropy", *TOLERANCES])
def test_every_kind_and_metric_is_drawn_without_warnings(report, tmp_path, kind, metric):
    path = tmp_path / "figure.png"
    figure = report.plot(kind, path, metric)
    assert path.read_bytes().startswith(PNG)
    assert report.metric_label(metric) in figure.get_suptitle()


@pytest.mark.parametrize("changes", [{"positions": (5,)}, {"layers": 1}, {"lengths": (12, 7)}])
def test_small_reports(tmp_path, changes):
    assert [path.name for path in make_report(**changes).plot_all(tmp_path / "new")] == [
        "heatmap.png",
        "profile.png",
        "positions.png",
    ]


def test_many_layers_that_differ_in_magnitude(tmp_path):
    common = {"lengths": (2000,), "positions": tuple(range(20, 2000, 20))}
    layers = [make_layer(i, **common, state_size=4 if i % 4 else None) for i in range(50)]
    layers[7].call = 1
    report = make_report(layers, **common)
    report.plot_all(tmp_path)
    assert report.plot("profile").axes[0].get_yscale() == "symlog"
    assert len(report.plot("profile").axes[0].get_xticks()) <= 40


def test_states_of_zero_can_be_drawn(tmp_path):
    zero = np.zeros((1, 2, 3))
    layer = make_layer(
        entropy_ess=zero, tolerance_ess=dict.fromkeys(TOLERANCES, zero), capacity=0,
        attainable_by_group=0,
    )  # fmt: skip
    make_report([layer]).plot_all(tmp_path)


def test_the_heatmap_holds_the_averages(report):
    axes = report.plot("heatmap").axes[0]
    drawn = axes.collections[0].get_array().reshape(3, -1)
    assert np.array(drawn[0]) == pytest.approx(report.layers[0].entropy_ess.mean(axis=(0, 1)))
    assert drawn.mask[2].all()


def test_the_curve_holds_the_totals(report):
    upper, lower = report.plot("positions", metric=0.1).axes[:2]
    total = report.total_ess_by_position(0.1)
    assert upper.lines[0].get_ydata() == pytest.approx(total)
    attainable = np.mean([x.attainable_by_group[0, 0] * 8 for x in report.layers[:2]], axis=0)
    assert lower.lines[0].get_ydata() == pytest.approx(100 * total / attainable)


def test_global_state_is_left_alone(report, tmp_path):
    # Reading the backend chooses one, so it is left out.
    names = set(matplotlib.rcParams) - {"backend"}
    before = {name: matplotlib.rcParams[name] for name in names}
    report.plot_all(tmp_path)
    assert {name: matplotlib.rcParams[name] for name in names} == before
    with matplotlib.rc_context({"text.usetex": True, "font.family": ["monospace"]}):
        report.plot("positions", tmp_path / "other.png")


def test_refusals(report, tmp_path):
    with pytest.raises(InvalidInputError, match="heatmap, profile, positions"):
        report.plot("pie")
    with pytest.raises(InvalidInputError, match="'entropy'"):
        report.plot(metric=0.2)
    with pytest.raises(InvalidInputError, match=r"\.png"):
        report.plot(path=tmp_path / "figure.docx")
    with pytest.raises(OutputPathError):
        report.plot(path=tmp_path / "missing" / "figure.png")


def test_tokens_are_written_short_and_visible():
    assert token_label(" internationalization") == "international…"
    assert token_label("\n\n") == "⏎⏎"
    assert token_label("   ") == "␣␣␣"
    assert token_label("") == ""
    assert token_label("語") == "□"


def test_separators_give_way_when_there_are_too_many():
    assert separators(["a", "\n", "<s>"]) == [1, 2]
    assert separators(["\n"] * 50 + ["<|im_end|>"]) == [50]
    assert separators(["</s>"] * 50) == []


def test_labels_keep_their_distance():
    chosen = labelled_tokens(range(0, 100, 2), [51], span=100, most=20)
    assert 51 in chosen
    assert min(np.diff(chosen)) >= 5
