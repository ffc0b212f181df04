"""Checkpoints that were made to run code, to read other files, or to fill the memory."""

from __future__ import annotations

import builtins
import json
import shutil
import struct

import numpy as np
import pytest
import torch
import transformers.dynamic_module_utils as dynamic_modules
from reliability.hostile import Mark, edit_json
from safetensors.torch import load_file
from tiny_checkpoints import save_llama, some_text, write_gguf

import hf_ess
from hf_ess import HfEssError, ModelLoadError
from model_adapters.loading import load

PART = "Hostile input"
TEXT = some_text(6)
TRUST = "--trust-remote-code"
FAR = """
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

class FarConfig(LlamaConfig):
    model_type = "far-away"

class FarForCausalLM(LlamaForCausalLM):
    config_class = FarConfig

class FarTokenizer(PreTrainedTokenizerFast):
    pass
"""
AUTO_MAP = {
    "AutoConfig": "far.FarConfig",
    "AutoModelForCausalLM": "far.FarForCausalLM",
    "AutoTokenizer": [None, "far.FarTokenizer"],
}


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch):
    def ask(*_args):
        raise AssertionError("a person was asked")

    monkeypatch.setattr(builtins, "input", ask)


@pytest.fixture
def mark(tmp_path):
    return Mark(tmp_path)


@pytest.fixture
def checkpoint(tmp_path):
    return save_llama(tmp_path / "checkpoint")


