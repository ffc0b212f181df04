"""Defects that are planted are found by the check that is there for them, and made small."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import pytest
import torch
from reliability.fuzzing import running
from reliability.fuzzing.checks import CaseFailed, run_case
from reliability.fuzzing.choices import COMMAND, Choices
from reliability.fuzzing.reproduction import checked, main

import hf_ess

pytestmark = pytest.mark.usefixtures("young_objects")
ROOT = Path(__file__).resolve().parents[3]
CASE = Choices(
    seed=5,
    config={"mixers": ["SA", "GLA"], "hidden_size": 12, "num_attention_heads": 3},
    dtype="bfloat16",
    length=9,
    batch=2,
    shorter=2,
    padding="left",
    arguments={"positions": (0.2, 0.5), "tolerances": (1e-3, 0.3), "batch_size": 2},
)
ANALYZE = hf_ess.analyze
LEFT = []


def _reported(change):
    """An analysis whose report is changed."""

    def analyze(model, inputs, **arguments):
        report = ANALYZE(model, inputs, **arguments)
        change(report)
        return report

    return analyze


def _last(values, change):
    """Changes what is said of the last position of each layer of a report."""

    def spoil(report):
        for layer in report.layers:
            values(layer)[..., -1] = change(values(layer)[..., -1])

    return _reported(spoil)


def _then(after):
    """An analysis that leaves something behind."""

    def analyze(model, inputs, **arguments):
        report = ANALYZE(model, inputs, **arguments)
        after(model)
        return report

    return analyze


def _unnamed(model, inputs, **arguments):
    raise KeyError("hidden_states")


def _first(model):
    return next(iter(model.parameters()))


def _counts(layer):
    return layer.tolerance_ess[layer.tolerances[0]]


def _unverified(report):
    report.layers[0].verified = False


PLANTED = {
    "entropy": _last(lambda layer: layer.entropy_ess, lambda x: x * 1.001),
    "tolerance": _last(_counts, lambda x: x + 40),
    "attainable": _last(lambda layer: layer.attainable_by_group, lambda x: x + 1),
    "values": _last(lambda layer: layer.largest_singular_value, lambda x: x * 1.001),
    "residual": _last(lambda layer: layer.residual, lambda x: x * 2 + 1e-9),
    "verified": _reported(_unverified),
    "missing": _reported(lambda report: report.layers.pop()),
    "warnings": _then(lambda _: warnings.warn("of nothing", stacklevel=1)),
    "refusal": _unnamed,
    "memory": _then(lambda _: LEFT.append(torch.zeros(3))),
    # Changed past autograd, so that no version tells.
    "logits": _then(lambda model: _first(model).data.mul_(1.01)),
}
LEFTOVERS = {
    "a hook": lambda model: model.register_forward_hook(lambda *_: None),
    "a global hook": lambda _: LEFT.append(
        torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    ),
    "a method": lambda model: setattr(model, "forward", model.forward),
    "a mode": lambda model: model.train(),
    "a gradient": lambda model: _first(model).requires_grad_(False),
    "dice": lambda _: torch.rand(1),
    "other weights": lambda model: torch.nn.init.zeros_(_first(model)),
    "an open file": lambda _: LEFT.append(Path(__file__).open()),  # noqa: SIM115
    "a temporary file": lambda _: Path(tempfile.gettempdir(), "left").touch(),
    "a thread": lambda _: threading.Thread(target=LEFT[0].wait, daemon=True).start(),
    "a function": lambda _: setattr(torch.nn.functional, "softmax", torch.softmax),
}


@pytest.fixture
def planted(monkeypatch):
    """Puts another analysis in the place of the true one; nothing of it stays."""
    functional = torch.nn.functional.softmax
    LEFT.append(threading.Event())
    yield lambda analyze: monkeypatch.setattr(running.hf_ess, "analyze", analyze)
    LEFT[0].set()
    torch.nn.functional.softmax = functional
    for left in LEFT:
        getattr(left, "close", getattr(left, "remove", lambda: None))()
    LEFT.clear()


def test_without_a_defect_the_case_passes():
    outcome = run_case(CASE)
    assert outcome.blocks > 10
    assert sum(outcome.mixers.values()) == 2


@pytest.mark.parametrize("check", PLANTED)
def test_each_check_finds_what_it_is_there_for(planted, check):
    planted(PLANTED[check])
    with pytest.raises(CaseFailed) as caught:
        run_case(CASE)
    assert caught.value.check == check


@pytest.mark.parametrize("what", LEFTOVERS)
def test_leftovers_of_each_kind_are_found(planted, what):
    planted(_then(LEFTOVERS[what]))
    with pytest.raises(CaseFailed) as caught:
        run_case(CASE)
    assert caught.value.check == "leftovers"


@pytest.fixture
def wrong_from_five_tokens(planted):
    """Entropies are wrong in layers of texts of five tokens and more."""
    wrong = PLANTED["entropy"]

    def analyze(model, inputs, **arguments):
        ids = inputs if isinstance(inputs, torch.Tensor) else inputs["input_ids"]
        return (wrong if ids.shape[1] >= 5 else ANALYZE)(model, inputs, **arguments)

    planted(analyze)


@pytest.mark.usefixtures("wrong_from_five_tokens")
def test_a_failing_case_is_made_small_and_runs_again(monkeypatch, capsys):
    with pytest.raises(CaseFailed) as caught:
        checked(CASE)
    small = caught.value.choices
    assert (small.length, small.batch, small.padding, small.dtype) == (5, 1, "none", "float32")
    assert dict(small.arguments) == {}
    assert len(small.config.get("mixers", [1])) == 1
    told = str(caught.value).splitlines()[-1].strip()
    program, folder, *options = shlex.split(told)
    assert (program, folder, options[:2]) == (
        "python",
        COMMAND.split()[1],
        ["--seed", str(CASE.seed)],
    )
    settings = options[3::2]
    assert main(CASE.seed, settings) == 1
    assert "FAILED entropy" in capsys.readouterr().out
    monkeypatch.setattr(running.hf_ess, "analyze", ANALYZE)
    assert main(CASE.seed, settings) == 0


def test_the_command_runs_in_a_fresh_process():
    options = ["--seed", str(CASE.seed), "--set", "length=4", "--set", "family=synthetic"]
    options += ["--set", "config={}", "--set", "arguments={}", "--set", "batch=1"]
    ended = subprocess.run(
        [sys.executable, *COMMAND.split()[1:], *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "length=4" in ended.stdout
    assert "Outcome(refused=''" in ended.stdout
