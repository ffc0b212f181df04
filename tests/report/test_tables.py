from __future__ import annotations

import numpy as np
import pytest
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified
from rich.cells import cell_len
from rich.console import Console

from hf_ess.plain_text import printable
from hf_ess.report import UnsupportedLayer
from hf_ess.report.tables import summary_tables
from hf_ess.report.text import shortened

NASTY = "ev\x1b[31mil\x07 [bold]name[/bold] \u202e\u200b\n日本 \udc80"


@pytest.fixture
def report():
    layers = [
        make_layer(0),
        make_layer(1, state_size=4, mixer="mamba2", call=1),
        make_layer(2, **unverified()),
        make_layer(-1, name="backbone.attention"),
    ]
    return make_report(layers, unsupported=[UNSUPPORTED], warnings=["mind the gap"])


def test_everything_that_matters_is_said(report):
    text = report.summary()
    layer = report.layers[0]
    mean = layer.entropy_ess.mean()
    for piece in (
        "test/model", "1 text", "3 positions", "softmax attention", "mamba2", "1 (run 2)",
        "grows", "backbone.attention", f"{mean:.2f}", f"{mean * 8:.2f}", "3 verified layers",
        f"{layer.residual.max():.1e}", "NO", "residual 3.0e-01 above", "no adapter knows it",
        "Warning: mind the gap", f"{report.total_ess(layers='sum'):.2f}",
        f"{100 * report.utilization():.1f}%",
    ):  # fmt: skip
        assert piece in text, piece
    assert "*" not in text
    assert "~" not in text


def test_unverified_layers_show_no_numbers(report):
    row = next(line for line in report.summary(160).splitlines() if line.startswith(" 2 "))
    assert row.split()[5:-2] == ["-"] * 6


def test_flags_are_shown_and_explained():
    grid = np.zeros((1, 2, 3), dtype=bool)
    grid[0, 1, 2] = True
    layer = make_layer(
        below_floor={tau: grid & (tau == 1e-5) for tau in TOLERANCES},
        undecided={tau: 1.0 * grid * (tau == 1e-3) for tau in TOLERANCES},
    )
    text = make_report([layer]).summary()
    assert f"{layer.tolerance_ess[1e-3].mean():.2f}~" in text
    assert f"{layer.tolerance_ess[1e-5].mean():.2f}*" in text
    assert "* the tolerance is at or below" in text
    assert "~ some singular values" in text


def test_an_incomplete_report_says_so():
    text = make_report(complete=False, incomplete_reason="out of time").summary()
    assert "INCOMPLETE: out of time" in text


@pytest.mark.parametrize("width", [1, 40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_asked(width):
    layers = [make_layer(0, mixer=NASTY, name=NASTY * 5), make_layer(1, **unverified())]
    report = make_report(
        layers,
        unsupported=[UnsupportedLayer(NASTY * 4, -1, NASTY, NASTY)],
        warnings=[NASTY * 9],
        window=(64, 64),
        relative=True,
        provenance={"model": NASTY * 6},
    )
    lines = report.summary(width).split("\n")
    assert max(cell_len(line) for line in lines) <= max(width, 40)
    # Every number survives, however narrow the page.
    for metric in report.metrics:
        assert f"{report.average_ess(metric):.2f}" in report.summary(width)


def test_nothing_from_a_name_reaches_the_terminal():
    layer = make_layer(-1, mixer=NASTY, name=NASTY)
    report = make_report([layer], warnings=[NASTY], provenance={"model": NASTY})
    text = report.summary(200)
    for character in "\x1b\x07\u202e\u200b\udc80":
        assert character not in text
    assert r"ev\x1b[31mil\x07 [bold]name[/bold] \u202e\u200b\n日本 \udc80" in text


def test_the_view_fits_the_console(report):
    narrow = Console(width=70, color_system=None)
    with narrow.capture() as capture:
        narrow.print(summary_tables(report))
    assert "(continued)" in capture.get()
    assert "(continued)" not in report.summary(130)


def test_windowed_and_relative_are_in_the_headers():
    text = make_report(window=(64, 32), relative=True).summary(200)
    assert "(windowed 64x32)" in text
    assert "windowed relative tolerance-ESS(0.1), window 64x32" in text
    assert text.count("relative") >= 6


def test_text_helpers():
    assert printable("plain é 日本 😀") == "plain é 日本 😀"
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
