"""Code that comes with a checkpoint is not run, and nobody is asked, unless it was wanted."""

from __future__ import annotations

import builtins
import json

import pytest
import torch
import transformers.dynamic_module_utils as dynamic_modules
from tiny_checkpoints import save_llama

import hf_ess
from hf_ess import ModelLoadError
from model_adapters.loading import load

CODE = """
import pathlib
pathlib.Path({marker!r}).write_text("executed")
from transformers import LlamaConfig, LlamaForCausalLM

class FarConfig(LlamaConfig):
    model_type = "far-away"

class FarForCausalLM(LlamaForCausalLM):
    config_class = FarConfig
"""


@pytest.fixture
def marker(tmp_path):
    """The file that the remote code writes when it is imported."""
    return tmp_path / "marker"


@pytest.fixture
def remote(tmp_path, marker, monkeypatch):
    """A checkpoint that can only be loaded by its own Python file."""
    folder = save_llama(tmp_path / "remote_model")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "far-away",
        "architectures": ["FarForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_far.FarConfig",
            "AutoModelForCausalLM": "modeling_far.FarForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_far.py").write_text(CODE.format(marker=str(marker)))
    monkeypatch.setattr(dynamic_modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return folder


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch):
    def ask(*_args):
        raise AssertionError("a person was asked")

    monkeypatch.setattr(builtins, "input", ask)


@pytest.mark.parametrize("trust", [False, None], ids=repr)
def test_refused_without_running_it(remote, marker, trust):
    with pytest.raises(ModelLoadError, match="cannot be loaded") as caught:
        load(remote, trust_remote_code=trust)
    assert caught.value.causes == (
        "the checkpoint needs its own Python code, and trust_remote_code is off",
    )
    assert "trust_remote_code=True" in caught.value.fix
    assert not marker.exists()


def test_refused_by_default(remote, marker):
    with pytest.raises(ModelLoadError):
        hf_ess.analyze(remote, "w5 w6 w7", progress=False)
    assert not marker.exists()


def test_refused_at_the_command_line(remote, marker, run_command):
    status, out, err = run_command("analyze", remote, "--text", "w5 w6 w7")
    assert (status, out) == (1, "")
    assert "--trust-remote-code" in err
    assert not marker.exists()


def test_run_where_it_is_trusted(remote, marker):
    report = hf_ess.analyze(
        remote, torch.arange(2, 12)[None], trust_remote_code=True, progress=False
    )
    assert marker.read_text() == "executed"
    assert report.provenance["model_class"] == "FarForCausalLM"
    assert report.provenance["remote_code"] is True
    assert len(report.verified_layers) == 2


def test_run_where_the_command_line_trusts_it(remote, marker, run_command):
    arguments = ["analyze", remote, "--text", "w5 w6 w7", "--format", "json"]
    status, out, _ = run_command(*arguments, "--trust-remote-code")
    assert status == 0
    assert json.loads(out)["provenance"]["model_class"] == "FarForCausalLM"
    assert marker.exists()


def test_a_known_type_does_not_run_code_that_comes_along(remote, marker):
    config = json.loads((remote / "config.json").read_text()) | {"model_type": "llama"}
    (remote / "config.json").write_text(json.dumps(config))
    report = hf_ess.analyze(remote, "w5 w6 w7 w8", progress=False)
    assert report.provenance["model_class"] == "LlamaForCausalLM"
    assert report.provenance["remote_code"] is False
    assert not marker.exists()
