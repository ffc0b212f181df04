"""`hf-ess analyze` of models without words: texts of their own task, or token ids from a file."""

from __future__ import annotations

import io
import json
import shlex
import sys

import numpy as np
import pytest
import torch
from trained_checkpoints import TASK, save_trained

import hf_ess
from hf_ess.hub.repeat_command import repeat_command
from hf_ess.synthetics import Task

NAME = "small-gla"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Where the only shipped checkpoint lies."""
    monkeypatch.setattr("hf_ess.shipped.SHIPPED", tmp_path / "data")
    return save_trained(tmp_path / "data" / NAME)


@pytest.fixture
def analyzed(run_command, tmp_path):
    """Runs the command; returns the saved report and stderr."""

    def run(*options):
        folder = tmp_path / "report"
        status, out, err = run_command(
            "analyze", *options, "--out", folder, "--no-plots", "--format", "json"
        )
        assert status == 0, err
        return hf_ess.ESSReport.load(folder), json.loads(out), err

    return run


@pytest.fixture
def fails(run_command):
    """The message of a command that ends with a named error."""

    def run(*options):
        status, out, err = run_command("analyze", *options)
        assert (status, out) == (1, "")
        assert "error: " in err
        return err

    return run


def _ids_of(report):
    return [sample.token_ids.tolist() for sample in report.samples]


@pytest.mark.parametrize("samples", [None, 3], ids=["default", "--samples 3"])
def test_its_own_texts_are_measured(shipped, analyzed, samples) -> None:
    options = [] if samples is None else ["--samples", samples]
    report, document, err = analyzed(NAME, *options)
    count = samples or 8
    expected = Task.from_dict(TASK).test_texts(12).input_ids[:count]
    assert _ids_of(report) == expected.tolist()
    assert report.provenance["samples_of_own_task"] == count
    assert document["texts"] == [16] * count
    assert f"the first {count} texts of the test set of multi_query_recall (length 16, " in err
    by_name = hf_ess.analyze(NAME, expected, progress=False)
    np.testing.assert_array_equal(report.layers[0].entropy_ess, by_name.layers[0].entropy_ess)


def test_a_folder_with_the_records_of_a_training(tmp_path, analyzed) -> None:
    folder = save_trained(tmp_path / "mine", "Mamba")
    report, _, err = analyzed(folder, "--samples", "2")
    assert [layer.mixer for layer in report.layers] == ["mamba"]
    assert "the first 2 texts" in err


@pytest.mark.usefixtures("shipped")
def test_the_command_that_repeats_it(run_command, analyzed, monkeypatch) -> None:
    report, _, _ = analyzed(NAME, "--samples", "2", "--positions", "4,9")
    command, _, remark = repeat_command(report).partition("  # ")
    assert command.startswith(f"hf-ess analyze {NAME} --samples 2 --positions 4,9 ")
    assert remark == "on texts of the model's own task"
    again, _, _ = analyzed(*shlex.split(command)[2:])
    assert _ids_of(again) == _ids_of(report)
    np.testing.assert_array_equal(again.layers[1].entropy_ess, report.layers[1].entropy_ess)


@pytest.mark.usefixtures("shipped")
def test_the_card_and_the_comparison_of_such_reports(run_command, analyzed, tmp_path) -> None:
    analyzed(NAME, "--samples", "2")
    status, out, _ = run_command("card", tmp_path / "report")
    assert status == 0
    assert "| model | small-gla |" in out
    assert "| source of the texts | the model's own task |" in out
    other = save_trained(tmp_path / "other", "S6", "SA")
    folder = tmp_path / "second"
    run_command("analyze", other, "--samples", "2", "--out", folder, "--no-plots")
    plot = tmp_path / "both.png"
    status, out, err = run_command("compare", tmp_path / "report", folder, "--plot", plot)
    assert status == 0, err
    assert "small-gla" in out
    assert "other" in out
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_token_ids(tmp_path, analyzed, monkeypatch, source) -> None:
    folder = save_trained(tmp_path / "model", "LA")
    (folder / "run.json").unlink()
    text = "1 2 3 4 5\n\n7, 8,9\n"
    path = tmp_path / "ids.txt"
    path.write_text(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    report, _, _ = analyzed(folder, "--ids", path if source == "file" else "-")
    assert _ids_of(report) == [[1, 2, 3, 4, 5], [7, 8, 9]]
    assert "samples_of_own_task" not in report.provenance
    expected = hf_ess.analyze(folder, torch.tensor([[7, 8, 9]]), progress=False)
    np.testing.assert_allclose(
        report.layers[0].entropy_ess[1:, :, :2], expected.layers[0].entropy_ess, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--text", "some words"], "it has no tokenizer"),
        (["--samples", "13"], "has 12 test texts, 13 were asked for"),
        (["--samples", "0"], "has 12 test texts, 0 were asked for"),
        (["--samples", "2", "--text", "a"], "Give --text or --file or --samples, not 2 of them"),
        (["--ids", "nothing.txt"], "nothing.txt cannot be read: No such file"),
        (["--ids", "nothing.txt", "--samples", "2"], "Give --ids or --samples"),
        (["--job", "cpu-basic", "--ids", "ids.txt"], "--ids names a file on this machine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("shipped")
def test_what_is_refused(fails, tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("1 2 3")
    assert words in fails(NAME, *options)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 2\n3 four", "Line 2 of the token ids holds 'four'"),
        ("1 -2", "holds '-2'"),
        (" \n", "There are no token ids"),
        ("99 3", "Sample 0 holds the token id 99, the model knows 0..15"),
    ],
)
@pytest.mark.usefixtures("shipped")
def test_files_that_hold_no_token_ids(fails, tmp_path, content, words) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(content)
    assert words in fails(NAME, "--ids", path)


def test_samples_of_a_model_without_a_task(fails, llama_folder) -> None:
    assert "has no texts of its own" in fails(llama_folder, "--samples", "2")
