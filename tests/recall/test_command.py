"""`hf-ess recall`: every option reaches the measurement, results on stdout, the rest on stderr."""

from __future__ import annotations

import json

import pytest
from tiny_checkpoints import some_text

import hf_ess

TEXT = some_text(40) + " " + some_text(40)


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def _document(run_command, folder, *options):
    status, out, err = run_command("recall", folder, "--format", "json", *options)
    assert status == 0, err
    assert "Scoring" in err
    return json.loads(out)


def test_json_is_the_result_and_nothing_else(run_command, llama_folder, text_file):
    found = _document(run_command, llama_folder, "--file", text_file)
    assert found == hf_ess.recall_perplexity(str(llama_folder), TEXT, progress=False).to_dict()
    assert found["recall"]["count"] >= 39


def test_options_reach_the_measurement(run_command, llama_folder, text_file, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(some_text(20))
    words = ["--window", "32", "--stride", "8", "--batch-size", "2", "--dtype", "float64"]
    words += ["--exclude-common", "0", "--corpus", str(corpus)]
    found = _document(run_command, llama_folder, "--file", text_file, *words)
    expected = hf_ess.recall_perplexity(
        str(llama_folder),
        TEXT,
        window=32,
        stride=8,
        batch_size=2,
        dtype="float64",
        exclude_common=0,
        corpus=some_text(20),
        progress=False,
    )
    assert found == expected.to_dict()
    assert found["settings"]["dtype"] == "float64"
    assert found["settings"]["windows"] > 1


def test_ids_and_the_table(run_command, llama_folder, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("5 6 7 5 6 7\n8 9 8 9\n")
    status, out, err = run_command("recall", llama_folder, "--ids", ids)
    assert status == 0, err
    assert "2 texts" in out
    assert "recall" in out
    assert "standard" in out


def test_what_cannot_be_scored_is_a_named_error(run_command, llama_folder, text_file):
    for options, said in (
        (["--text", "w5"], "1 token(s)"),
        (["--file", text_file, "--exclude-common", "3"], "need each other"),
        (["--file", text_file, "--window", "4", "--stride", "4"], "leaves no context"),
    ):
        status, out, err = run_command("recall", llama_folder, *options)
        assert (status, out) == (1, "")
        assert "error: " in err
        assert said in err
