"""The progress bar is on stderr, and the usual switches of Hugging Face turn it off."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars, tqdm
from tiny_models import build_tiny, tiny_input_ids
from transformers.utils import logging

import hf_ess
from hf_ess.progress import progress_bar


@pytest.fixture(autouse=True)
def bars_on():
    enable_progress_bars()
    yield
    enable_progress_bars()
    logging.enable_progress_bar()


@pytest.fixture
def shown(capsys):
    """What an analysis shows on stdout and stderr."""
    model = build_tiny("llama")

    def run(**arguments):
        capsys.readouterr()
        hf_ess.analyze(model, tiny_input_ids(model), **arguments)
        return capsys.readouterr()

    return run


def test_the_bar_is_on_stderr_and_counts_layers(shown):
    captured = shown()
    assert captured.out == ""
    assert "Analysing" in captured.err
    assert "/2" in captured.err
    assert "layer" in captured.err


def test_the_bar_is_gone_at_the_end(shown):
    last = shown().err.rsplit("\r", 1)[-1]
    assert last.strip() == ""


def test_progress_off(shown):
    assert tuple(shown(progress=False)) == ("", "")


@pytest.mark.parametrize("progress", [False, True])
def test_no_thread_is_left(shown, progress, monkeypatch):
    monkeypatch.setattr(tqdm, "monitor", None)  # one of other bars may run
    before = set(threading.enumerate())
    shown(progress=progress)
    assert not set(threading.enumerate()) - before
    assert tqdm.monitor is None


@pytest.mark.parametrize(
    "disable",
    [disable_progress_bars, logging.disable_progress_bar, lambda: disable_progress_bars("hf_ess")],
    ids=["huggingface_hub", "transformers", "this package only"],
)
def test_the_switches_of_hugging_face(shown, disable):
    disable()
    try:
        assert tuple(shown()) == ("", "")
    finally:
        enable_progress_bars("hf_ess")
    enable_progress_bars()
    assert "Analysing" in shown().err


@pytest.mark.parametrize(("is_terminal", "states"), [(True, 4), (False, 1)])
def test_a_bar_moves_on_a_terminal_and_hardly_in_a_log(capsys, monkeypatch, is_terminal, states):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    with progress_bar(3, "Steps", enabled=True, unit="step") as bar:
        for _ in range(3):
            time.sleep(0.11)
            bar.update(1)
    assert capsys.readouterr().err.count("Steps") == states
