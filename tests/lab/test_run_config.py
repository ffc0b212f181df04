"""Configurations: files and words in, values out, and what is wrong is named."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from lab.small_runs import small_config

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.lab import RunConfig
from hf_ess.lab.batches import training_batch
from hf_ess.lab.plain_yaml import parsed
from hf_ess.lab.run_config import REGULARIZERS, differences
from hf_ess.lab.written import axes_from, read_written, split_axes, with_settings

WRITTEN = """
task: {name: multi_query_recall, length: 16, pairs: 2, vocabulary: 16}
model:
  mixers: [GLA, SA]
  hidden_size: 32
learning_rate: 2e-3   # YAML 1.1 alone would read this as text
weight_decay: 1.0e-1
tolerances: [1e-2, 1e-4]
probe_positions: [4, 8]
regularizer: {name: transition, weight: 0.125, layers: [1]}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(WRITTEN)
    return path


def test_a_file_is_read_and_written_back(file, tmp_path):
    config = RunConfig.read(file)
    assert (config.learning_rate, config.tolerances) == (0.002, (0.01, 0.0001))
    assert (config.betas, config.probe_positions) == ((0.9, 0.999), (4, 8))
    assert config.model_config().hidden_size == 32
    assert config.model_config().vocab_size == 16
    for name, text in {"a.yaml": config.to_yaml(), "a.json": json.dumps(config.to_dict())}.items():
        (tmp_path / name).write_text(text)
        assert RunConfig.read(tmp_path / name) == config
    assert yaml.safe_load(config.to_yaml()) == config.to_dict()


def test_a_configuration_cannot_change(file):
    config = RunConfig.read(file)
    with pytest.raises(AttributeError):
        config.steps = 3
    config.model_config()
    assert RunConfig.read(file) == config


def test_arguments_of_the_task_take_turns():
    config = small_config(cycle={"pairs": [1, 2], "power": [0.1, 0.2, 0.3]})
    turns = [config.task_of_step(step).arguments for step in range(6)]
    assert [turn["pairs"] for turn in turns] == [1, 2, 1, 2, 1, 2]
    assert [turn["power"] for turn in turns] == [0.1, 0.2, 0.3] * 2
    assert config.task.arguments["power"] == 0.1
    for step, asked in ((0, 1), (1, 2)):
        labels = training_batch(config, step, torch.device("cpu")).labels
        assert ((labels != -100).sum(1) == asked).all()
    assert RunConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "cycle", [{"pairs": 2}, {"pairs": []}, {"length": [8, 16]}, {"pears": [1]}, {"pairs": [99]}]
)
def test_turns_that_cannot_be_taken_are_refused(cycle):
    with pytest.raises(InvalidInputError):
        small_config(cycle=cycle)


def test_differences_name_the_fields():
    one, other = small_config(), small_config(seed=4, regularizer={"name": "hankel"})
    assert differences(one, one) == []
    assert differences(one, other) == ["seed: 0 and 4", "regularizer: None and {'name': 'hankel'}"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("stepz=3", r"no field .*'stepz'.*\n.*\n.*'steps' is meant"),
        ("model.hiden_size=3", r"no argument of the model 'hiden_size'.*\n.*\n.*'hidden_size'"),
        ("model.vocab_size=3", "no argument of the model 'vocab_size'"),
        ("model.mixers=[GLU]", "there is no mixer 'GLU'"),
        ("task.name=recall", "no task 'recall'"),
        ("task.pears=3", r"no argument 'pears'"),
        ("task.pairs=99", "do not fit into"),
        ("steps=0", "steps must be from 1 to"),
        ("steps=2000000", "steps must be from 1 to"),
        ("seed=-1", "seed must be from 0 to"),
        ("seed=5000", "seed must be from 0 to 4094"),
        ("batch_size=0", "batch_size must be at least 1"),
        ("learning_rate=0", "learning_rate must be above 0"),
        ("learning_rate=.nan", "learning_rate must be finite"),
        ("weight_decay=-1", "weight_decay must be at least 0"),
        ("gradient_clip=0", "gradient_clip must be above 0"),
        ("betas=[0.9, 1.0]", "betas must be below 1"),
        ("schedule=linear", "no schedule 'linear'"),
        ("dtype=float16", "no dtype 'float16'"),
        ("device=gpu", "no device 'gpu'"),
        ("probe_samples=600", "fewer than the 600 of probe_samples"),
        ("probe_positions=[99]", "99"),
        ("probe_positions=some", "some"),
        ("evaluate_every=0", "evaluate_every must be at least 1"),
        ("tolerances=[0]", "tolerances must be above 0"),
        ("regularizer.name=es", r"no regularizer 'es'.*\n.*\n.*'ess' is meant"),
        ("regularizer.target=1", "argument of the regularizer 'transition' 'target'"),
        ("regularizer.weight=-1", "weight must be at least 0"),
    ],
)
def test_wrong_values_are_named(file, word, message):
    with pytest.raises(InvalidInputError, match=message):
        RunConfig.from_dict(with_settings(read_written(file), [word]))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("steps=1.5", "steps must be a whole number"),
        ("steps=true", "steps must be a whole number"),
        ("learning_rate=fast", "learning_rate must be a number"),
        ("betas=0.9", "betas must be two numbers"),
        ("tolerances=0.1", "tolerances must be numbers"),
        ("model=GLA", "model must be a mapping"),
        ("model.hidden_size=wide", "hidden_size must be a whole number, got 'wide'"),
        ("task=compression", "A task is a mapping"),
        ("regularizer=ess", "regularizer must be a mapping"),
        ("regularizer={name: ess}", "cannot be built"),
        ("device=3.5", "device must be"),
    ],
)
def test_wrong_types_are_named(file, word, message):
    with pytest.raises(InvalidTypeError, match=message):
        RunConfig.from_dict(with_settings(read_written(file), [word]))


