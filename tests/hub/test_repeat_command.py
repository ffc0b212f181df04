"""The command of a card, read by a shell and by our own command line, measures the same again."""

from __future__ import annotations

import json
import shlex
import subprocess

import numpy as np
import pytest
from report.synthetic import make_layer, make_report
from tiny_checkpoints import some_text

import hf_ess
from hf_ess.hub.repeat_command import repeat_command
from hf_ess.report import ESSReport, SampleInfo
from hf_ess.report.publication import published

TEXT = some_text(70)
REVISION = "0123456789abcdef0123456789abcdef01234567"


def words_of(command):
    return shlex.split(command, comments=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"positions": "all"},
        {"positions": 7},
        {"positions": 40},
        {"positions": [9, 3, 20]},
        {"positions": [11]},
        {"tolerances": [0.3]},
        {"tolerances": [1e-7, 0.1 + 0.2, 5.0], "relative": True},
        {"window": (4, 7)},
        {"window": 6, "relative": True, "positions": 5},
        {"layers": [1]},
        {"layers": ["model.layers.0", 1]},
        {"layers": "model.layers.1.self_attn"},
        {"dtype": "bfloat16"},
        {"dtype": "float64", "accuracy": "exact"},
        {"method": "svd", "positions": 9},
        {"method": "divide-and-conquer", "positions": "all"},
        {"scope": "mixer"},
        {"batch_size": 2},
        {"method": "jacobian", "positions": [5, 30], "layers": 0},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Scope 'mixer'")
def test_run_again_it_gives_the_same_report(
    llama_folder, run_command, tmp_path, monkeypatch, settings
):
    texts = [TEXT, some_text(70, seed=1)] if "batch_size" in settings else [TEXT]
    report = hf_ess.analyze(str(llama_folder), texts, progress=False, **settings)
    monkeypatch.chdir(tmp_path)
    for number, text in enumerate(texts, start=1):
        name = "text.txt" if len(texts) == 1 else f"text-{number}.txt"
        (tmp_path / name).write_text(text)
    words = words_of(repeat_command(published(report), repo_id="user/model"))
    assert words[:3] == ["hf-ess", "analyze", "user/model"]
    status, _, err = run_command(
        "analyze", llama_folder, *words[3:], "--out", "again", "--no-plots"
    )
    assert status == 0, err
    again = ESSReport.load("again")
    asked, found = (each.provenance["settings"] for each in (report, again))
    assert found == asked
    assert again.fingerprint() == report.fingerprint()


