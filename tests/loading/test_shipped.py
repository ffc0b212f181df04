"""Checkpoints by name: where they are found, what comes first, what is known of them."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from trained_checkpoints import TASK, TEST_SAMPLES, save_trained

import hf_ess
from hf_ess import InvalidInputError, ModelLoadError
from hf_ess.shipped import shipped_folder
from hf_ess.synthetics import (
    SyntheticForCausalLM,
    TrainedCheckpoint,
    accuracy,
    checkpoint_names,
    multi_query_recall,
)
from model_adapters.loading import load


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """The folder of the only shipped checkpoint, `small-gla`; the current folder is another."""
    monkeypatch.setattr("hf_ess.shipped.SHIPPED", tmp_path / "data")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return save_trained(tmp_path / "data" / "small-gla")


def test_a_name_loads_and_the_report_names_it(shipped) -> None:
    assert checkpoint_names() == ("small-gla",)
    texts = TrainedCheckpoint.read("small-gla").texts(2)
    report = hf_ess.analyze("small-gla", texts.input_ids, progress=False)
    assert [layer.mixer for layer in report.layers] == [
        "gated linear attention",
        "softmax attention",
    ]
    assert len(report.verified_layers) == 2
    known = {key: report.provenance[key] for key in ("model", "model_is_local", "model_type")}
    assert known == {
        "model": "small-gla",
        "model_is_local": False,
        "model_type": "hf_ess_synthetic",
    }
    by_folder = hf_ess.analyze(shipped, texts.input_ids, progress=False)
    assert by_folder.provenance["model"] == str(shipped)
    assert by_folder.average_ess() == report.average_ess()


def test_a_local_folder_of_that_name_comes_first(shipped) -> None:
    save_trained(shipped.parent.parent / "work" / "small-gla", "S6")
    loaded = load("small-gla").model
    assert loaded.config.mixers == ["S6"]
    assert TrainedCheckpoint.read("small-gla").model().config.mixers == ["S6"]
    shutil.rmtree("small-gla")
    assert load("small-gla").model.config.mixers == ["GLA", "SA"]


@pytest.mark.parametrize("name", ["org/small-gla", "small-gla/", "Small-GLA", "data/small-gla"])
@pytest.mark.usefixtures("shipped")
def test_no_other_name_means_it(name) -> None:
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load(name)
    with pytest.raises(InvalidInputError, match="is no trained synthetic model"):
        TrainedCheckpoint.read(name)


def test_what_is_known_of_it(shipped) -> None:
    checkpoint = TrainedCheckpoint.read("small-gla")
    assert (checkpoint.name, checkpoint.folder) == ("small-gla", shipped)
    assert (checkpoint.seed, checkpoint.test_samples) == (3, TEST_SAMPLES)
    assert checkpoint.task.to_dict().items() >= TASK.items()
    assert checkpoint.command == "hf-ess lab train run.yaml"
    model, texts = checkpoint.model(), checkpoint.texts()
    assert type(model) is SyntheticForCausalLM
    assert not model.training
    with torch.no_grad():
        assert accuracy(model(input_ids=texts.input_ids).logits, texts.labels) == (
            checkpoint.accuracy
        )


@pytest.mark.usefixtures("shipped")
def test_its_texts_are_those_of_the_test_set() -> None:
    checkpoint = TrainedCheckpoint.read("small-gla")
    arguments = {key: value for key, value in TASK.items() if key != "name"}
    expected = multi_query_recall(TEST_SAMPLES, seed=2**32 - 1, **arguments)
    for count in (1, 5, None):
        found = checkpoint.texts(count)
        assert torch.equal(found.input_ids, expected.input_ids[:count])
        assert torch.equal(found.labels, expected.labels[:count])
    for count in (0, -1, TEST_SAMPLES + 1):
        with pytest.raises(InvalidInputError, match="has 12 test texts"):
            checkpoint.texts(count)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("run.json", "{", "run.json of the checkpoint small-gla cannot be used: JSONDecodeError"),
        ("run.json", "[]", "it holds no object"),
        ("run.json", '{"seed": 1, "test_samples": 4}', "'task' cannot be read"),
        ("run.json", '{"task": {"name": "x"}, "seed": 1, "test_samples": 4}', "'task' cannot"),
        ("results.json", '{"command": "x"}', "'accuracy' cannot be read"),
        ("results.json", '{"accuracy": "all", "command": "x"}', "'accuracy' cannot be read"),
    ],
)
def test_damaged_records(shipped, file, content, words) -> None:
    (shipped / file).write_text(content)
    with pytest.raises(ModelLoadError, match=words):
        TrainedCheckpoint.read("small-gla")


def test_a_folder_without_records_is_a_model_all_the_same(shipped) -> None:
    (shipped / "run.json").unlink()
    assert load(shipped).model.config.mixers == ["GLA", "SA"]
    with pytest.raises(InvalidInputError, match="is no trained synthetic model"):
        TrainedCheckpoint.read(shipped)


@pytest.mark.usefixtures("shipped")
def test_an_unknown_name() -> None:
    with pytest.raises(InvalidInputError, match=r"No checkpoint 'gla'.*\n.*small-gla"):
        shipped_folder("gla")


def test_missing_weights_are_no_silent_random_weights(shipped) -> None:
    weights = load_file(shipped / "model.safetensors")
    del weights["layers.0.mixer.k_proj.weight"]
    save_file(weights, shipped / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="has no values for 1 weights") as caught:
        load(shipped)
    assert "layers.0.mixer.k_proj.weight" in caught.value.what


@pytest.mark.usefixtures("shipped")
def test_a_text_is_refused_by_name_of_what_is_missing() -> None:
    with pytest.raises(hf_ess.InvalidTypeError, match="needs a tokenizer") as caught:
        hf_ess.analyze("small-gla", "some words", progress=False)
    assert "token ids (--ids" in caught.value.fix