def test_a_task_is_needed():
    with pytest.raises(InvalidInputError, match="has no task"):
        RunConfig.from_dict({"steps": 3})
    with pytest.raises(InvalidTypeError, match=r"must be a hf_ess\.synthetics\.Task"):
        RunConfig({"name": "compression", "length": 8})


def test_every_regularizer_can_be_chosen():
    needed = {"ess": {"target": 0.5}}
    built = {
        name: small_config(regularizer={"name": name, **needed.get(name, {})}).build_regularizer(
            _model()
        )
        for name in REGULARIZERS
    }
    assert {name: type(one) for name, one in built.items()} == REGULARIZERS


def _model():
    from hf_ess.synthetics import build_model

    return build_model(small_config().model_config())


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("task: [", InvalidInputError, "is not YAML in line"),
        ("- 1", InvalidTypeError, "must hold a mapping"),
        ("", InvalidTypeError, "must hold a mapping"),
        ("task: !!python/object/apply:os.getcwd []", InvalidInputError, "is not YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, error, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        RunConfig.read(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        RunConfig.read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("task: é".encode("latin-1"))
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        RunConfig.read(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    "text", ["1e-3", "1E-3", "1.0e-3", "+1e-3", "0.001", ".1e-2", ".01e-1", "10.e-4"]
)
def test_numbers_as_people_write_them(text):
    assert parsed(text, "a number") == 0.001


def test_words_stay_words():
    assert parsed("[e3, 1e, GLA-S6, 12e3x]", "words") == ["e3", "1e", "GLA-S6", "12e3x"]


@pytest.mark.parametrize("text", ["no", "on", "Yes", "010", "0x10", "1_000", "1:30", "2001-02-03"])
def test_what_yaml_1_1_takes_for_something_else_is_text(text):
    assert parsed(f"[{text}]", "a word") == [text]
    with pytest.raises(InvalidTypeError, match="seed must be a whole number"):
        RunConfig.from_dict(small_config().to_dict() | {"seed": parsed(text, "a word")})


def test_single_values():
    assert parsed("[true, False, null, ~, -3, 0, +2]", "values") == [
        *(True, False, None, None),
        *(-3, 0, 2),
    ]
    assert parsed("[.inf, -.inf]", "values") == [float("inf"), -float("inf")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nsteps: 2\nseed: 3", r"in line 3, column 1: 'seed' stands there twice"),
        ('{"model": {"a": 1, "a": 2}}', r"in line 1, column 20: 'a' stands there twice"),
        ("a: &a [*a]", "holds what no configuration can"),
        ("[" * 3000, "holds what no configuration can"),
        ("a: !!binary aGk=", "holds what no configuration can"),
        ("a: !!timestamp 2001-13-40", "holds what no configuration can"),
    ],
)
def test_what_no_configuration_holds_is_refused(text, message):
    with pytest.raises(InvalidInputError, match=message):
        parsed(text, "a file")


def test_merged_keys_may_be_overridden():
    text = "base: &base {seed: 1, steps: 2}\nmine: {<<: *base, seed: 3}"
    assert parsed(text, "a file")["mine"] == {"seed": 3, "steps": 2}


def test_an_axis_that_is_given_twice_is_refused():
    with pytest.raises(InvalidInputError, match="'seed' is given twice"):
        axes_from(["seed=0", "seed=1"])


def test_settings_do_not_change_what_they_are_put_into():
    before = {"model": {"mixers": ["LA"]}}
    after = with_settings(before, ["model.mixers=[SA]", "regularizer.name=ess"])
    assert before == {"model": {"mixers": ["LA"]}}
    assert after == {"model": {"mixers": ["SA"]}, "regularizer": {"name": "ess"}}


@pytest.mark.parametrize("word", ["seed", "=3", "model.=3", "seed.more=3", "seed=[", "seed.a.b=1"])
def test_settings_that_name_nothing(word):
    with pytest.raises(InvalidInputError):
        with_settings({"seed": 0}, [word])


def test_axes_of_words_and_files():
    words = ["seed=0,1", "regularizer=null,{name: ess, target: 0.5}", "learning_rate=1e-3"]
    assert axes_from(words) == {
        "seed": [0, 1],
        "regularizer": [None, {"name": "ess", "target": 0.5}],
        "learning_rate": [0.001],
    }
    assert split_axes({"steps": 1}) == ({"steps": 1}, {})
    with pytest.raises(InvalidTypeError, match="sweep must be a mapping"):
        split_axes({"sweep": [1]})
    with pytest.raises(InvalidInputError, match="not of the form key=value"):
        axes_from(["seed"])
