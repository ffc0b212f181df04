"""Runs the model of a case: as it is, analysed, and recorded."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from reliability.fuzzing.choices import Choices
from reliability.fuzzing.composed import HandmadeAttention
from reliability.fuzzing.subjects import Subject
from torch import Tensor, nn

import hf_ess
from hf_ess.report import ESSReport
from model_adapters import LayerOperator

Forward = tuple[dict[str, Any], Tensor]


@dataclass(frozen=True)
class Analysed:
    """A report, or the error instead of it; and which warnings there were."""

    report: ESSReport | None
    error: Exception | None
    warned: list[str]


@dataclass(frozen=True)
class Recorded:
    """One run of a mixer, seen without any help of the analysis.

    Attributes:
        samples: the numbers of the texts that ran.
        dense: M, `[B, G, L, L]` float64.
        residual: `[B]`, how far M u is from what the layer computed, relative to that.
        true: the operator by the definition of a handmade mixer, None for others.
    """

    layer: LayerOperator
    samples: list[int]
    dense: np.ndarray
    residual: np.ndarray
    true: np.ndarray | None


def logits_of(subject: Subject, numbers: list[int]) -> Tensor:
    """`[B, L, V]` of some texts of one length."""
    call: dict[str, Any] = {"input_ids": subject.ids(numbers)}
    return run(subject.model, call | ({"use_cache": False} if subject.has_cache else {}))


@torch.no_grad()
def run(model: nn.Module, call: dict[str, Any]) -> Tensor:
    """The logits of one run."""
    output = model(**call)
    return getattr(output, "logits", output)


def analysed(choices: Choices, subject: Subject) -> Analysed:
    """What `analyze` makes of the case."""
    report, error = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            report = hf_ess.analyze(
                subject.model, subject.inputs, progress=False, **choices.analyze_arguments()
            )
        except Exception as raised:  # whatever it is, it is what happened
            # Its frames hold tensors.
            error = raised.with_traceback(None)
            error.__cause__ = error.__context__ = None
    if report is not None:
        # Arrays of the token ids keep the tensors alive from which they were made.
        report.samples = [
            replace(sample, token_ids=np.array(sample.token_ids)) for sample in report.samples
        ]
    return Analysed(report, error, [str(one.message) for one in caught])


@contextmanager
def forwards_of(model: nn.Module) -> Iterator[list[Forward]]:
    """Whole runs of the model meanwhile: what it was called with, and its logits."""
    seen: list[Forward] = []

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        # Copies: what is a view keeps the tensor alive that it is a part of.
        call = {name: x.clone() if isinstance(x, Tensor) else x for name, x in kwargs.items()}
        seen.append((call, getattr(output, "logits", output).clone()))

    handle = model.register_forward_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def recorded(
    choices: Choices, subject: Subject, numbers: list[int]
) -> tuple[Tensor, list[Recorded]]:
    """The logits of some texts of one length, and every operator that was applied."""
    found: list[Recorded] = []
    scope = choices.arguments.get("scope", "core")
    with _features_of_handmade(subject.model) as features:

        def keep(layer: LayerOperator) -> None:
            found.append(_recorded(layer, numbers, features))

        with hf_ess.record_operators(subject.model, keep, scope=scope):
            logits = logits_of(subject, numbers)
    return logits, found


def _recorded(
    layer: LayerOperator, numbers: list[int], features: dict[str, HandmadeAttention]
) -> Recorded:
    dense = layer.operator.to_dense().numpy()
    rebuilt = dense @ _wide(layer.inputs)
    if layer.output_gate is not None:
        rebuilt = rebuilt * _wide(layer.output_gate)
    if layer.output_offset is not None:
        rebuilt = rebuilt + _wide(layer.output_offset)
    outputs = _wide(layer.outputs)
    error, largest = (np.abs(x).max((1, 2, 3)) for x in (rebuilt - outputs, outputs))
    residual = np.divide(error, largest, out=error.copy(), where=largest > 0)
    true = features[layer.name]() if layer.name in features else None
    return Recorded(layer, numbers, dense, residual, true)


def _wide(tensor: Tensor) -> np.ndarray:
    return tensor.to(torch.float64).numpy()


@contextmanager
def _features_of_handmade(model: nn.Module) -> Iterator[dict[str, Any]]:
    """For each handmade attention what says its operator on what it was given last."""
    rules: dict[str, Any] = {}
    handles = []

    def noting(name: str) -> Any:
        def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            rules[name] = partial(module.true_operator, args[0])

        return note

    for name, module in model.named_modules():
        if isinstance(module, HandmadeAttention):
            handles.append(module.register_forward_pre_hook(noting(name)))
    try:
        yield rules
    finally:
        for handle in handles:
            handle.remove()


def runs_by_name(records: list[Recorded]) -> Counter[tuple[str, int]]:
    """How many texts each run of each mixer saw."""
    found: Counter[tuple[str, int]] = Counter()
    for record in records:
        found[record.layer.name, record.layer.call] += len(record.samples)
    return found
