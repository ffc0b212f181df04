"""Fixtures of every test: nothing asks the Hub, and models are tiny."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import signal
import sys
from pathlib import Path

import pytest
import torch
from browsing import browser, open_context
from hypothesis import settings
from tiny_checkpoints import VOCABULARY, save_llama, word_tokenizer, write_gguf
from tiny_models import build_tiny

pytest_plugins = ["reliability_rows"]
__all__ = ["browser", "open_context"]

# What runs in the background of a shell is told to ignore interrupts, and so are its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where these are installed, transformers calls their kernels, which need a GPU.
sys.modules.update(dict.fromkeys(("causal_conv1d", "fla", "mamba_ssm")))

# How long an example takes says how busy the machine is.
settings.register_profile("unhurried", settings(deadline=None))
settings.load_profile("unhurried")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; threads inside of each would only get in each other's way.
    torch.set_num_threads(1)


@pytest.fixture
def tiny_llama():
    """A causal model in evaluation mode, new for each test."""
    return build_tiny("llama")


@pytest.fixture(scope="session")
def tokenizer():
    """Knows the words w0, w1, ...; every other word is unknown."""
    return word_tokenizer(VOCABULARY)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    """A saved tiny Llama with its tokenizer."""
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory) -> Path:
    """A tiny Llama with a byte-level tokenizer as one GGUF file."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Runs `hf-ess` in this process; returns its exit status, stdout and stderr."""
    from hf_ess.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hf-ess", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def pytest_collection_modifyitems(config, items):
    """A check for which a family of mixers has no case is no test, rather than a skipped one."""
    empty = [
        item
        for item in items
        if any(
            "empty parameter set" in mark.kwargs.get("reason", "")
            for mark in item.iter_markers("skip")
        )
    ]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]