@pytest.mark.filterwarnings("ignore:1 of 6 texts")
def test_texts_of_a_dataset_are_asked_for_as_one(llama_folder, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [{"id": "a", "words": some_text(20 + n, seed=n)} for n in range(8)]
    lines[5]["words"] = lines[7]["words"] = "w5"
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = [
        *("--dataset", "texts.jsonl", "--column", "words", "--samples", "6", "--max-length", "22"),
        "--leave-out-failing",
    ]
    status, _, err = run_command("analyze", llama_folder, *options, "--out", "r", "--no-plots")
    assert status == 0, err
    report = ESSReport.load("r")
    assert len(report.samples) == 5
    words = words_of(repeat_command(report, repo_id="user/model"))
    assert " ".join(options[:6]) in " ".join(words)
    assert "--file" not in words
    status, _, err = run_command(
        "analyze", llama_folder, *words[3:], "--out", "again", "--no-plots"
    )
    assert status == 0, err
    assert ESSReport.load("again").fingerprint() == report.fingerprint()


@pytest.mark.parametrize("column", ["$(rm)", "a b", 7])
def test_a_dataset_writes_nothing_but_names(column):
    dataset = {"files": ["x; rm -rf.TXT.gz", "\x1b[31m"], "column": column, "samples": "9"}
    report = make_report(provenance={"model": "org/model", "dataset": dataset})
    words = words_of(repeat_command(report))
    assert words[3:7] == ["--dataset", "texts-1.txt.gz", "--dataset", "texts-2.jsonl"]
    assert words[7] == "--positions"


def test_kept_singular_values_are_repeated_as_exact(llama_folder):
    report = hf_ess.analyze(llama_folder, TEXT, progress=False, keep_singular_values=True)
    assert "--accuracy exact" in repeat_command(report)
    again = hf_ess.analyze(llama_folder, TEXT, progress=False, accuracy="exact")
    for one, other in zip(report.layers, again.layers, strict=True):
        np.testing.assert_array_equal(one.entropy_ess, other.entropy_ess)


@pytest.fixture
def understood(monkeypatch, run_command, tmp_path):
    """The arguments with which the command line would call `analyze`."""

    def read(report, **options):
        seen = {}

        def remember(model, texts, **arguments):
            seen.update(arguments, model=model, texts=texts)
            raise hf_ess.InvalidInputError("only the arguments were wanted")

        monkeypatch.chdir(tmp_path)
        (tmp_path / "text.txt").write_text("a b")
        monkeypatch.setattr(hf_ess, "analyze", remember, raising=False)
        words = words_of(repeat_command(report, **options))
        assert words[0] == "hf-ess"
        status, _, err = run_command(*words[1:])
        assert (status, "only the arguments" in err) == (1, True), err
        return seen

    return read


def test_how_a_model_of_the_hub_is_loaded(understood):
    report = make_report(
        provenance={
            "model": "org/model-1.0", "model_is_local": False, "revision": REVISION,
            "dtype": "bfloat16", "device": "cuda:3", "remote_code": True, "quantization": "",
        }
    )  # fmt: skip
    seen = understood(report, repo_id="other/copy")
    assert (seen["model"], seen["texts"]) == ("org/model-1.0", ["a b"])
    expected = {
        "revision": REVISION, "dtype": "bfloat16", "device": "cuda", "device_map": None,
        "trust_remote_code": True, "positions": [2, 5, 9], "tolerances": (0.1, 0.001, 1e-05),
        "relative": False, "window": None, "layers": None, "batch_size": 1, "method": "auto",
        "accuracy": "certified", "scope": "core",
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("provenance", "repo_id", "model"),
    [
        ({"model": "org/model"}, None, "org/model"),
        ({"model": "gpt2", "model_is_local": False}, "me/x", "gpt2"),
        ({"model": "/home/jane/llama"}, "me/x", "me/x"),
        ({"model": "runs/llama", "model_is_local": True}, "me/x", "me/x"),
        ({"model": "llama", "model_is_local": True}, None, "MODEL"),
        ({"model": "Llama", "model_class": "Llama"}, "me/x", "me/x"),
        ({"model": "/models/tiny Q4.gguf"}, "me/x", "tiny Q4.gguf"),
        ({"model": "`x`.gguf", "model_is_local": True}, "me/x", "me/x"),
        ({"model": "org/`rm -rf`"}, None, "MODEL"),
        ({"model": "org/a\n```\n"}, "me/x", "me/x"),
        ({"model": "-rf"}, "--out=/etc", "MODEL"),
        ({}, "me/x<!-- hf_ess:end -->", "MODEL"),
    ],
)
def test_which_model_is_named(understood, provenance, repo_id, model):
    assert understood(make_report(provenance=provenance), repo_id=repo_id)["model"] == model


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        ({"dtype": "bfloat16, float32"}, {"dtype": "auto"}),
        ({"dtype": "float16", "quantization": "gptq"}, {"dtype": "auto"}),
        ({"dtype": "x; rm"}, {"dtype": "auto"}),
        ({"device": "cpu, cuda:0"}, {"device": None, "device_map": "auto"}),
        ({"device": "cpu"}, {"device": None, "device_map": None}),
        ({"settings": 3, "revision": REVISION, "model_is_local": True}, {"revision": None}),
        ({"settings": {"layers": [0, "a,b"]}}, {"layers": [0, 1, 2]}),
        ({"settings": {"layers": ["0-1"]}}, {"layers": [0, 1, 2]}),
        ({"settings": {"layers": [-1]}}, {"layers": [0, 1, 2]}),
        ({"settings": {"layers": ["x\n$(id)"]}}, {"layers": [0, 1, 2]}),
        ({"settings": {"layers": [0, 2]}}, {"layers": [0, 2]}),
        ({"settings": {"method": "svd\nrm", "batch_size": "x"}}, {"method": "auto"}),
    ],
)
def test_what_cannot_be_asked_for_is_left_out(understood, provenance, expected):
    seen = understood(make_report(provenance={"model": "org/model"} | provenance))
    assert {name: seen[name] for name in expected} == expected


def test_layers_without_numbers_and_names_are_all_measured(understood):
    report = make_report([make_layer(-1)], provenance={"settings": {"layers": ["a b"]}})
    assert understood(report)["layers"] is None


def test_a_shell_reads_it_as_one_command(tmp_path):
    program = tmp_path / "hf-ess"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    command = repeat_command(make_report(provenance={"model": "/m/a file; rm.gguf"}))
    assert "a file" not in command
    command = repeat_command(make_report(provenance={"model": "/m/a file.gguf"}))
    ended = subprocess.run(
        ["/bin/sh", "-c", command], env={"PATH": str(tmp_path)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ended.stdout.splitlines() == [
        "analyze", "a file.gguf", "--file", "text.txt", "--positions", "2,5,9", "--tolerance",
        "0.1", "--tolerance", "0.001", "--tolerance", "1e-05",
    ]  # fmt: skip


def test_the_comment_says_by_what_the_text_is_known():
    one = make_report()
    assert repeat_command(one).endswith(f"  # SHA-256 of text.txt: {'0' * 64}")
    assert "SHA-256 of the texts: see report.json" in repeat_command(make_report(lengths=(12, 11)))
    tokens = make_report(samples=[SampleInfo(length=12)])
    assert "token ids were measured" in repeat_command(tokens)
    assert "\n" not in repeat_command(one)