@pytest.fixture
def with_code(checkpoint, mark, monkeypatch, tmp_path):
    """A checkpoint whose configuration, model and tokenizer are code of its own."""
    (checkpoint / "far.py").write_text(mark.module + FAR)
    changes = {"auto_map": AUTO_MAP, "trust_remote_code": True}
    edit_json(checkpoint / "config.json", model_type="far-away", **changes)
    tokenizer = {"tokenizer_class": "FarTokenizer", **changes}
    edit_json(checkpoint / "tokenizer_config.json", **tokenizer)
    monkeypatch.setattr(dynamic_modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return checkpoint


def refused(source, **options):
    with pytest.raises(ModelLoadError) as caught:
        load(source, **options)
    return caught.value


COMMANDS = {
    "analyze": ["analyze", "{model}", "--text", TEXT],
    "modulate": ["modulate", "{model}"],
    "recall": ["recall", "{model}", "--text", TEXT],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_no_code_of_a_checkpoint(command, with_code, mark, run_command, tried):
    arguments = [word.format(model=with_code) for word in COMMANDS[command]]
    status, out, err = run_command(*arguments)
    assert (status, out) == (1, "")
    assert TRUST in err
    assert not mark.is_there
    run_command(*arguments, TRUST)
    assert mark.is_there  # what it is made of, it would have done
    tried(
        PART,
        "A checkpoint brings Python code for its configuration, model and tokenizer, and asks to "
        "be trusted: analyze, modulate, recall",
        "Refused with what to do, and nothing ran; it ran with --trust-remote-code",
    )


def test_python_runs_no_code_of_a_checkpoint(with_code, mark):
    for use in (hf_ess.analyze, hf_ess.recall_perplexity):
        with pytest.raises(ModelLoadError, match="cannot be loaded") as caught:
            use(with_code, TEXT)
        assert "trust_remote_code=True" in caught.value.fix
    assert not mark.is_there


def test_a_tokenizer_with_code_is_left_out(with_code, mark, tried):
    edit_json(with_code / "config.json", model_type="llama", auto_map=None)
    assert load(with_code).tokenizer is None
    with pytest.raises(HfEssError, match="needs a tokenizer") as caught:
        hf_ess.analyze(with_code, TEXT, progress=False)
    assert any("trust_remote_code" in cause for cause in caught.value.causes)
    assert not mark.is_there
    assert load(with_code, trust_remote_code=True).tokenizer is not None
    assert mark.is_there
    tried(PART, "The tokenizer alone is code", "Loaded without it; a text is refused, no code ran")


def test_code_beside_a_gguf_file(with_code, mark, tried):
    file = write_gguf(with_code / "tiny.gguf")
    error = refused(file)
    assert "never run for a GGUF file" in error.causes[0]
    assert not mark.is_there
    shutil.copy(file, with_code.parent / "alone.gguf")
    assert load(with_code.parent / "alone.gguf").tokenizer is not None
    tried(PART, "Code lies beside a GGUF file", "Refused, nobody asked, no code ran")


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize("value", ["evil/kernel", "paged|evil/kernel@main:run", {"x": "evil/x"}])
def test_kernels_of_the_hub_are_code(checkpoint, key, value, tried):
    edit_json(checkpoint / "config.json", **{key: value})
    assert "asks for a program of the Hub" in refused(checkpoint).what
    tried(PART, "config.json names compute kernels of the Hub", "Refused before anything is loaded")


def _only_bin(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


def _sharded(folder, content):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(content)
    index = {
        "metadata": {},
        "weight_map": dict.fromkeys(weights, "pytorch_model-00001-of-00001.bin"),
    }
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def _named(suffix):
    def change(folder, content):
        (folder / "model.safetensors").unlink()
        (folder / f"weights{suffix}").write_bytes(content)

    return change


PICKLES = {
    "pytorch_model.bin": _only_bin,
    "shards": _sharded,
    **{suffix: _named(suffix) for suffix in (".pt", ".pth", ".ckpt", ".pkl", ".joblib", ".bin")},
}


@pytest.mark.parametrize("form", PICKLES)
def test_pickled_weights_never_run(form, checkpoint, mark, tried):
    PICKLES[form](checkpoint, mark.pickled)
    error = refused(checkpoint)
    assert "safetensors.torch.save_file" in error.fix
    assert "weights_only=False" not in str(error).replace(" ", "")
    assert "to `False`" not in str(error)
    assert not mark.is_there
    tried(
        PART,
        "Weights are a pickle that runs a command: pytorch_model.bin, shards, .pt, .pth, .ckpt, "
        ".pkl, .joblib",
        "Refused with how to convert to safetensors; the command did not run",
    )


def test_tensors_in_a_bin_file_are_read_and_nothing_else(checkpoint, mark):
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    torch.save(weights, checkpoint / "pytorch_model.bin")
    loaded = load(checkpoint).model.state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_what_lies_beside_the_weights_is_not_opened(checkpoint, mark, tried):
    names = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "model.joblib")
    for name in (*names, "tokenizer.pkl", "pytorch_model.bin"):
        (checkpoint / name).write_bytes(mark.pickled)
    array = np.empty(1, dtype=object)
    array[0] = 1
    np.savez(checkpoint / "arrays.npz", array)
    report = hf_ess.analyze(checkpoint, TEXT, progress=False)
    assert len(report.verified_layers) == 2
    assert not mark.is_there
    tried(PART, "Pickles of a training lie beside safetensors", "Never opened", times=7)


@pytest.mark.parametrize(
    "file", ["../outside.safetensors", "/{}", "C:\\x.safetensors", "a/../../x"]
)
def test_an_index_that_leads_out_of_its_folder(checkpoint, file, tried):
    outside = checkpoint.parent / "outside.safetensors"
    weights = load_file(checkpoint / "model.safetensors")
    shutil.move(checkpoint / "model.safetensors", outside)
    named = file.format(outside)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, named)}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names weights outside of its folder" in refused(checkpoint).what
    tried(PART, "The index of weights names files outside of the folder", "Refused, not read")


