"""Whatever goes wrong at the command line: one clear message, a status, nothing half-done."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
import warnings

import pytest
import torch
from tiny_checkpoints import some_text
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

import hf_ess
from hf_ess.cli import analyze_command

TEXT = some_text(14)


@pytest.fixture
def fails(run_command, llama_folder):
    """Runs `hf-ess analyze` with these options and returns the message of its error."""

    def run(*options, model=llama_folder, text=TEXT):
        given = [] if text is None else ["--text", text]
        status, out, err = run_command("analyze", model, *given, *options)
        message = err[err.index("error: ") :]
        assert (status, out) == (1, "")
        assert "Traceback" not in err
        return message

    return run


@pytest.fixture
def must_not_load(monkeypatch):
    """Fails the test if a model is loaded."""

    def load(*_args, **_kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("model_adapters.loading.load", load)


@pytest.mark.usefixtures("must_not_load")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--positions", "x"], "--positions 'x' is not a list of whole numbers"),
        (["--positions", ""], "--positions '' lists nothing"),
        (["--positions", ","], "--positions ',' lists nothing"),
        (["--positions", "1.5"], "--positions '1.5' is not a list of whole numbers"),
        (["--window", "a,b"], "--window 'a,b' is not a list of whole numbers"),
        (["--window", "0"], "one or two widths of at least 1"),
        (["--window", "1,2,3"], "one or two widths of at least 1"),
        (["--layers", " , "], "--layers ' , ' lists nothing"),
        (["--layers", "5-3"], "--layers '5-3' ends before it begins"),
        (["--tolerance", "0"], "must be positive and finite, got 0.0"),
        (["--tolerance", "-0.1"], "must be positive and finite, got -0.1"),
        (["--tolerance", "nan"], "must be positive and finite, got nan"),
        (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
    ],
    ids=" ".join,
)
def test_options_are_checked_before_a_model_is_loaded(fails, options, message):
    assert message in fails(*options)


@pytest.mark.usefixtures("must_not_load")
@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_text_is_found_before_a_model_is_loaded(fails, text):
    message = fails(text=text)
    assert message.startswith("error: The text is empty.\nWhat to do: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--positions", "0,3"], "Position 0 is out of range for a sequence of length 14"),
        (["--positions", "14,"], "Position 14 is out of range for a sequence of length 14"),
        (["--positions", "14"], "A stride of 14 leaves no position"),
        (["--layers", "9"], "No analysable layer is called 9"),
        (["--dtype", "int8"], "Unknown dtype 'int8'; choose one of auto, float64"),
        (["--device", "banana"], "The device 'banana' cannot be used"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit_the_model_or_the_text(fails, options, message):
    assert message in fails(*options)


def test_one_token(fails):
    assert "Sample 0 has 1 token(s)" in fails(text="w5")


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze"],
        ["analyze", "model", "--nonsense"],
        ["analyze", "model", "--tolerance", "small"],
        ["analyze", "model", "--format", "xml"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage(run_command, arguments):
    status, out, err = run_command(*arguments)
    assert (status, out) == (2, "")
    assert "Usage: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["binary.bin", "missing.txt", "."])
@pytest.mark.usefixtures("must_not_load")
def test_files_that_hold_no_text(fails, tmp_path, name):
    (tmp_path / "binary.bin").write_bytes(b"w5 \xff\xfe w6")
    message = fails("--file", tmp_path / name, text=None)
    expected = {
        "binary.bin": "is not UTF-8 text: invalid start byte at byte 3",
        "missing.txt": "cannot be read: No such file or directory",
        ".": "cannot be read: Is a directory",
    }
    assert expected[name] in message
    assert str(tmp_path) in message


@pytest.mark.usefixtures("must_not_load")
def test_stdin_that_holds_no_text(fails, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    assert "stdin is not UTF-8 text" in fails(text=None)


@pytest.mark.usefixtures("must_not_load")
def test_a_person_without_a_text_is_asked_for_one(fails, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert "Give --text, --file, or pipe a text" in fails(text=None)


def test_weights_that_are_not_finite(fails, monkeypatch):
    from model_adapters import loading

    load = loading.load

    def damaged(*args, **kwargs):
        loaded = load(*args, **kwargs)
        with torch.no_grad():
            loaded.model.model.layers[1].self_attn.k_proj.weight[0, 0] = torch.nan
        return loaded

    monkeypatch.setattr(loading, "load", damaged)
    message = fails()
    assert "layer model.layers.1.self_attn" in message
    assert "model.layers.1.self_attn.k_proj.weight" in message


BERT = BertConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=128
)
VIT = ViTConfig(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
    image_size=8,
    patch_size=4,
)


@pytest.mark.parametrize(
    ("model", "message"),
    [(BertModel(BERT), "is not causal"), (ViTModel(VIT), "no causal language model")],
    ids=["bert", "vit"],
)
def test_models_that_are_not_causal(fails, tokenizer, tmp_path, model, message):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert message in fails(model=tmp_path)


@pytest.fixture
def left_behind(tmp_path):
    """What lies in the folder where reports should go."""

    def paths():
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))

    return paths


@pytest.mark.usefixtures("must_not_load")
def test_a_full_disk_is_found_before_the_work(fails, tmp_path, left_behind, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    message = fails("--out", tmp_path / "new" / "report")
    assert "has 1.0 MiB free, the report needs about 50.0 MiB" in message
    assert left_behind() == []


@pytest.mark.usefixtures("must_not_load")
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written(fails, tmp_path, left_behind, monkeypatch, number):
    _fail_to_write(monkeypatch, number)
    message = fails("--out", tmp_path / "report")
    assert f"Cannot write to '{tmp_path / 'report'}': {os.strerror(number)}" in message
    assert "Likely causes" in message
    assert left_behind() == []


def _fail_to_write(monkeypatch, number):
    import builtins

    plain_open = builtins.open

    def failing_open(path, mode="r", *args, **kwargs):
        if set(mode) & set("wxa"):
            raise OSError(number, os.strerror(number), path)
        return plain_open(path, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", failing_open)


@pytest.mark.usefixtures("must_not_load")
@pytest.mark.parametrize("inside", [[], ["deeper"]], ids=["the folder", "its parent"])
def test_a_file_in_place_of_a_folder(fails, tmp_path, left_behind, inside):
    file = tmp_path / "report"
    file.write_text("precious")
    message = fails("--out", file.joinpath(*inside))
    assert "Cannot write to" in message
    assert "it is a file" in message
    assert left_behind() == ["report"]
    assert file.read_text() == "precious"


def test_a_disk_that_fills_up_meanwhile_leaves_the_earlier_report(
    fails, run_command, llama_folder, tmp_path, left_behind, monkeypatch
):
    arguments = ["analyze", llama_folder, "--text", TEXT, "--out", tmp_path, "--no-plots"]
    assert run_command(*arguments)[0] == 0
    earlier = hf_ess.ESSReport.load(tmp_path).fingerprint()
    files = left_behind()
    monkeypatch.setattr("hf_ess.report.check_writable", lambda *_args, **_kwargs: None)
    with monkeypatch.context() as patch:
        _fail_to_write(patch, errno.ENOSPC)
        message = fails("--out", tmp_path, "--no-plots", text=some_text(17))
    assert "No space left on device" in message
    assert left_behind() == files
    assert hf_ess.ESSReport.load(tmp_path).fingerprint() == earlier


def test_nothing_stays_behind_when_the_analysis_fails(fails, tmp_path, left_behind):
    fails("--layers", "9", "--out", tmp_path / "new" / "report")
    assert left_behind() == []


def test_an_interrupt_keeps_complete_layers(
    run_command, llama_folder, tmp_path, left_behind, monkeypatch
):
    report = hf_ess.analyze(str(llama_folder), TEXT, progress=False)
    report.complete, report.incomplete_reason = False, "interrupted"

    def interrupted(*_args, **_kwargs):
        raise hf_ess.AnalysisInterrupted(report)

    monkeypatch.setattr(hf_ess, "analyze", interrupted, raising=False)
    arguments = ["analyze", llama_folder, "--text", TEXT]
    status, out, err = run_command(*arguments, "--out", tmp_path)
    assert (status, out) == (130, "")
    assert f"kept 2 complete layer(s) in {tmp_path}, marked incomplete" in err
    assert err.endswith("interrupted\n")
    assert left_behind() == ["arrays.safetensors", "report.json"]
    assert not hf_ess.ESSReport.load(tmp_path).complete
    status, _, err = run_command(*arguments)
    assert (status, err) == (130, "interrupted\n")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), hf_ess.AnalysisInterrupted(None)])
def test_an_interrupt_before_the_first_layer(
    run_command, llama_folder, tmp_path, left_behind, monkeypatch, interruption
):
    def interrupted(*_args, **_kwargs):
        raise interruption

    monkeypatch.setattr(hf_ess, "analyze", interrupted, raising=False)
    status, out, err = run_command(
        "analyze", llama_folder, "--text", TEXT, "--out", tmp_path / "report"
    )
    assert (status, out, err) == (130, "", "interrupted\n")
    assert left_behind() == []


def test_settings_of_the_process_are_restored(run_command, llama_folder):
    before = warnings.showwarning, list(warnings.filters), torch.get_num_threads()
    assert run_command("analyze", llama_folder, "--text", TEXT)[0] == 0
    assert run_command("analyze", llama_folder, "--text", "")[0] == 1
    assert (warnings.showwarning, list(warnings.filters), torch.get_num_threads()) == before


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        ("3", [3]),
        ("0, 3,8-11", [0, 3, 8, 9, 10, 11]),
        ("model.layers.3, 7-7", ["model.layers.3", 7]),
        ("block-1.mixer", ["block-1.mixer"]),
        (None, None),
    ],
)
def test_lists_of_layers(words, layers):
    assert analyze_command.parsed_layers(words) == layers
