"""`hf-ess lab`: results on stdout, messages on stderr, and the exit status."""

from __future__ import annotations

import json

import pytest
import yaml
from lab.in_this_process import train_here
from lab.paper.tiny_experiment import Tiny
from lab.small_runs import small_config

from hf_ess.errors import ReportError
from hf_ess.lab import EXPERIMENTS, SweepInterrupted, TrainingInterrupted


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(small_config(steps=2).to_yaml())
    return path


@pytest.fixture
def here(monkeypatch):
    train_here(monkeypatch)


def test_train(run_command, config_file, tmp_path):
    out = tmp_path / "run"
    status, said, messages = run_command(
        "lab", "train", config_file, "--out", out, "--set", "model.mixers=[SA]", "--format", "json"
    )
    assert status == 0
    numbers = json.loads(said)
    assert numbers == json.loads((out / "results.json").read_text())
    assert [layer["mixer"] for layer in numbers["layers"]] == ["softmax attention"]
    assert numbers["config"]["model"]["mixers"] == ["SA"]
    assert f"wrote {out}" in messages
    assert "Training: " in messages


def test_train_prints_a_table_and_chooses_a_folder(run_command, config_file, monkeypatch):
    monkeypatch.chdir(config_file.parent)
    status, said, messages = run_command("lab", "train", config_file)
    assert status == 0
    lines = said.splitlines()
    assert lines[0].startswith("multi_query_recall: accuracy 0.")
    assert "gated linear attention" in said
    assert "softmax attention" in said
    assert all(len(line) <= 120 for line in lines)
    assert (config_file.parent / "small" / "results.json").exists()
    status, again, messages = run_command("lab", "train", config_file)
    assert (status, again) == (0, said)
    assert "Training: " not in messages


def test_train_says_how_to_go_on(run_command, config_file, tmp_path, monkeypatch):
    def interrupted(config, folder):
        raise TrainingInterrupted(folder, 1, 2)

    monkeypatch.setattr("hf_ess.lab.train", interrupted)
    status, said, messages = run_command("lab", "train", config_file, "--out", tmp_path / "run")
    assert (status, said) == (130, "")
    assert "after 1 of 2 steps" in messages
    assert messages.endswith("interrupted\n")


def test_errors_are_named(run_command, config_file, tmp_path):
    status, said, messages = run_command("lab", "train", config_file, "--set", "stepz=3")
    assert (status, said) == (1, "")
    assert "There is no field of a configuration 'stepz'" in messages
    assert "'steps' is meant" in messages
    status, _, messages = run_command("lab", "train", tmp_path / "none.yaml")
    assert status == 1
    assert "cannot be read" in messages
    written = yaml.safe_load(config_file.read_text()) | {"sweep": {"seed": [0]}}
    config_file.write_text(yaml.safe_dump(written))
    status, _, messages = run_command("lab", "train", config_file)
    assert status == 1
    assert "describes many runs" in messages


def test_sweep(run_command, config_file, tmp_path, here):
    written = yaml.safe_load(config_file.read_text()) | {"sweep": {"seed": [0, 1]}}
    config_file.write_text(yaml.safe_dump(written))
    arguments = ["lab", "sweep", config_file, "--out", tmp_path / "sweep", "--processes", "1"]
    over = ["--over", "learning_rate=1e-3,2e-3", "--over", "model.mixers=[LA],[GLA]"]
    status, said, messages = run_command(*arguments, *over, "--format", "json")
    assert status == 0
    result = json.loads(said)
    assert (result["runs"], result["errors"]) == (8, {})
    assert [row["runs"] for row in result["summary"]] == [2] * 4
    assert sum(row["best"] for row in result["summary"]) == 2
    assert "Sweeping: " in messages
    status, said, _ = run_command(*arguments, *over)
    assert status == 0
    assert all(word in said for word in ("mixers", "LA", "GLA", "±", "best"))
    assert (tmp_path / "sweep" / "results.csv").exists()


def test_a_failed_run_is_the_exit_status(run_command, config_file, tmp_path, here):
    rates = ["--over", "learning_rate=1e-3,1e30", "--set", "gradient_clip=null"]
    options = ["--out", tmp_path / "sweep", *rates, "--set", "warmup_steps=0", "--set", "steps=4"]
    status, said, messages = run_command("lab", "sweep", config_file, *options)
    assert status == 1
    assert "0.001" in said
    assert "error: learning_rate=1e+30-" in messages
    assert "learning rate that is too high" in messages


def test_reproduce(run_command, tmp_path, here, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "tiny", Tiny())
    out = tmp_path / "out"
    status, said, messages = run_command("lab", "reproduce", "tiny", "--out", out)
    assert status == 0
    assert said.splitlines()[:2] == [
        "Squares are squares (nowhere)",
        "reproduced: The largest is 9.",
    ]
    assert f"wrote {out / 'small' / 'tiny'}" in messages
    status, said, _ = run_command("lab", "reproduce", "tiny", "--out", out, "--format", "json")
    assert status == 0
    record = json.loads(said)
    assert record == json.loads((out / "small" / "tiny" / "finding.json").read_text())
    assert record["verdict"] == "reproduced"


class Broken(Tiny):
    """A piece of the paper that cannot be measured."""

    def measure(self, work):
        raise ReportError("No model could be measured.")


@pytest.fixture
def three(monkeypatch):
    """Three experiments in place of all, the second of which fails."""
    for name in list(EXPERIMENTS):
        monkeypatch.delitem(EXPERIMENTS, name)
    for name, experiment in {"tiny": Tiny(), "broken": Broken(), "tinier": Tiny()}.items():
        experiment.name = name
        monkeypatch.setitem(EXPERIMENTS, name, experiment)


def test_reproduce_all(run_command, tmp_path, here, three):
    arguments = ["lab", "reproduce", "all", "--out", tmp_path, "--scale", "minute"]
    status, said, messages = run_command(*arguments)
    assert status == 1
    assert said.count("Squares are squares") == 2
    assert "error: broken: No model could be measured." in messages
    assert sorted(path.name for path in (tmp_path / "minute").iterdir()) == [
        *("tinier", "tiny", "trainings")
    ]
    EXPERIMENTS.pop("broken")
    status, said, _ = run_command(*arguments, "--format", "json")
    assert status == 0
    assert [record["name"] for record in json.loads(said)] == ["tiny", "tinier"]


def test_reproduce_all_says_once_what_is_wrong_for_all(run_command, tmp_path, three):
    status, said, messages = run_command("lab", "reproduce", "all", "--scale", "large")
    assert (status, said) == (1, "")
    assert messages.count("There is no scale 'large'") == 1


def test_reproduce_names_what_there_is(run_command, tmp_path):
    status, said, messages = run_command("lab", "reproduce", "colapse", "--out", tmp_path)
    assert (status, said) == (1, "")
    assert "There is no experiment 'colapse'" in messages
    assert "'collapse' is meant" in messages


@pytest.mark.parametrize(
    ("interruption", "words"),
    [
        (SweepInterrupted("sweep", 1, 2), "interrupted with 1 of 2 runs finished"),
        (KeyboardInterrupt(), "What is done is kept"),
    ],
)
def test_reproduce_says_how_to_go_on(run_command, tmp_path, three, interruption, words):
    class Ended(Tiny):
        def measure(self, work):
            raise interruption

    EXPERIMENTS["tiny"] = Ended()
    status, _, messages = run_command("lab", "reproduce", "all", "--out", tmp_path)
    assert status == 130
    assert words in messages
    assert "broken" not in messages
