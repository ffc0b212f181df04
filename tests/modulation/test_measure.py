"""`hf_ess.measure_modulation` on tiny models; one of them drops its state at every end token."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from analysis.handmade import Decoder, InlineAttention
from modulation.separated_words import ForgettingDecoder, passages, tokenizer_of_words

import hf_ess
from hf_ess.errors import InvalidInputError, InvalidTypeError, ReportError

TEXTS = {"mine": passages(16, 18, 60)}


def measure(model, texts=TEXTS, eos="</s>", **arguments):
    return hf_ess.measure_modulation(
        model, tokenizer_of_words(eos), texts=texts, progress=False, **arguments
    )


@pytest.fixture(scope="module")
def forgotten():
    return measure(ForgettingDecoder(), separators=["eos", "period", "none"])


def test_a_state_that_is_dropped_falls_by_all_of_it(forgotten):
    run = forgotten.run("mine", "eos")
    assert run.spans == ((16, 17), (35, 36))
    for metric in forgotten.metrics:
        assert run.curves[metric][[16, 35]] == pytest.approx([0, 0], abs=1e-12)
        assert run.dips[metric].depths == pytest.approx((1, 1), abs=1e-12)
        assert run.dips[metric].p_value == pytest.approx(1 / 2001, abs=1e-12)
    assert run.dips["entropy"].expected < 0.2


def test_where_nothing_is_dropped_the_state_stays(forgotten):
    for separator in ("period", "none"):
        run = forgotten.run("mine", separator)
        assert max(run.dips["entropy"].depths) < 0.3
    assert forgotten.run("mine", "none").spans == ((16, 16), (34, 34))


def test_curves_are_those_of_the_report(forgotten):
    model = ForgettingDecoder()
    tokenizer = tokenizer_of_words()
    text = "</s>".join(TEXTS["mine"])
    report = hf_ess.analyze(model, text, tokenizer, positions="all", progress=False)
    run = forgotten.run("mine", "eos")
    assert list(run.tokens) == report.samples[0].tokens
    for metric in report.metrics:
        expected = report.total_ess_by_position(metric, layers="sum")
        np.testing.assert_array_equal(run.curves[metric][1:-1], expected)
        assert np.isnan(run.curves[metric][[0, -1]]).all()


def test_what_is_attainable_shrinks_at_the_ends_but_not_in_windows():
    model = Decoder(InlineAttention)
    run = measure(model, separators=["eos"]).run("mine", "eos")
    length = len(run.tokens)
    at = np.arange(1, length)
    # Each of 32 channels attains min(i, L - i).
    np.testing.assert_array_equal(run.attainable[1:-1], 32 * np.minimum(at, length - at))
    curve, share = run.curves[0.1], run.curves[0.1] / run.attainable
    for (start, _), fall in zip(run.spans, run.dips[0.1].of_attainable, strict=True):
        beside = [start + k for k in (*range(-8, -2), *range(4, 10))]
        expected = np.median(share[beside]) - share[[start, start + 1]].min()
        assert run.around.far == 8
        assert fall == pytest.approx(expected, abs=1e-12), curve

    result = measure(model, separators=["eos"], window=8)
    windowed = result.run("mine", "eos").attainable
    assert result.window == (8, 8)
    assert "windowed" in result.summary()
    assert set(windowed[np.isfinite(windowed)][8:-8]) == {32 * 8}


def test_the_model_is_left_as_it_was(forgotten):
    model = Decoder(InlineAttention).train()
    ids = torch.arange(20)[None]
    before, state = model(ids), torch.get_rng_state()
    with pytest.warns(UserWarning, match="training mode"):
        result = measure(model, separators=["period"])
    assert "training mode" in result.summary()
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model(ids), before)


def test_a_result_is_a_table_a_plot_and_a_file(forgotten, tmp_path):
    frame = forgotten.to_pandas()
    assert len(frame) == 3 * 4
    row = frame[(frame.separator == "eos") & (frame.metric == "entropy-ESS")].iloc[0]
    assert row.depth == pytest.approx(1, abs=1e-12)
    assert "1.00 (" in forgotten.summary()
    assert max(map(len, forgotten.summary(60).splitlines())) <= 60
    figure = forgotten.plot(tmp_path / "curves.png", metric="entropy")
    assert len(figure.axes) == 3
    assert (tmp_path / "curves.png").stat().st_size > 1000
    again = hf_ess.Modulation.load(forgotten.save(tmp_path / "new" / "result.json"))
    assert again.to_dict() == forgotten.to_dict()
    assert again.run("mine", "none").dips == forgotten.run("mine", "none").dips
    both = hf_ess.modulation_table([forgotten, again])
    assert len(both) == 2 * len(frame)


def test_a_file_is_read_without_torch(forgotten, tmp_path):
    path = forgotten.save(tmp_path / "result.json")
    code = (
        "import sys, hf_ess\n"
        "print(len(hf_ess.Modulation.load(sys.argv[1]).summary()))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) == len(forgotten.summary())


def test_a_file_of_something_else_is_refused(tmp_path):
    for text in ("{", "{}", '{"format": 99}', "[]"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ReportError, match="hf-ess modulate"):
            hf_ess.Modulation.load(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"separators": ["comma"]}, InvalidInputError, "Unknown separator 'comma'"),
        ({"separators": "eos"}, InvalidTypeError, "must be a sequence"),
        ({"separators": ["eos", "eos"]}, InvalidInputError, "each once"),
        ({"separators": []}, InvalidInputError, "at least one"),
        ({"separators": ["token:w9999"]}, InvalidInputError, "for one token"),
        ({"separators": ["token:"]}, InvalidInputError, "Unknown separator"),
        ({"eos": None, "separators": ["eos"]}, InvalidInputError, "no end-of-text token"),
        ({"texts": ["novel"]}, InvalidInputError, "no text 'novel'"),
        ({"texts": "short"}, InvalidTypeError, "must be a sequence"),
        ({"texts": {}}, InvalidInputError, "no text to measure"),
        ({"texts": {"x": "w1 w2"}}, InvalidTypeError, "not one string"),
        ({"texts": {"x": ["w1 w2 w3"]}}, InvalidInputError, "has 1 passage with"),
        ({"texts": {"x": passages(6, 60)}}, InvalidInputError, "too short"),
        ({"texts": {"x": passages(12, 12)}}, InvalidInputError, "far from separators"),
        ({"texts": {"x": ["w1 </s> w2", "w3"]}}, InvalidInputError, "occurs in a passage"),
        ({"draws": 0}, InvalidInputError, "draws must be"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        measure(Decoder(InlineAttention), **{"separators": ["eos"], **arguments})


def test_words_need_a_fast_tokenizer():
    with pytest.raises(InvalidTypeError, match="fast tokenizer"):
        hf_ess.measure_modulation(Decoder(InlineAttention), texts=TEXTS, separators=["period"])


def test_an_empty_state_is_shown_as_nothing(forgotten):
    result = measure(Decoder(InlineAttention), separators=["period"], tolerances=[1e6])
    dips = result.run("mine", "period").dips[1e6]
    assert math.isnan(dips.depth)
    assert math.isnan(dips.p_value)
    assert "nan" not in result.summary()
    assert result.to_dict()["runs"][0]["dips"][1]["p_value"] is None
