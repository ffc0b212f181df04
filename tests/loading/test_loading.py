"""Models by name: what loads, and what is refused with which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import save_llama
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
)

import hf_ess
from hf_ess import InvalidInputError, ModelLoadError, UnsupportedModelError
from model_adapters.loading import load


@pytest.fixture
def checkpoint(llama_folder, tmp_path):
    """A copy of the saved Llama, to be damaged."""
    return Path(shutil.copytree(llama_folder, tmp_path / "checkpoint"))


def _same_weights(model, other):
    pairs = zip(model.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == name2 and torch.equal(a, b) for (name, a), (name2, b) in pairs)


@pytest.mark.parametrize("form", [str, Path])
def test_a_folder(llama_folder, form):
    loaded = load(form(llama_folder))
    reference = AutoModelForCausalLM.from_pretrained(llama_folder)
    assert _same_weights(loaded.model, reference)
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.tokenizer("w5 w6")["input_ids"] == [5, 6]


def test_the_home_folder_is_known_by_its_tilde(llama_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(llama_folder.parent))
    assert load(f"~/{llama_folder.name}").tokenizer is not None


def test_the_dtype_is_that_of_the_checkpoint_unless_asked_for(tmp_path):
    folder = save_llama(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    assert load(folder).model.dtype == torch.bfloat16
    assert load(folder, dtype="auto").model.dtype == torch.bfloat16
    assert load(folder, dtype="float32").model.dtype == torch.float32
    assert load(folder, dtype=torch.float64).model.dtype == torch.float64


@pytest.mark.parametrize("dtype", ["int8", "float", torch.int64, "torch.float32", 32])
def test_an_unknown_dtype(llama_folder, dtype):
    with pytest.raises(InvalidInputError, match=r"Unknown dtype .* auto, float64, float32"):
        load(llama_folder, dtype=dtype)


@pytest.mark.parametrize("device", ["banana", "cpu:x", "cuda:99", "mps:7"])
def test_a_device_that_is_not_there(llama_folder, device):
    with pytest.raises(InvalidInputError, match=f"The device '{device}' cannot be used: ") as e:
        load(llama_folder, device=device)
    assert "\n" not in e.value.what


@pytest.mark.parametrize("name", ["./nothing", "/nothing/at/all", "~/nothing", "a/b/c", "..\\x"])
def test_a_wrong_path(name):
    with pytest.raises(ModelLoadError, match="There is no folder ") as caught:
        load(name)
    assert name in caught.value.what
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize(
    "name", ["no-such-organisation/no-such-model", "gpt99", "with space/in name", "-x/--y"]
)
def test_a_mistyped_hub_id_offline(name):
    with pytest.raises(ModelLoadError, match="cannot be loaded: ") as caught:
        load(name)
    assert caught.value.causes[0] == "the name is mistyped"
    assert any("HF_HUB_OFFLINE" in cause for cause in caught.value.causes)
    assert "\n" not in caught.value.what


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name(name):
    with pytest.raises(ModelLoadError, match="The name of the model is empty"):
        load(name)


def test_a_file_that_is_no_gguf(llama_folder):
    with pytest.raises(ModelLoadError, match=r"config\.json is a file, and not a \.gguf") as caught:
        load(llama_folder / "config.json")
    assert "folder" in caught.value.fix


def _truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _without(*names):
    def remove(folder):
        for name in names:
            (folder / name).unlink()

    return remove


def _empty(folder):
    for path in folder.iterdir():
        path.unlink()


def _config(change):
    def rewrite(folder):
        path = folder / "config.json"
        path.write_text(change(json.loads(path.read_text())))

    return rewrite


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_empty, "config.json"),
        (_without("config.json"), "config.json"),
        (_without("model.safetensors"), "model.safetensors"),
        (_truncate, "Safetensor"),
        (_config(lambda _: "{not json"), "JSON"),
        (_config(lambda config: json.dumps(config | {"model_type": "unheard-of"})), "unheard-of"),
        (_config(lambda _: "{}"), "model"),
    ],
    ids=["empty", "no config", "no weights", "truncated", "no json", "unknown type", "no type"],
)
def test_a_folder_without_a_whole_checkpoint(checkpoint, damage, words):
    damage(checkpoint)
    with pytest.raises(ModelLoadError, match="cannot be loaded: ") as caught:
        load(checkpoint)
    assert words.lower() in caught.value.what.lower()
    assert str(checkpoint) in caught.value.what
    assert caught.value.causes[0] == "the folder holds no transformers checkpoint"
    assert "save_pretrained" in caught.value.fix
    assert caught.value.__cause__ is not None


def test_weights_of_another_shape_are_no_silent_random_weights(checkpoint):
    _config(lambda config: json.dumps(config | {"intermediate_size": 48}))(checkpoint)
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load(checkpoint)


def test_missing_weights_are_no_silent_random_weights(checkpoint):
    _config(lambda config: json.dumps(config | {"num_hidden_layers": 3}))(checkpoint)
    with pytest.raises(ModelLoadError, match="has no values for 9 weights") as caught:
        load(checkpoint)
    assert "model.layers.2." in caught.value.what


def test_a_missing_head_changes_no_mixer(llama_folder, checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    found, expected = (
        hf_ess.analyze(folder, "w5 w6 w7 w8", progress=False)
        for folder in (checkpoint, llama_folder)
    )
    assert found.average_ess() == expected.average_ess()


VIT = ViTConfig(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
    image_size=8,
    patch_size=4,
)
T5 = T5Config(d_model=16, d_kv=8, d_ff=8, num_layers=1, num_heads=2, vocab_size=128)


@pytest.mark.parametrize(
    ("model", "kind"),
    [(ViTModel(VIT), "vit"), (T5ForConditionalGeneration(T5), "t5")],
    ids=["vit", "t5"],
)
def test_what_is_no_causal_language_model(tmp_path, model, kind):
    model.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=f"of type '{kind}', which is no causal"):
        load(tmp_path)


def test_ids_can_be_analysed_without_a_tokenizer(checkpoint):
    _without("tokenizer.json", "tokenizer_config.json")(checkpoint)
    ids = torch.arange(2, 14)[None]
    report = hf_ess.analyze(checkpoint, ids, progress=False)
    assert len(report.verified_layers) == 2
    with pytest.raises(hf_ess.InvalidTypeError, match="needs a tokenizer") as caught:
        hf_ess.analyze(checkpoint, "w5 w6 w7", progress=False)
    assert any("the checkpoint has no tokenizer" in cause for cause in caught.value.causes)


def test_a_tokenizer_that_is_passed_wins(llama_folder, tokenizer):
    class Reversed:
        def __call__(self, text, **options):
            return tokenizer(" ".join(reversed(text.split())), **options)

        decode = tokenizer.decode

    report = hf_ess.analyze(llama_folder, "w5 w6 w7", Reversed(), progress=False)
    assert report.samples[0].token_ids.tolist() == [7, 6, 5]
    assert AutoTokenizer.from_pretrained(llama_folder)("w5")["input_ids"] == [5]


def test_the_report_says_which_model_it_was(llama_folder):
    report = hf_ess.analyze(llama_folder, "w5 w6 w7", progress=False, dtype="float64")
    found = {key: report.provenance[key] for key in ("model", "model_type", "dtype", "device")}
    assert found == {
        "model": str(llama_folder),
        "model_type": "llama",
        "dtype": "float64",
        "device": "cpu",
    }
    assert report.provenance["versions"]["transformers"]
    assert report.provenance["model_is_local"] is True


def test_the_report_says_how_it_was_measured(llama_folder, tiny_llama):
    plain = hf_ess.analyze(llama_folder, "w5 w6 w7", progress=False)
    asked = hf_ess.analyze(
        llama_folder, "w5 w6 w7", progress=False, accuracy="exact", keep_singular_values=True
    )
    names = ("accuracy", "keep_singular_values")
    assert [plain.provenance["settings"][name] for name in names] == ["certified", False]
    assert [asked.provenance["settings"][name] for name in names] == ["exact", True]
    by_object = hf_ess.analyze(tiny_llama, torch.arange(5)[None], progress=False)
    assert by_object.provenance["model_is_local"] is False
