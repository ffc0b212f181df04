"""Device maps of models given by name: placed as asked, refused with what to do."""

from __future__ import annotations

import pytest
import torch
from tiny_checkpoints import some_text
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess.errors import InvalidInputError, InvalidTypeError, ModelLoadError
from model_adapters.loading import load

TEXT = some_text(20)
PARTS = {
    "model.embed_tokens": "cpu",
    "model.rotary_emb": "cpu",
    "model.layers": "disk",
    "model.norm": "disk",
    "lm_head": "cpu",
}


@pytest.mark.parametrize(
    "options",
    [
        {"device_map": "auto"},
        {"device_map": "cpu"},
        {"device_map": "disk"},
        {"device_map": {"": "disk"}},
        {"device_map": PARTS},
        {"device_map": "auto", "max_memory": {"cpu": 60_000}},
    ],
    ids=str,
)
def test_the_report_does_not_depend_on_the_map(llama_folder, options):
    expected = hf_ess.analyze(llama_folder, TEXT, progress=False)
    report = hf_ess.analyze(llama_folder, TEXT, progress=False, **options)
    assert len(report.verified_layers) == 2
    assert report.fingerprint() == expected.fingerprint()


@pytest.mark.parametrize(
    ("device_map", "places"),
    [
        pytest.param("cpu", {"cpu"}, id="cpu"),
        pytest.param("disk", {"meta"}, id="disk"),
        pytest.param(PARTS, {"cpu", "meta"}, id="parts"),
        pytest.param("auto", {"cpu"}, id="auto"),
    ],
)
def test_weights_are_where_the_map_says(llama_folder, device_map, places):
    if device_map == "auto" and torch.accelerator.is_available():
        places = {torch.accelerator.current_accelerator().type}
    model = load(llama_folder, device_map=device_map).model
    assert {weight.device.type for weight in model.parameters()} == places
    assert not model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device_map": "auto", "device": "cpu"}, "exclude each other"),
        ({"device_map": PARTS, "device": "cpu"}, "exclude each other"),
        ({"device_map": "nowhere"}, "names 'nowhere', which cannot be used"),
        ({"device_map": {"": "nowhere"}}, "names 'nowhere', which cannot be used"),
        ({"device_map": "cuda:77"}, "names 'cuda:77', which cannot be used"),
        ({"offload_folder": "weights"}, "offload_folder needs a device map"),
        ({"max_memory": {"cpu": "1GB"}}, "max_memory needs a device map"),
        ({"max_memory": {"cpu": "1GB"}, "device_map": "disk"}, "max_memory says nothing to"),
    ],
    ids=str,
)
def test_maps_that_say_nothing_are_refused_before_anything_is_loaded(options, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        load("no/such-model", **options)
    assert caught.value.fix


def test_a_map_of_another_type_is_refused():
    with pytest.raises(InvalidTypeError, match="name or a mapping, got int"):
        load("no/such-model", device_map=3)


def test_weights_of_another_form_need_a_folder(tmp_path):
    """The experts of a checkpoint are separate, and one tensor in the model."""
    model = build_tiny("qwen3_next")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelLoadError, match="cannot be loaded") as caught:
        load(tmp_path / "model", device_map="disk")
    assert "--offload-folder" in caught.value.fix
    ids = tiny_input_ids(model, length=13)
    expected = hf_ess.analyze(tmp_path / "model", ids, progress=False)
    report = hf_ess.analyze(
        tmp_path / "model", ids, progress=False, device_map="disk", offload_folder=tmp_path / "rest"
    )
    assert any((tmp_path / "rest").iterdir())
    assert report.fingerprint() == expected.fingerprint()


def test_gguf_files_in_memory_but_not_on_disk(gguf_file):
    assert {w.device.type for w in load(gguf_file, device_map="cpu").model.parameters()} == {"cpu"}
    with pytest.raises(ModelLoadError, match="Disk offload is not supported") as caught:
        load(gguf_file, device_map="disk")
    assert "save_pretrained" in caught.value.fix


def test_the_command_takes_a_map(run_command, llama_folder, tmp_path):
    arguments = ("analyze", llama_folder, "--text", TEXT, "--no-plots")
    assert run_command(*arguments, "--out", tmp_path / "plain")[0] == 0
    options = ("--device-map", "disk", "--offload-folder", tmp_path / "weights")
    assert run_command(*arguments, *options, "--out", tmp_path / "placed")[0] == 0
    plain, placed = (hf_ess.ESSReport.load(tmp_path / name) for name in ("plain", "placed"))
    assert placed.fingerprint() == plain.fingerprint()


def test_the_command_refuses_a_device_beside_a_map(run_command, llama_folder):
    arguments = ("analyze", llama_folder, "--text", TEXT)
    status, out, err = run_command(*arguments, "--device", "cpu", "--device-map", "auto")
    assert status != 0
    assert not out
    assert "exclude each other" in err
