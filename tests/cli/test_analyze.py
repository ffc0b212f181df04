"""`hf-ess analyze`: every option reaches the analysis, results on stdout, the rest on stderr."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import torch
from tiny_checkpoints import some_text

import hf_ess

TEXT = some_text(21)


@pytest.fixture
def analyze_json(run_command, llama_folder):
    """The report as JSON for these options."""

    def run(*options, model=llama_folder):
        status, out, err = run_command("analyze", model, "--format", "json", *options)
        assert status == 0, err
        return json.loads(out)

    return run


def _analyze(folder, text=TEXT, **arguments):
    return hf_ess.analyze(str(folder), text, progress=False, **arguments)


def _no_time(document):
    return {key: value for key, value in document.items() if key != "created_at"}


def test_json_is_the_report_and_nothing_else(run_command, llama_folder):
    status, out, err = run_command("analyze", llama_folder, "--text", TEXT, "--format", "json")
    assert status == 0
    expected = _analyze(llama_folder).to_dict()
    assert _no_time(json.loads(out)) == _no_time(json.loads(json.dumps(expected)))
    assert out == json.dumps(json.loads(out), indent=2) + "\n"
    assert "Analysing" in err
    assert "NaN" not in out


def test_json_has_null_for_what_does_not_exist(analyze_json):
    document = analyze_json("--text", TEXT)
    entropy = document["model"]["entropy-ESS"]
    assert entropy["standard_error_over_texts"] is None
    assert 1 < entropy["average_per_channel"] < 21
    assert [row["verified"] for row in document["layers"]] == [True, True]
    assert [row["state_size"] for row in document["layers"]] == [None, None]


def test_the_table_is_on_stdout_and_the_rest_on_stderr(run_command, llama_folder):
    status, out, err = run_command("analyze", llama_folder, "--text", TEXT)
    assert status == 0
    report = _analyze(llama_folder)
    lines = [line.rstrip() for line in out.rstrip().splitlines()]
    assert lines == report.summary().rstrip().splitlines()
    assert "1 text, 20 positions" in out
    assert "Analysing" not in out
    assert "\x1b" not in out
    assert "Analysing" in err


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--positions", "all"], {"positions": "all"}),
        (["--positions", "5"], {"positions": 5}),
        (["--positions", "3, 9,17"], {"positions": [3, 9, 17]}),
        (["--positions", "7,"], {"positions": [7]}),
        (["--tolerance", "0.2"], {"tolerances": [0.2]}),
        (["--tolerance", "1e-2", "--tolerance", "0.3"], {"tolerances": [1e-2, 0.3]}),
        (["--relative"], {"relative": True}),
        (["--window", "6"], {"window": 6}),
        (["--window", "4,7"], {"window": (4, 7)}),
        (["--layers", "1"], {"layers": [1]}),
        (["--layers", "0-1"], {"layers": [0, 1]}),
        (["--layers", "1, model.layers.0"], {"layers": [1, "model.layers.0"]}),
        (["--dtype", "bfloat16"], {"dtype": torch.bfloat16}),
        (["--dtype", "float64"], {"dtype": torch.float64}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--batch-size", "3"], {"batch_size": 3}),
        (["--revision", "main"], {"revision": "main"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options(analyze_json, llama_folder, options, arguments):
    text = some_text(66)
    found = _no_time(analyze_json("--text", text, *options))
    expected = _analyze(llama_folder, text, **arguments).to_dict()
    assert found == _no_time(json.loads(json.dumps(expected)))
    changes_nothing = options[0] in ("--device", "--revision") or options[1:] == ["all"]
    assert (found == _no_time(analyze_json("--text", text))) == changes_nothing


def test_several_texts_and_files(analyze_json, tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text(some_text(15, seed=1))
    two.write_bytes(b"\xef\xbb\xbf" + some_text(9, seed=2).encode())
    found = analyze_json("--text", TEXT, "--file", one, "--text", some_text(12), "--file", two)
    assert found["texts"] == [21, 12, 15, 9]
    assert found["model"]["entropy-ESS"]["standard_error_over_texts"] > 0


@pytest.mark.parametrize("options", [[], ["--file", "-"]], ids=["no option", "--file -"])
def test_stdin(analyze_json, monkeypatch, options):
    stdin = io.TextIOWrapper(io.BytesIO(TEXT.encode()), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert _no_time(analyze_json(*options)) == _no_time(analyze_json("--text", TEXT))


def test_out_holds_the_report_and_its_plots(run_command, llama_folder, tmp_path):
    folder = tmp_path / "new" / "report"
    status, out, err = run_command("analyze", llama_folder, "--text", TEXT, "--out", folder)
    assert status == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "arrays.safetensors",
        "heatmap.png",
        "positions.png",
        "profile.png",
        "report.json",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))
    assert all(f"wrote {folder / name}" in err for name in names)
    assert "wrote" not in out
    loaded = hf_ess.ESSReport.load(folder)
    expected = _analyze(llama_folder)
    assert loaded.fingerprint() == expected.fingerprint()
    for layer, other in zip(loaded.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(layer.entropy_ess, other.entropy_ess)


def test_out_without_plots(run_command, llama_folder, tmp_path):
    status, _, _ = run_command(
        "analyze", llama_folder, "--text", TEXT, "--out", tmp_path, "--no-plots"
    )
    assert status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "arrays.safetensors",
        "report.json",
    ]


def test_a_gguf_file(analyze_json, gguf_file):
    document = analyze_json("--text", "hello, that is the text", model=gguf_file)
    assert document["provenance"]["model"] == "tiny.gguf"
    assert document["provenance"]["dtype"] == "float32"
    assert document["texts"] == [21]
    assert [row["verified"] for row in document["layers"]] == [True, True]


@pytest.mark.filterwarnings("default:Tolerance 1e-18:hf_ess.NumericalFloorWarning")
def test_warnings_are_plain_lines_on_stderr_and_in_the_table(run_command, llama_folder):
    status, out, err = run_command("analyze", llama_folder, "--text", TEXT, "--tolerance", "1e-18")
    assert status == 0
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "Tolerance 1e-18 lies below the rounding floor" in warnings[0]
    assert "run.py" not in err
    assert "* the tolerance is at or below the rounding error" in out


def test_no_noise_of_other_libraries(run_command, llama_folder, recwarn):
    _, _, err = run_command("analyze", llama_folder, "--text", TEXT, "--device", "cpu")
    shown = {line.split(":")[0].strip() for line in err.splitlines()}
    assert shown <= {"", "Loading weights", "Analysing"}
    assert not recwarn.list


def test_adapters_as_json(run_command):
    status, out, err = run_command("adapters", "--format", "json")
    rows = json.loads(out)
    assert (status, err) == (0, "")
    assert {"softmax attention", "softmax attention (inline)"} <= {row["mixer"] for row in rows}
    assert all(set(row) == {"mixer", "models", "class"} and all(row.values()) for row in rows)


def test_adapters_as_a_table(run_command):
    status, out, err = run_command("adapters")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].split() == ["mixer", "models", "class"]
    assert "softmax attention (inline)" in out
    assert "InlineAttention" in out


def test_version(run_command):
    assert run_command("--version") == (0, f"hf-ess {hf_ess.__version__}\n", "")