def test_an_adapter_that_names_another_model(checkpoint, tried):
    edit_json(checkpoint / "adapter_config.json", base_model_name_or_path="/etc", peft_type="LORA")
    assert "Merge it" in refused(checkpoint).fix
    tried(PART, "A folder of an adapter names its model by a path", "Refused with what to do")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"text_config": {"n_layer": 10**6}},
        {"num_experts": 10**9},
        {"vocab_size": 10**13},
        {"vocab_size": -1},
        {"hidden_size": 10**9},
        {"num_attention_heads": 0},
        {"num_hidden_layers": "many"},
        {"model_type": "../../x"},
        {"dtype": "evil"},
        {"hidden_act": "__import__"},
    ],
    ids=str,
)
def test_configurations_that_claim_too_much(checkpoint, changes, tried):
    edit_json(checkpoint / "config.json", **changes)
    refused(checkpoint)
    tried(PART, "config.json declares what cannot be", "A named error at once, no memory taken")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' + "9" * 100_000 + "}", "[]", "", "\0", '{"a":1e999}']
)
def test_configurations_that_are_none(checkpoint, content, tried):
    (checkpoint / "config.json").write_text(content)
    refused(checkpoint)
    tried(
        PART,
        "config.json is no configuration: too deep, too long, of another kind",
        "A named error",
    )


@pytest.mark.parametrize("length", [2**60, 90 * 2**20, 7])
def test_headers_of_safetensors_that_lie(checkpoint, length, tried):
    (checkpoint / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    assert "SafetensorError" in refused(checkpoint).what
    tried(PART, "The header of a safetensors file lies about its length", "A named error at once")


def _after(data, key, content):
    place = data.index(key) + len(key)
    return data[:place] + content + data[place + len(content) :]


QUERY = b"blk.0.attn_q.weight"
GGUF = {
    "tensors": lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:],
    "entries": lambda data: data[:16] + struct.pack("<Q", 2**60) + data[24:],
    "list": lambda data: _after(data, b"tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 0, 2**60)),
    "words": lambda data: _after(data, b"tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 8, 2**60)),
    "layers": lambda data: _after(data, b"llama.block_count", struct.pack("<II", 4, 2**31)),
    "shape": lambda data: _after(data, QUERY, struct.pack("<IQQ", 2, 2**40, 2**20)),
    "offset": lambda data: _after(data, QUERY, struct.pack("<IQQIQ", 2, 32, 32, 0, 2**50)),
}


@pytest.mark.parametrize("lie", GGUF)
def test_gguf_files_that_lie(gguf_file, tmp_path, lie, tried):
    file = tmp_path / "lying.gguf"
    file.write_bytes(GGUF[lie](gguf_file.read_bytes()))
    refused(file)
    tried(PART, "A GGUF file lies about numbers, lengths and places", "A named error at once")


@pytest.mark.parametrize("content", ['{"a":', "[]", '{"model":{"type":"x"}}', '{"version":"9"}'])
def test_damaged_tokenizers(checkpoint, content, tried):
    (checkpoint / "tokenizer.json").write_text(content)
    (checkpoint / "tokenizer_config.json").unlink()
    with pytest.raises(HfEssError, match="tokenizer"):
        hf_ess.analyze(checkpoint, TEXT, progress=False)
    report = hf_ess.analyze(checkpoint, torch.arange(2, 8)[None], progress=False)
    assert len(report.verified_layers) == 2
    tried(PART, "tokenizer.json is damaged", "A named error for a text; token ids are measured")


def test_a_pattern_that_tries_forever(checkpoint, tried):
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    content["pre_tokenizer"] = pattern | {"invert": False}
    (checkpoint / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(HfEssError, match="The tokenizer fails on the text") as caught:
        hf_ess.analyze(checkpoint, "a" * 200 + "b", progress=False)
    assert "made to take forever" in caught.value.causes[1]
    tried(PART, "A pattern of the tokenizer tries exponentially much", "A named error")


def test_what_may_be_loaded_is_bounded_by_its_caller(checkpoint, tried):
    declared = sum(weight.numel() for weight in load(checkpoint).model.parameters())
    assert load(checkpoint, most_parameters=2 * declared).model is not None
    edit_json(checkpoint / "config.json", num_hidden_layers=1000)
    error = refused(checkpoint, most_parameters=2 * declared)
    assert "at most" in error.what
    tried(PART, "config.json declares more than the weights hold", "Refused before it is built")
