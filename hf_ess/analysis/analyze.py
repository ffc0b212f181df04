"""`hf_ess.analyze`: a model and a text in, a report out."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_ess.analysis.batches import Corpus
from hf_ess.analysis.model_checks import (
    check_model,
    check_token_ids,
    evaluation_mode,
    input_device,
)
from hf_ess.analysis.named_models import model_and_tokenizer
from hf_ess.analysis.processes import Distributed, team_of
from hf_ess.analysis.random_numbers import same_random_numbers
from hf_ess.analysis.run import AnalysisRun
from hf_ess.analysis.samples import (
    SHORTEST,
    LeftOut,
    Sample,
    check_inputs,
    samples_from,
    usable_samples,
)
from hf_ess.analysis.spectral import MeasurementSettings
from hf_ess.analysis.turns import turn_with
from hf_ess.arguments import check_whole
from hf_ess.corpus import sentence_start
from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.progress import OnProgress, StoppedByCaller
from hf_ess.report import ESSReport
from hf_ess.spectra import DEFAULT_MEMORY_BUDGET, Positions, resolve_window
from hf_ess.spectra.routes import ACCURACIES, ROUTES
from model_adapters.layer_choice import checked_layers
from model_adapters.placement import DeviceMap
from model_adapters.recorder import CORE
from model_adapters.recording import check_scope

DEFAULT_TOLERANCES = (1e-1, 1e-3, 1e-5)
JACOBIAN = "jacobian"


class AnalysisInterrupted(KeyboardInterrupt):
    """Ctrl-C during an analysis.

    `hf_ess.analyze` raises it, and the command ends with status 130.

    Attributes:
        report: the layers that were complete, in a report marked as incomplete; None if none was,
            as with a checkpoint, which keeps whole batches.
    """

    def __init__(self, report: ESSReport | None) -> None:
        super().__init__("The analysis was interrupted.")
        self.report = report


def analyze(
    model: nn.Module | str | os.PathLike[str],
    inputs: Any,
    tokenizer: Any | None = None,
    *,
    positions: Positions = "auto",
    tolerances: Sequence[float] = DEFAULT_TOLERANCES,
    relative: bool = False,
    layers: Sequence[int | str] | int | str | None = None,
    window: int | tuple[int, int] | None = None,
    batch_size: int = 1,
    method: str = "auto",
    accuracy: str = "certified",
    scope: str = CORE,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    keep_singular_values: bool = False,
    progress: bool = True,
    on_progress: OnProgress | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    device_map: DeviceMap | None = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    distributed: Distributed = "auto",
    max_length: int | None = None,
    leave_out_failing: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> ESSReport:
    """Measures the effective state-size of every causal mixer of a model on some texts.

    Runs the model, recovers the operator of each mixer as it runs, checks it against what the
    layer really computed, and takes the singular values of its blocks `H_i = M[i:, :i]`. The
    model is left as it was, and computes what it computes without the analysis, bit for bit, also
    in other threads. Threads that analyse one model take turns. Jacobians are an exception: while
    they are computed, the weights of a mixer are exchanged, and no other thread may run the model.

    Source: Parnichkun et al., "Quantifying Memory Utilization with Effective State-Size",
    ICML 2025, equations 2 and 3.

    Args:
        model: a loaded model, or a Hub id, a local folder, or the path of a `.gguf` file.
        inputs: str, list of str, LongTensor `[B, L]` (or `[L]`), or a BatchEncoding. Padding is
            removed: a sample is analysed as if it had come alone.
        tokenizer: needed for text if the model is given as an object.
        positions: "all", a stride, positions in `1..L-1`, or "auto": all where that is cheap
            (texts up to 1024 tokens; not thousands of channels with a state each), else at
            most 64, evenly spread. Between positions ESS may change by half.
        tolerances: thresholds of the tolerance-ESS, absolute as in the paper.
        relative: tolerances are fractions of the largest singular value of each block (ours).
        layers: indices or names of the layers to measure, all by default.
        window: `w` or `(f, p)`: use `M[i:i+f, i-p:i]` only, which costs the same at every
            position and is free of boundary effects (ours). Its counts at absolute tolerances are
            lower bounds of those of the whole block.
        batch_size: samples of one length that run together.
        method: "auto"; how singular values are found, "gram" or "svd"; "divide-and-conquer", which
            finds counts and entropies at all positions without them (ours); or "jacobian" to
            measure the Jacobian of every mixer, known or unknown, in place of its operator (ours).
        accuracy: "certified" lets "auto" use divide and conquer where it is cheaper: entropy-ESS
            then comes with the half width of its interval, at most 1 %. "exact" decomposes every
            block.
        scope: "core" for what the mixing function applies, or "mixer" for that together with the
            short convolution and the gates around it, where an adapter knows them (a warning
            names the layers without any); the report says which.
        memory_budget: bytes that operators and spectra may take at once.
        keep_singular_values: store the singular values in the report.
        progress: show a progress bar on stderr.
        on_progress: called with a `Progress` after every layer, in process 0 of several and then
            of its share. An exception that it raises ends the analysis and reaches the caller;
            the model is restored first.
        dtype: of a model given by name; the checkpoint's own by default.
        device: where a model given by name goes, all of it.
        device_map: where its parts go instead, through accelerate: "auto", "disk", or a mapping
            from modules to devices, "cpu" and "disk". What lies elsewhere comes when it runs.
        max_memory: what "auto" may take of each device and of "cpu", as `{0: "20GB"}`.
        offload_folder: for weights that go to the disk and cannot be read from the checkpoint.
        revision: branch, tag or commit of a Hub id.
        trust_remote_code: run Python code that comes with a checkpoint; off unless asked for.
        distributed: "auto" shares the work among the processes that torchrun or `accelerate
            launch` started, unless the caller initialised `torch.distributed` for other reasons;
            True shares it then, too; False never. Every process calls `analyze` with the same
            arguments.
        max_length: tokens of each text that are measured, the first ones; all by default.
        leave_out_failing: a text that cannot be analysed (empty, too short or too long, NaN) is
            left out, and named in `provenance["left_out"]` and in a warning of the report;
            otherwise it ends the analysis.
        checkpoint: a folder in which finished batches are kept, so that the same call goes on
            there after any end, to the same numbers. Memory does not grow with the number of
            texts until all are done. Remove the folder when the report is saved.

    Returns:
        The report, the same one in every process: `report.summary()`, `report.to_pandas()`,
        `report.plot()`, `report.save()`.

    Raises:
        InvalidInputError, InvalidTypeError: an argument cannot be used, or the checkpoint is of
            other work, or in use; nothing was run.
        UnsupportedModelError: the model has no causal mixer that an adapter knows.
        ModelLoadError: the model cannot be loaded.
        NonFiniteError: NaN or infinity in weights or features; the message names the layer.
        MemoryBudgetError: one operator does not fit into the memory budget.
        OutOfMemoryError: the device has no memory left. Operators and spectra are tried again in
            smaller pieces first.
        ProcessFailedError: one of several processes failed or is gone; known to all others when
            they begin their next layer.
        AnalysisInterrupted: Ctrl-C; carries the report of the layers that were complete (None
            where several processes share the work).

    Example:
        >>> import torch, hf_ess
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        ...                      num_attention_heads=2, vocab_size=64)
        >>> model = LlamaForCausalLM(config).eval()
        >>> report = hf_ess.analyze(model, torch.arange(32)[None], progress=False)
        >>> len(report.layers), report.layers[0].verified
        (2, True)
    """
    settings = MeasurementSettings(
        tolerances=checked_tolerances(tolerances),
        relative=relative,
        window=resolve_window(window),
        method=method,
        accuracy=accuracy,
        memory_budget=memory_budget,
        keep_singular_values=keep_singular_values,
    )
    layers = checked_layers(layers)
    for name, number in {"batch_size": batch_size, "memory_budget": memory_budget}.items():
        check_whole(name, number, least=1)
    for what, word, known in (
        ("method", method, (*ROUTES, JACOBIAN)),
        ("accuracy", accuracy, ACCURACIES),
    ):
        if word not in known:
            raise InvalidInputError(f"Unknown {what} {word!r}; choose one of {', '.join(known)}.")
    settings.check()
    check_scope(scope)
    if on_progress is not None and not callable(on_progress):
        raise InvalidTypeError(f"on_progress must be callable, got {on_progress!r}.")
    if method == JACOBIAN and scope != CORE:
        raise InvalidInputError(
            f"method={JACOBIAN!r} measures whole modules and has no scope {scope!r}.",
            fix="Leave one of the two out.",
        )
    if max_length is not None:
        check_whole("max_length", max_length, least=SHORTEST)
    check_inputs(inputs, blank_allowed=leave_out_failing)
    with team_of(distributed, on_cpu=_runs_on_cpu(model, device, device_map)) as team:
        model, tokenizer = model_and_tokenizer(
            model,
            tokenizer,
            dtype=dtype,
            device=device,
            device_map=device_map,
            max_memory=max_memory,
            offload_folder=offload_folder,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        check_model(model)
        samples, corpus = _corpus(
            model, inputs, tokenizer, max_length, leave_out_failing, checkpoint
        )
        run = _run_class(method)(
            model,
            samples,
            positions,
            settings,
            layers,
            batch_size,
            progress,
            JACOBIAN if method == JACOBIAN else scope,
            team,
            on_progress,
            corpus,
        )
        with (
            turn_with(model),
            same_random_numbers(model),
            evaluation_mode(model) as was_training,
            torch.no_grad(),
        ):
            if was_training:
                run.warn("The model was in training mode; it was analysed in evaluation mode.")
            try:
                return run.report()
            except KeyboardInterrupt:
                raise AnalysisInterrupted(run.incomplete_report("interrupted")) from None
            except StoppedByCaller as stopped:
                error = stopped.error
            # Outside of the handler, where it would get a context that it did not have.
            try:
                raise error
            finally:
                del error  # it refers to this frame, which refers to the model


def _corpus(
    model: nn.Module,
    inputs: Any,
    tokenizer: Any | None,
    max_length: int | None,
    leave_out: bool,
    checkpoint: str | os.PathLike[str] | None,
) -> tuple[list[Sample], Corpus]:
    """The samples, and how they are handled."""
    left_out: list[LeftOut] = []
    if leave_out:

        def check(sample: Sample) -> None:
            check_token_ids(model, [sample.ids], [sentence_start(sample.source)])

        samples, left_out = usable_samples(inputs, tokenizer, max_length, check)
    else:
        samples = samples_from(inputs, tokenizer, max_length=max_length)
        names = [sentence_start(sample.source) for sample in samples]
        check_token_ids(model, [sample.ids for sample in samples], names)
    folder = None if checkpoint is None else Path(checkpoint)
    return samples, Corpus(max_length, folder, leave_out, left_out)


def _runs_on_cpu(
    model: object, device: torch.device | str | None, device_map: DeviceMap | None
) -> bool:
    if isinstance(model, nn.Module):
        return input_device(model).type == "cpu"
    if device_map is not None:
        return not torch.accelerator.is_available()
    return device is None or str(device).startswith("cpu")


def _run_class(method: str) -> type[AnalysisRun]:
    """Derivatives are not even imported unless they are asked for."""
    if method != JACOBIAN:
        return AnalysisRun
    from hf_ess.analysis.jacobian import JacobianRun

    return JacobianRun


def checked_tolerances(tolerances: Sequence[float]) -> tuple[float, ...]:
    """The tolerances as distinct positive numbers.

    Raises:
        InvalidInputError: none, or one that is zero, negative, not finite, or given twice.
        InvalidTypeError: not numbers.
    """
    if isinstance(tolerances, (int, float)):
        tolerances = (tolerances,)
    try:
        checked = tuple(float(tolerance) for tolerance in tolerances)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(
            f"tolerances must be numbers, got {reprlib.repr(tolerances)}."
        ) from error
    if not checked or len(set(checked)) != len(checked):
        raise InvalidInputError(
            f"Give at least one tolerance, and each once, got {reprlib.repr(tolerances)}."
        )
    for tolerance in checked:
        if not math.isfinite(tolerance) or tolerance <= 0:
            raise InvalidInputError(
                f"A tolerance must be positive and finite, got {tolerance!r}.",
                fix="Use for example 1e-3; to count everything, a tiny one.",
            )
    return checked
