"""What the figures of a comparison hold is what its tables hold."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified

import hf_ess
from hf_ess.errors import InvalidInputError, OutputPathError

PNG = b"\x89PNG\r\n\x1a\n"
COMMON = {"lengths": (38,), "positions": tuple(range(1, 38))}


@pytest.fixture
def comparison():
    layers = [make_layer(i, **COMMON, entropy_half_width=0.01) for i in range(4)]
    layers[2] = make_layer(2, **COMMON, **unverified())
    few = make_report(layers, **COMMON, unsupported=[UNSUPPORTED])
    many = make_report(
        [make_layer(i, **COMMON, seed=1, state_size=4, mixer="mamba") for i in range(9)], **COMMON
    )
    return hf_ess.compare([few, many], names=["_$few$ 日本\n", "many" * 30])


@pytest.mark.parametrize("kind", ["layer", "depth", "position"])
@pytest.mark.parametrize("metric", ["entropy", *TOLERANCES])
def test_every_kind_and_metric_is_drawn_without_warnings(comparison, tmp_path, kind, metric):
    path = tmp_path / "figure.png"
    figure = comparison.plot(kind, path, metric)
    assert path.read_bytes().startswith(PNG)
    assert comparison.metric_label(metric) in figure.get_suptitle()
    assert "2 mixers not measured" in figure.get_suptitle()
    assert len(figure.axes[0].get_legend().get_texts()) == 2


def test_layers_are_at_their_number_and_gaps_are_left(comparison):
    upper, lower = comparison.plot("layer").axes
    frame = comparison.to_pandas("layer", "entropy")
    frame = frame[frame["quantity"] == "average per channel"]
    few, many = upper.lines[0], upper.lines[1]
    assert few.get_xdata().tolist() == [0, 1, 2, 3, 9]
    expected = frame["value _$few$ 日本\n"].tolist()[:4]
    np.testing.assert_array_equal(few.get_ydata(), [*expected, np.nan])
    np.testing.assert_array_equal(many.get_ydata(), frame[f"value {'many' * 30}"])
    utilization = comparison.reports[1].to_pandas()["utilization_entropy_ess"]
    assert lower.lines[1].get_ydata() == pytest.approx(100 * utilization)


def test_depth_is_the_middle_of_each_mixer(comparison):
    upper, _ = comparison.plot("depth").axes
    assert upper.lines[0].get_xdata() == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert upper.lines[1].get_xdata() == pytest.approx((np.arange(9) + 0.5) / 9)
    assert upper.get_xlim() == (0, 1)


def test_half_widths_are_drawn(comparison):
    bars = comparison.plot("layer").axes[0].collections[0].get_segments()
    average = comparison.reports[0].layers[0].entropy_ess.mean()
    assert bars[0][:, 1] == pytest.approx([0.99 * average, 1.01 * average])


def test_mixers_of_one_layer_share_its_room():
    layers = [make_layer(0), make_layer(0, mixer="mamba"), make_layer(1), make_layer(-1)]
    figure = hf_ess.compare([make_report(layers), make_report(2)]).plot("layer")
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0.0, 0.5, 1.0, 2.0]


def test_curves_hold_the_totals_and_the_tokens_stand_below(comparison):
    figure = comparison.plot("position", metric=0.1)
    for line, report in zip(figure.axes[0].lines, comparison.reports, strict=False):
        assert line.get_ydata() == pytest.approx(report.total_ess_by_position(0.1))
    words = [
        label.get_text() for axes in figure.axes[1].child_axes for label in axes.get_xticklabels()
    ]
    assert "word1" in words


def test_tokens_of_several_texts_are_not_written():
    common = {"lengths": (38, 38), "positions": COMMON["positions"]}
    both = [make_report(1, **common), make_report(1, seed=1, **common)]
    assert not hf_ess.compare(both).plot("position").axes[1].child_axes


def test_forced_figures_say_so_and_show_every_position(tmp_path):
    short = make_report(1, lengths=(12,), window=(4, 4))
    forced = hf_ess.compare([make_report(1, **COMMON), short], force=True)
    figure = forced.plot("position", tmp_path / "figure.png")
    assert "NOT COMPARABLE (window, positions)" in figure.get_suptitle()
    assert figure.axes[0].get_xlim() == (0, 38)
    assert not figure.axes[1].child_axes


def test_refusals(comparison, tmp_path):
    with pytest.raises(InvalidInputError, match="layer, depth, position"):
        comparison.plot("heatmap")
    with pytest.raises(InvalidInputError, match="'entropy'"):
        comparison.plot(metric=0.2)
    with pytest.raises(InvalidInputError, match=r"\.png"):
        comparison.plot(path=tmp_path / "figure.docx")
    with pytest.raises(OutputPathError):
        comparison.plot(path=tmp_path / "missing" / "figure.png")


def test_global_state_is_left_alone(comparison):
    names = set(matplotlib.rcParams) - {"backend"}
    before = {name: matplotlib.rcParams[name] for name in names}
    comparison.plot("depth")
    assert {name: matplotlib.rcParams[name] for name in names} == before
