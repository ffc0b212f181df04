"""One case, from its choices to what happened; every check has a name."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import torch
from reliability.fuzzing import truth
from reliability.fuzzing.choices import Choices
from reliability.fuzzing.expected import certain_refusal, possible_refusals
from reliability.fuzzing.leftovers import Before
from reliability.fuzzing.running import (
    Analysed,
    Recorded,
    analysed,
    forwards_of,
    logits_of,
    recorded,
    run,
    runs_by_name,
)
from reliability.fuzzing.subjects import Subject, build
from torch import Tensor

import hf_ess
from hf_ess.operators import RESIDUAL_BOUNDS
from hf_ess.report import ESSReport, LayerESS
from hf_ess.spectra import resolve_window

VERIFIED = "verified"
# Of entries of M, which are weights: a definition that starts from the hidden states rounds its
# features otherwise. In half precision that says nothing any more.
DEFINITION_BOUNDS = {torch.float64: 1e-9, torch.float32: 2e-3}

Fail = Callable[[str, str], "CaseFailed"]


class CaseFailed(AssertionError):  # noqa: N818 - reads as what happened
    """A named check of a case failed.

    Attributes:
        check: its name.
        choices: the case.
        problem: what is wrong.
    """

    def __init__(self, choices: Choices, check: str, problem: str) -> None:
        super().__init__(f"{check}: {problem}")
        self.check, self.choices, self.problem = check, choices, problem


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Attributes:
        refused: why the case was refused, empty if it was not.
        mixers: how many were verified or named unsupported, by kind and what happened.
        blocks: how many spectra were compared with an SVD.
    """

    refused: str = ""
    mixers: Counter[tuple[str, str]] = field(default_factory=Counter)
    blocks: int = 0


def run_case(choices: Choices) -> Outcome:
    """Runs a case.

    Raises:
        CaseFailed: with the name of the check.
    """
    fail: Fail = partial(CaseFailed, choices)
    try:
        subject = build(choices)
        batches = list(subject.batches(choices.arguments.get("batch_size", 1)))
        before = [logits_of(subject, numbers) for numbers in batches]
    except Exception as error:
        raise fail("build", f"the model itself does not run: {error!r}") from error
    outcome = _without_a_trace(choices, subject, fail)
    after = [logits_of(subject, numbers) for numbers in batches]
    _same(before, after, fail, "after the analysis")
    records = _records(choices, subject, batches, before, fail)
    if outcome.report is None:
        finite = all(bool(torch.isfinite(logits).all()) for logits in before)
        return _refused(choices, outcome, records, finite, fail)
    if reason := certain_refusal(choices, records):
        raise fail("refusal", f"not refused: {reason}")
    return _reported(choices, outcome, outcome.report, records, fail)


def _without_a_trace(choices: Choices, subject: Subject, fail: Fail) -> Analysed:
    """Analyses, and looks for what is left of it."""
    with tempfile.TemporaryDirectory() as folder, forwards_of(subject.model) as forwards:
        state = Before(subject.model, Path(folder))
        with state.files_here():
            outcome = analysed(choices, subject)
        if changed := state.changed():
            raise fail("leftovers", f"changed: {', '.join(changed[:5])}")
        known = {id(value) for call, logits in forwards for value in (*call.values(), logits)}
        if left := state.tensors_left(known):
            raise fail("memory", f"{len(left)} tensors are left: {', '.join(left[:5])}")
    for call, logits in forwards:
        _same([run(subject.model, call)], [logits], fail, "during the analysis")
    return outcome


def _records(
    choices: Choices, subject: Subject, batches: list[list[int]], before: list[Tensor], fail: Fail
) -> list[Recorded]:
    """Every operator of every batch; the logits are the same while they are recorded."""
    found: list[Recorded] = []
    for numbers, logits in zip(batches, before, strict=True):
        during, records = recorded(choices, subject, numbers)
        _same([logits], [during], fail, "while operators are recorded")
        found += records
    return found


def _same(expected: Sequence[Tensor], found: Sequence[Tensor], fail: Fail, when: str) -> None:
    for one, other in zip(expected, found, strict=True):
        if not torch.equal(one.nan_to_num(), other.nan_to_num()):
            raise fail("logits", f"the model computes something else {when}")


def _refused(
    choices: Choices, outcome: Analysed, records: list[Recorded], finite: bool, fail: Fail
) -> Outcome:
    error = outcome.error
    possible = possible_refusals(choices, records, finite)
    for kind, reason in possible.items():
        if isinstance(error, kind) and isinstance(error, hf_ess.HfEssError) and error.what:
            return Outcome(refused=f"{kind.__name__}: {reason}")
    allowed = ", ".join(kind.__name__ for kind in possible) or "none"
    raise fail("refusal", f"refusals that are right: {allowed}; got {error!r}")


