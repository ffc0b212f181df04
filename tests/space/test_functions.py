"""`analyze`, `compare` and `models` return JSON with the numbers of hf_ess, or say what to do."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import typing

import pytest
from space.test_instrument import instrument_of
from tiny_checkpoints import save_llama, some_text

import hf_ess
from hf_ess.errors import HfEssError, InvalidInputError, LimitError
from hf_ess.space.api import Api

TEXT = some_text(24)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = tmp_path_factory.mktemp("models")
    return [save_llama(made / "one"), save_llama(made / "two", num_hidden_layers=3)]


@pytest.fixture(scope="module")
def api(tmp_path_factory, folders):
    instrument = instrument_of(tmp_path_factory.mktemp("results"), *folders)
    return Api(instrument, "a program")


def as_json(value):
    """The value as it comes out of JSON, which knows no NaN."""
    return json.loads(json.dumps(value, allow_nan=False))


def test_models(api, folders):
    answer = as_json(api.models())
    assert [model["name"] for model in answer["models"]] == ["one", "two"]
    assert answer["models"][0]["bytes"] == 4 * answer["models"][0]["parameters"]
    assert answer["any_hub_model"] is False
    assert answer["limits"]["tokens"] == 1024
    assert str(folders[0].parent) not in json.dumps(answer)


def test_analyze_gives_the_numbers_of_hf_ess(api, folders):
    answer = as_json(api.analyze("one", TEXT, positions="8,16", tolerances=[0.1, 0.01]))
    report = hf_ess.analyze(
        folders[0], TEXT, positions=[8, 16], tolerances=[0.1, 0.01], progress=False
    )
    expected = report.to_dict()
    for part in ("positions", "tolerances", "model", "unsupported", "scope"):
        assert answer[part] == expected[part]
    for layer, other in zip(answer["layers"], expected["layers"], strict=True):
        assert layer.pop("verdict") == ""
        assert layer == other
    assert answer["words"][0].startswith("2 of 2 measured layers are verified")
    assert "w" + TEXT.split("w")[1].strip() not in json.dumps(answer)
    assert str(folders[0].parent) not in json.dumps(answer)


def test_the_same_question_has_the_same_key(api):
    first, second = (api.analyze("one", TEXT) for _ in range(2))
    assert first == second
    assert len(first["key"]) == 32


def test_compare_two_models_on_a_text(api, folders):
    answer = as_json(api.compare("one", TEXT, "two"))
    reports = [
        hf_ess.analyze(folder, TEXT, positions="all", accuracy="exact", progress=False)
        for folder in folders
    ]
    expected = hf_ess.compare(reports, names=["one", "two"], force=True).to_dict()
    for level in ("model", "depth", "position"):
        assert answer[level] == as_json(expected[level])
    assert answer["differences"] == []
    assert [report["name"] for report in answer["reports"]] == ["one", "two"]


def test_compare_two_texts_says_that_they_differ(api):
    answer = as_json(api.compare("one", TEXT, text_b=some_text(30, seed=9)))
    assert len(answer["keys"]) == 2
    assert any("text" in difference for difference in answer["differences"])
    assert answer["depth"]


def test_compare_by_keys(api):
    keys = [api.analyze(name, TEXT)["key"] for name in ("one", "two")]
    assert as_json(api.compare(key_a=keys[0], key_b=keys[1])) == as_json(
        api.compare("one", TEXT, "two")
    )
    assert api.compare(key_a=keys[0], model_b="two", text_b=TEXT)["keys"] == keys


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda api: api.analyze("../x", TEXT), InvalidInputError, "Choose one of the list"),
        (lambda api: api.analyze("one", ""), InvalidInputError, "Write or paste a text"),
        (lambda api: api.analyze("one", "a" * 2**20), LimitError, "takes 20,000"),
        (lambda api: api.analyze("one", TEXT, "8,x"), InvalidInputError, "whole numbers"),
        (lambda api: api.analyze("one", TEXT, scope="all"), InvalidInputError, "core, mixer"),
        (lambda api: api.analyze("one", TEXT, tolerances=[-1]), InvalidInputError, "positive"),
        (lambda api: api.compare("one", TEXT), InvalidInputError, "nothing to compare with"),
        (lambda api: api.compare(key_a="x", key_b="y"), InvalidInputError, "not name a result"),
        (lambda api: api.compare(key_a="0" * 32, key_b="1" * 32), HfEssError, "Measure the text"),
        (lambda api: api.compare("", "", "one", TEXT), InvalidInputError, "text to measure"),
    ],
)
def test_errors_say_what_to_do(api, call, error, said):
    with pytest.raises(error, match=said):
        call(api)


@pytest.mark.parametrize("argument", ["model", "positions", "scope"])
def test_a_megabyte_in_any_argument_is_answered_in_a_line(api, argument):
    with pytest.raises(HfEssError) as refused:
        api.analyze(**{"model": "one", "text": TEXT, argument: "x" * 2**20})
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", ["models", "analyze", "compare"])
def test_functions_are_typed_and_every_argument_is_described(name):
    function = getattr(Api, name)
    hints = typing.get_type_hints(function)
    parameters = [p for p in inspect.signature(function).parameters if p != "self"]
    assert set(hints) == {*parameters, "return"}
    document = inspect.getdoc(function)
    for parameter in parameters:
        assert f"    {parameter}: " in document
    assert "Returns:" in document


def test_the_instrument_works_without_gradio():
    code = (
        "import sys; import hf_ess.space.api, hf_ess.space.prompts; "
        "sys.exit('gradio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
