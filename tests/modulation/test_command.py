"""`hf-ess modulate`: options reach the measurement, results on stdout, files where asked."""

from __future__ import annotations

import json

import pytest
from tiny_checkpoints import some_text

import hf_ess


@pytest.fixture
def own_text(tmp_path):
    """Passages of words that the tiny model knows, between blank lines."""
    path = tmp_path / "mine.txt"
    path.write_text("\n\n".join(some_text(length, length) for length in (20, 22, 60)) + "\n")
    return path


def test_a_table_on_stdout_and_files_in_the_folder(run_command, llama_folder, own_text, tmp_path):
    out_folder = tmp_path / "out"
    status, out, err = run_command(
        "modulate", llama_folder, "--file", own_text, "--separators", "none", "--out", out_folder
    )
    assert status == 0, err
    assert "State modulation of" in out
    assert out.count("tolerance-ESS") == 3
    assert {path.name for path in out_folder.iterdir()} == {"modulation.json", "modulation-0.png"}
    assert str(out_folder / "modulation.json") in err
    loaded = hf_ess.Modulation.load(out_folder / "modulation.json")
    assert [run.spans for run in loaded.runs] == [((20, 20), (42, 42))]


def test_options_reach_the_measurement(run_command, llama_folder, own_text):
    status, out, err = run_command(
        *("modulate", llama_folder, "--file", own_text, "--separators", "none"),
        *("--tolerance", "0.2", "--window", "8", "--layers", "1", "--draws", "7", "--seed", "3"),
        *("--format", "json"),
    )
    assert status == 0, err
    document = json.loads(out)
    assert document["tolerances"] == [0.2]
    assert document["window"] == [8, 8]
    assert document["runs"][0]["layers"] == ["model.layers.1.self_attn"]
    assert (document["provenance"]["draws"], document["provenance"]["seed"]) == (7, 3)


def test_results_of_before_are_compared(run_command, llama_folder, own_text, tmp_path):
    run_command(
        "modulate", llama_folder, "--file", own_text, "--separators", "none", "--out", tmp_path
    )
    saved = tmp_path / "modulation.json"
    status, out, err = run_command("modulate", saved, saved)
    assert status == 0, err
    assert "State modulation of 2 models" in out
    assert any(line.split()[:2] == ["model", "text"] for line in out.splitlines())
    assert out.count("entropy-ESS") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--separators", "comma"], "Unknown separator 'comma'"),
        (["--separators", ","], "lists nothing"),
        (["--texts", "poem"], "no text 'poem'"),
        (["--file", "absent.txt"], "Cannot read"),
        (["--separators", "eos"], "no end-of-text token"),
    ],
)
def test_what_cannot_be_done_is_said(run_command, llama_folder, options, message):
    status, out, err = run_command("modulate", llama_folder, *options)
    assert (status, out) == (1, "")
    assert message in err


def test_a_folder_is_for_one_model(run_command, tmp_path):
    status, _, err = run_command("modulate", "a.json", "b.json", "--out", tmp_path / "x")
    assert status == 1
    assert "--out is for one model" in err