def _reported(
    choices: Choices, outcome: Analysed, report: ESSReport, records: list[Recorded], fail: Fail
) -> Outcome:
    for message in outcome.warned:
        if message not in report.warnings:
            raise fail("warnings", f"one that is not in the report: {message}")
    _check_nothing_is_missing(choices, report, records, fail)
    outcome_of: Counter[tuple[str, str]] = Counter()
    blocks = 0
    by_run = {(layer.name, layer.call): layer for layer in report.layers}
    for layer in report.layers:
        _check_verdict(layer, fail)
        outcome_of[layer.mixer, VERIFIED if layer.verified else _kind(layer.reason)] += 1
    for record in records:
        layer = by_run.get((record.layer.name, record.layer.call))
        if layer is not None:
            _check_operator(layer, record, fail)
            blocks += _check_spectra(choices, layer, record, fail)
    for unsupported in report.unsupported:
        if not (unsupported.name and unsupported.mixer and unsupported.reason):
            raise fail("unsupported", f"not named, or without a reason: {unsupported}")
        outcome_of[unsupported.mixer, f"unsupported: {_kind(unsupported.reason)}"] += 1
    return Outcome(mixers=outcome_of, blocks=blocks)


def _kind(reason: str) -> str:
    """A reason without its numbers."""
    return re.sub(r"\d[\d.e+-]*", "N", reason)


def _check_nothing_is_missing(
    choices: Choices, report: ESSReport, records: list[Recorded], fail: Fail
) -> None:
    chosen = choices.arguments.get("layers")
    ran = {
        (record.layer.name, record.layer.call)
        for record in records
        if chosen is None or record.layer.index in chosen
    }
    named = {layer.name for layer in report.unsupported}
    reported = {(layer.name, layer.call) for layer in report.layers}
    if missing := [run for run in ran - reported if run[0] not in named]:
        raise fail("missing", f"mixers that ran and are not in the report: {missing}")
    if invented := reported - set(runs_by_name(records)):
        raise fail("missing", f"mixers in the report that did not run: {invented}")


def _check_verdict(layer: LayerESS, fail: Fail) -> None:
    """A mixer that an adapter took the operator of is the one that the layer applied."""
    worst = float(np.nanmax(layer.residual))
    if not layer.verified:
        raise fail("verified", f"{layer.name} ({layer.mixer}): {layer.reason}")
    if not worst <= layer.residual_bound:
        raise fail("verified", f"{layer.name}: residual {worst} beyond {layer.residual_bound}")


def _check_operator(layer: LayerESS, record: Recorded, fail: Fail) -> None:
    """The report's residual is that of M u, and M the one of the definition where there is one."""
    dtype = record.layer.outputs.dtype
    # A float64 model may compute a layer in float32, where each output is a number of float32.
    if layer.residual_bound not in {RESIDUAL_BOUNDS[dtype], RESIDUAL_BOUNDS[_computed_in(record)]}:
        raise fail("residual", f"{layer.name}: the bound {layer.residual_bound} is not of {dtype}")
    positions = layer.positions < record.dense.shape[-1]
    expected = record.residual if positions.any() else np.full(len(record.samples), np.nan)
    found = layer.residual[record.samples]
    # Both round in float64, differently.
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-11, equal_nan=True):
        raise fail("residual", f"{layer.name}: {found}, M u gives {expected}")
    bound = DEFINITION_BOUNDS.get(dtype)
    if record.true is not None and bound is not None:
        error = float(np.abs(record.dense - record.true).max())
        if not error <= bound:
            raise fail("definition", f"{layer.name}: entries are off by {error:.1e}")


def _computed_in(record: Recorded) -> torch.dtype:
    if record.layer.outputs.dtype != torch.float64:
        return record.layer.outputs.dtype
    outputs = record.layer.outputs.numpy()
    narrow = np.array_equal(outputs, outputs.astype(np.float32))
    return torch.float32 if narrow else torch.float64


def _check_spectra(choices: Choices, layer: LayerESS, record: Recorded, fail: Fail) -> int:
    random = Random(choices.seed)
    window = resolve_window(choices.arguments.get("window"))
    relative = choices.arguments.get("relative", False)
    blocks = 0
    for row, sample in enumerate(record.samples):
        for block in truth.some_blocks(layer, sample, record.dense[row], window, random):
            blocks += 1
            for check, problem in _problems(layer, block, window, relative).items():
                if problem:
                    raise fail(check, f"{layer.name} ({layer.mixer}, {layer.method}): {problem}")
    return blocks


def _problems(
    layer: LayerESS, block: truth.Block, window: tuple[int, int] | None, relative: bool
) -> dict[str, str]:
    """What each check says of a block, empty where nothing is wrong."""
    counts = (truth.count_problem(layer, block, tau, relative) for tau in layer.tolerances)
    return {
        "entropy": truth.entropy_problem(layer, block),
        "attainable": truth.attainable_problem(layer, block, window),
        "values": truth.values_problem(layer, block),
        "tolerance": next(filter(None, counts), ""),
    }
