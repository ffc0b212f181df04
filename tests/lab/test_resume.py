"""A run that was ended, in whatever way, ends as one that was not: weights, log, results."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from lab.small_runs import outcome, small_config

from hf_ess.errors import InvalidInputError, NonFiniteError, ReportError
from hf_ess.lab import TrainingInterrupted, train
from hf_ess.lab.training import Training
from hf_ess.lab.training_state import CHECKPOINT
from hf_ess.training import HankelRegularizer

CONFIG = small_config()


class PowerCut(BaseException):
    """Nothing handles this."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(CONFIG, folder, progress=False)
    return outcome(folder)


@pytest.fixture
def at_step(monkeypatch):
    """Calls something in the middle of a step, once."""

    def install(number, action):
        original = Training._clip

        def clip(self):
            original(self)
            if self.counters.step == number:
                monkeypatch.setattr(Training, "_clip", original)
                action()

        monkeypatch.setattr(Training, "_clip", clip)

    return install


def _cut():
    raise PowerCut


@pytest.mark.parametrize("step", [0, 4, 5, 7, 11])
def test_cut_and_trained_again(undisturbed, at_step, tmp_path, step):
    at_step(step, _cut)
    with pytest.raises(PowerCut):
        train(CONFIG, tmp_path, progress=False)
    assert (tmp_path / CHECKPOINT).exists() == (step >= 5)
    train(CONFIG, tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed
    assert not (tmp_path / CHECKPOINT).exists()


def test_cut_twice_and_with_half_a_line_in_the_log(undisturbed, at_step, tmp_path):
    for step in (6, 11):
        at_step(step, _cut)
        with pytest.raises(PowerCut):
            train(CONFIG, tmp_path, progress=False)
        with open(tmp_path / "log.jsonl", "a") as log:
            log.write('{"step": 1')
    train(CONFIG, tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed


def test_cut_while_a_checkpoint_is_written(undisturbed, monkeypatch, tmp_path):
    replaced = os.replace

    def replace(source, target):
        if str(target).endswith(CHECKPOINT) and (tmp_path / CHECKPOINT).exists():
            raise PowerCut
        replaced(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PowerCut):
        train(CONFIG, tmp_path, progress=False)
    monkeypatch.undo()
    train(CONFIG, tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob(".*.tmp"))


def test_cut_before_the_results(undisturbed, monkeypatch, tmp_path):
    def results(*_):
        raise PowerCut

    monkeypatch.setattr(import_module("hf_ess.lab.train"), "library_versions", results)
    with pytest.raises(PowerCut):
        train(CONFIG, tmp_path, progress=False)
    monkeypatch.undo()
    train(CONFIG, tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed


KILLED = """
import os, signal, sys
from lab.small_runs import small_config
from hf_ess.lab import train
from hf_ess.lab.training import Training
original = Training._clip
def clip(self):
    original(self)
    if self.counters.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
Training._clip = clip
train(small_config(), sys.argv[1], progress=False)
"""


def test_cut_with_a_regularizer(at_step, tmp_path):
    config = small_config(regularizer={"name": "ess", "target": 0.5, "weight": 0.1})
    train(config, tmp_path / "undisturbed", progress=False)
    at_step(7, _cut)
    with pytest.raises(PowerCut):
        train(config, tmp_path / "cut", progress=False)
    train(config, tmp_path / "cut", progress=False)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "undisturbed")


def test_a_regularizer_that_diverges_is_named_with_its_step(monkeypatch, tmp_path):
    def term(*_):
        raise NonFiniteError("Layer 0: The loss term is nan.", causes=["it diverged"])

    monkeypatch.setattr(HankelRegularizer, "__call__", term)
    config = small_config(regularizer={"name": "hankel"})
    with pytest.raises(NonFiniteError, match=r"Step 0 of 12: Layer 0.*\n.*\n.*it diverged"):
        train(config, tmp_path, progress=False)


def test_killed(undisturbed, tmp_path):
    paths = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert (tmp_path / CHECKPOINT).exists()
    train(CONFIG, tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(undisturbed, at_step, tmp_path, number):
    before = signal.getsignal(number)
    at_step(7, lambda: signal.raise_signal(number))
    with pytest.raises(TrainingInterrupted, match=r"after 8 of 12 steps.*goes on from there"):
        train(CONFIG, tmp_path, progress=False)
    assert signal.getsignal(number) == before
    steps = []
    at_step(8, lambda: steps.append(8))
    train(CONFIG, tmp_path, progress=False)
    assert steps == [8]
    assert outcome(tmp_path) == undisturbed


def test_what_is_ignored_stays_ignored(undisturbed, at_step, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at_step(7, lambda: signal.raise_signal(signal.SIGINT))
        train(CONFIG, tmp_path, progress=False)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome(tmp_path) == undisturbed


def test_a_second_interrupt_does_not_wait(at_step, tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(7, twice)
    with pytest.raises(KeyboardInterrupt) as ended:
        train(CONFIG, tmp_path, progress=False)
    assert not isinstance(ended.value, TrainingInterrupted)


def test_a_finished_run_is_not_repeated(monkeypatch, tmp_path):
    first = train(CONFIG, tmp_path, progress=False)
    monkeypatch.setattr(Training, "__init__", lambda *_: pytest.fail("trains again"))
    assert train(CONFIG, tmp_path, progress=False) == first


def test_another_configuration_is_refused(at_step, tmp_path):
    at_step(7, _cut)
    with pytest.raises(PowerCut):
        train(CONFIG, tmp_path, progress=False)
    with pytest.raises(InvalidInputError, match="seed: 0 and 3 here"):
        train(small_config(seed=3), tmp_path, progress=False)


@pytest.mark.parametrize("file", ["results.json", "log.jsonl", CHECKPOINT])
def test_files_of_an_unknown_training_are_not_taken_for_it(tmp_path, file):
    (tmp_path / file).write_text("{}")
    with pytest.raises(InvalidInputError, match=f"holds a {file}, but no run.yaml"):
        train(CONFIG, tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [file]


def test_a_configuration_with_which_nothing_began_may_be_mended(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be used"):
        train(small_config(device="mps"), tmp_path, progress=False)
    assert train(CONFIG, tmp_path, progress=False).config == CONFIG


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_disks_without_locks_are_trained_on(undisturbed, monkeypatch, tmp_path):
    import fcntl

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    train(CONFIG, tmp_path, progress=False)
    assert outcome(tmp_path) == undisturbed


def test_one_process_at_a_time(at_step, tmp_path):
    at_step(3, lambda: train(CONFIG, tmp_path, progress=False))
    with pytest.raises(InvalidInputError, match="Another process is training"):
        train(CONFIG, tmp_path, progress=False)


def test_a_damaged_checkpoint_is_named(at_step, tmp_path):
    at_step(7, _cut)
    with pytest.raises(PowerCut):
        train(CONFIG, tmp_path, progress=False)
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[: len(data) // 2])
    with pytest.raises(ReportError, match=r"checkpoint.*cannot be used"):
        train(CONFIG, tmp_path, progress=False)


def test_a_loss_of_nan_leaves_the_last_good_checkpoint(monkeypatch, tmp_path):
    original = Training._losses

    def losses(self, step):
        loss, penalty = original(self, step)
        return (loss * torch.nan if step == 9 else loss), penalty

    monkeypatch.setattr(Training, "_losses", losses)
    with pytest.raises(
        NonFiniteError, match=r"Step 9 of 12: The loss is nan\. The last checkpoint"
    ) as ended:
        train(CONFIG, tmp_path, progress=False)
    assert "learning rate that is too high (0.01)" in str(ended.value)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(NonFiniteError):
        train(CONFIG, tmp_path, progress=False)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


def test_an_infinite_term_of_a_regularizer_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(HankelRegularizer, "__call__", lambda *_: torch.tensor(torch.inf))
    config = small_config(regularizer={"name": "hankel"})
    with pytest.raises(NonFiniteError, match="Step 0 of 12: The term of the regularizer is inf"):
        train(config, tmp_path, progress=False)


def test_a_training_that_really_diverges_is_named(tmp_path):
    config = small_config(learning_rate=1e30, gradient_clip=None, warmup_steps=0)
    with pytest.raises(NonFiniteError, match=r"Step \d+ of 12: ") as ended:
        train(config, tmp_path, progress=False)
    assert "warmup_steps" in ended.value.fix
