"""Modulation: rows of models, verdicts on dips, models that cannot be had."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import hf_ess
from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.lab import EXPERIMENTS, Reproduction, reproduce
from hf_ess.lab.paper.experiment import Scale, Verdict
from hf_ess.lab.paper.modulation import MODELS, TEXTS
from hf_ess.lab.paper.modulation_finding import ends_of_texts
from hf_ess.lab.paper.modulation_pieces import END_OF_TEXT, METRICS, TOLERANCES, modulation_rows
from hf_ess.lab.paper.tiny_language import tiny_language

MODULATION = EXPERIMENTS["modulation"]
DECIDING = "tolerance-ESS(0.1)"
TOKEN = f"token:{END_OF_TEXT}"


def run(out, **options):
    return reproduce("modulation", scale="minute", out=out, processes=1, progress=False, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("modulation")
    return run(out), out


def test_rows_are_those_of_the_tool(made):
    one, _ = made
    model, tokenizer = tiny_language()
    expected = hf_ess.measure_modulation(
        model, tokenizer, texts=("short",), tolerances=TOLERANCES, progress=False
    )
    dips = one.rows[one.rows["kind"] == "dips"].reset_index()
    table = expected.to_pandas()
    assert list(dips["separator"]) == list(table["separator"])
    for name in ("depth", "expected", "excess", "low", "high", "p_value"):
        assert dips[name].to_numpy() == pytest.approx(table[name].to_numpy(), rel=1e-5, abs=1e-9)
    curves = one.rows[one.rows["kind"] == "curve"]
    for separated in expected.runs:
        own = curves[curves["separator"] == separated.separator]
        for label, tolerance in zip(METRICS, TOLERANCES, strict=True):
            assert own[label].to_numpy() == pytest.approx(
                separated.curves[tolerance][1:-1], rel=1e-5
            )
        # A separator of one token has a cut before it and one after it.
        assert own["in_separator"].eq(True).sum() == 2 * len(separated.spans)
    perplexity = one.rows[one.rows["kind"] == "perplexity"].set_index("tokens")
    assert (
        perplexity.loc["recall", "count"] + perplexity.loc["others", "count"]
        == (perplexity.loc["all", "count"])
    )
    assert one.finding.verdict is Verdict.undecidable


def test_nothing_is_done_twice(made):
    one, out = made
    kept = sorted((out / "minute" / "modulation" / "pieces").glob("*.json"))
    times = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 2
    assert run(out).to_dict() == one.to_dict()
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert Reproduction.read(out / "minute" / "modulation").to_dict() == one.to_dict()


def test_a_model_that_cannot_be_loaded_is_named_and_tried_again(tmp_path):
    missing = str(tmp_path / "missing")
    models = ("tiny-random-llama", missing)
    one = run(tmp_path / "out", models=models)
    failures = one.rows[one.rows["kind"] == "failure"]
    assert list(failures["model"]) == ["missing"] * 2
    assert "Not measured: missing (short, recall: ModelLoadError: " in one.finding.words
    written = tmp_path / "out" / "minute" / "modulation"
    for name in ("results.csv", "finding.json"):
        assert str(tmp_path) not in (written / name).read_text()
    command = "hf-ess lab reproduce modulation --scale minute --model tiny-random-llama"
    assert one.provenance["command"] == f"{command} --model missing --processes 1"
    assert set(one.rows.loc[one.rows["kind"] == "dips", "model"]) == {"tiny-random-llama"}
    pieces = [*(tmp_path / "out" / "minute" / "modulation" / "pieces").glob("*.json")]
    failed = [path for path in pieces if "failed" in json.loads(path.read_text())["result"]]
    assert len(failed) == 2
    model, tokenizer = tiny_language()
    model.save_pretrained(missing)
    tokenizer.save_pretrained(missing)
    again = run(tmp_path / "out", models=models)
    assert not (again.rows["kind"] == "failure").any()
    assert set(again.rows.loc[again.rows["kind"] == "dips", "model"]) == {*models[:1], "missing"}


def test_no_model_at_all(tmp_path):
    with pytest.raises(ReportError, match="No model could be measured"):
        run(tmp_path / "out", models=(str(tmp_path / "missing"),))
    for name in ("one", "two"):
        (tmp_path / name / "model").mkdir(parents=True)
    models = tuple(str(tmp_path / name / "model") for name in ("one", "two"))
    with pytest.raises(InvalidInputError, match="Two of the models are called 'model'"):
        run(tmp_path / "out", models=models)


def test_another_end_of_text_is_measured_too(tmp_path):
    model, tokenizer = tiny_language()
    tokenizer.add_special_tokens({"additional_special_tokens": [END_OF_TEXT]})
    model.resize_token_embeddings(len(tokenizer))
    for thing in (model, tokenizer):
        thing.save_pretrained(tmp_path)
    rows = modulation_rows(str(tmp_path), "short", curves=False, device="cpu")
    assert {row["separator"] for row in rows} == {TOKEN, "eos", "period", "newline", "none"}
    assert {row["kind"] for row in rows} == {"dips"}
    frame = pd.DataFrame(rows).assign(model="tiny")
    assert ends_of_texts(frame) == {"tiny": TOKEN}


def made_up(models, recall=None):
    """Depths of four separators, low end of the excess, and p, by model and separator."""
    rows = [
        {
            "kind": "dips",
            "model": model,
            "text": "short",
            "separator": separator,
            "metric": metric,
            "depth": np.mean(depths),
            "expected": 0.0,
            "excess": np.mean(depths),
            "low": low,
            "high": 0.9,
            "p_value": p,
            "flags": "",
            "layers_left_out": 0,
            "depths": " ".join(f"{depth}" for depth in depths),
        }
        for model, separators in models.items()
        for separator, (depths, low, p) in separators.items()
        for metric in METRICS
    ]
    for model, perplexity in (recall or dict.fromkeys(models, 5.0)).items():
        common = {"kind": "perplexity", "model": model, "count": 9, "standard_error": 0.1}
        rows.append({**common, "tokens": "recall", "perplexity": perplexity})
    return pd.DataFrame(rows).assign(reason=None)


DEEP, SHALLOW = [0.5, 0.6, 0.5, 0.7], [0.1, 0.2, 0.15, 0.1]
CLEAR, CHANCE = (0.05, 0.001), (-0.1, 0.4)


@pytest.mark.parametrize(
    ("end", "period", "verdict"),
    [
        ((DEEP, *CLEAR), (SHALLOW, *CLEAR), Verdict.reproduced),
        ((SHALLOW, *CLEAR), (DEEP, *CLEAR), Verdict.partly),
        ((DEEP, *CLEAR), (DEEP, *CLEAR), Verdict.partly),
        ((SHALLOW, *CHANCE), (DEEP, *CHANCE), Verdict.contradicted),
        ((DEEP, np.nan, np.nan), (DEEP, *CLEAR), Verdict.undecidable),
        ((DEEP, *CHANCE), (DEEP, *CHANCE), Verdict.undecidable),
        ((DEEP, 0.05, 0.2), (DEEP, *CHANCE), Verdict.undecidable),
    ],
)
def test_verdicts(end, period, verdict):
    finding = MODULATION.judge(made_up({"some": {"eos": end, "period": period}}))
    assert finding.verdict is verdict
    difference = np.mean(end[0]) - np.mean(period[0])
    assert f"full stop {np.mean(period[0]):.2f}, difference {difference:.2f} [" in finding.words
    assert len(finding.tables[f"Dips at {DECIDING}"]) == 2


def test_what_counts_is_the_token_that_ends_texts():
    separators = {TOKEN: (DEEP, *CLEAR), "eos": (SHALLOW, *CHANCE), "period": (SHALLOW, *CHANCE)}
    finding = MODULATION.judge(made_up({"some": separators}))
    assert finding.verdict is Verdict.reproduced
    assert list(finding.tables["Dips at end-of-text tokens by tolerance"]["separator"]) == [TOKEN]


def test_layers_that_are_missing_in_sums_are_named():
    rows = made_up({"some": {"eos": (DEEP, *CLEAR), "period": (SHALLOW, *CLEAR)}})
    assert "unverified" not in MODULATION.judge(rows).words
    rows.loc[0, "layers_left_out"] = 2
    assert "Sums of some are without 2 unverified layers." in MODULATION.judge(rows).words


def test_recall_is_compared_over_several_models():
    models = {
        f"model {number}": {"eos": ([number / 10] * 4, *CLEAR), "period": ([0.0] * 4, *CHANCE)}
        for number in range(1, 5)
    }
    recall = {name: 10.0 - number for number, name in enumerate(models)}
    words = MODULATION.judge(made_up(models, recall)).words
    assert "depth and recall perplexity over models, which were not trained alike: -1.00" in words
    few = dict(list(models.items())[:3])
    assert "not decidable here" in MODULATION.judge(made_up(few)).words.split("recall")[1]


def test_figure_has_a_panel_for_each_separator_and_tolerance(made):
    one, _ = made
    figure = MODULATION.draw(one.rows)
    assert len(figure.axes) == 4 * len(TOLERANCES)
    curve = one.rows[(one.rows["kind"] == "curve") & (one.rows["separator"] == "eos")]
    (line,) = figure.axes[0].lines
    assert line.get_ydata()[1:-1] == pytest.approx(curve[DECIDING].to_numpy())
    assert len(figure.axes[0].patches) == 4


def test_models_of_the_paper():
    assert len(MODELS[Scale.paper]) == 8
    assert TEXTS[Scale.small] == ("short", "long")
