"""GGUF files: one that is whole, and every way in which one is damaged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGUFReader

import hf_ess
from hf_ess import ModelLoadError
from model_adapters.loading import load

TEXT = "hello, this is the text"


def test_weights_and_tokenizer_come_from_the_file(gguf_file):
    loaded = load(gguf_file)
    written = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(gguf_file).tensors}
    model = loaded.model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not model.training
    for name, weight in {
        "token_embd.weight": model.model.embed_tokens.weight,
        "output.weight": model.lm_head.weight,
        "blk.1.attn_v.weight": model.model.layers[1].self_attn.v_proj.weight,
        "blk.0.ffn_down.weight": model.model.layers[0].mlp.down_proj.weight,
    }.items():
        np.testing.assert_array_equal(weight.detach().numpy(), written[name])
    ids = loaded.tokenizer(TEXT)["input_ids"]
    assert loaded.tokenizer.decode(ids) == TEXT
    assert loaded.tokenizer.convert_ids_to_tokens(ids[:1]) == ["he"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype(gguf_file, dtype):
    assert load(gguf_file, dtype=dtype).model.dtype == dtype


def test_an_analysis(gguf_file):
    report = hf_ess.analyze(str(gguf_file), TEXT, progress=False)
    assert report.provenance["model"] == gguf_file.name
    assert "".join(report.samples[0].tokens) == TEXT
    assert [layer.groups for layer in report.verified_layers] == [4, 4]
    assert max(layer.residual.max() for layer in report.layers) < 1e-5


def test_the_suffix_may_be_in_capitals(gguf_file, tmp_path):
    copy = tmp_path / "TINY.GGUF"
    copy.write_bytes(gguf_file.read_bytes())
    assert load(copy).model.config.num_hidden_layers == 2


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelLoadError, match=r"There is no file .*absent\.gguf"):
        load(tmp_path / "absent.gguf")


def test_a_folder_in_its_place(tmp_path):
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(ModelLoadError, match="There is no file"):
        load(tmp_path / "folder.gguf")


@pytest.mark.parametrize(
    "start", [b"", b"GG", b"version https://git-lfs.github.com/spec/v1", b"PK\x03\x04"]
)
def test_wrong_magic(tmp_path, start):
    path = tmp_path / "model.gguf"
    path.write_bytes(start)
    with pytest.raises(ModelLoadError, match="is not a GGUF file: it starts with") as caught:
        load(path)
    assert repr(start[:4]) in caught.value.what
    assert "it is a Git LFS pointer" in caught.value.causes


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.5, 0.999])
def test_truncated(gguf_file, tmp_path, share):
    data = gguf_file.read_bytes()
    path = tmp_path / "model.gguf"
    path.write_bytes(data[: max(4, int(len(data) * share))])
    with pytest.raises(ModelLoadError, match="cannot be read: ") as caught:
        load(path)
    assert str(path) in caught.value.what
    assert "\n" not in caught.value.what
    assert caught.value.causes[0] == "the file is truncated or damaged"


def test_missing_weights_are_no_silent_random_weights(gguf_file, tmp_path):
    path = tmp_path / "model.gguf"
    data = gguf_file.read_bytes()
    assert data.count(b"blk.1.attn_k.weight") == 1
    path.write_bytes(data.replace(b"blk.1.attn_k.weight", b"blk.1.attn_x.weight"))
    with pytest.raises(ModelLoadError) as caught:
        load(path)
    assert "attn" in caught.value.what


def test_an_architecture_that_is_not_supported(gguf_file, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_file.read_bytes().replace(b"llama", b"lxxma"))
    with pytest.raises(ModelLoadError, match=r"cannot be read: .*lxxma") as caught:
        load(path)
    assert "its architecture is not supported" in caught.value.causes
