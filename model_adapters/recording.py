"""Watching a model while it runs: hooks on, operators out, hooks off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import InvalidInputError, InvalidTypeError, UnsupportedModelError
from model_adapters.mixer_scope import watched_convolutions
from model_adapters.recorder import CORE, MIXER, SCOPES, Recorder, Sink
from model_adapters.registry import MixerAdapter, registered_adapters


@contextmanager
def record_operators(
    model: nn.Module,
    sink: Sink,
    *,
    adapters: Sequence[MixerAdapter] | None = None,
    scope: str = CORE,
    keep_graph: bool = False,
) -> Iterator[Recorder]:
    """Hands every operator that the model applies to `sink`, while the context is open.

    The sink is called inside the forward pass, right after the mixer ran, with one
    `LayerOperator`; when it returns and keeps nothing, the operator is freed before the next
    layer runs. The model computes what it computes without the recording, bit for bit, and all
    hooks are removed at the end, also after an exception. Of recordings of one model that are
    nested in one thread, the innermost gets the operators.

    Args:
        model: the model, in evaluation mode; with `keep_graph` also in training mode.
        sink: called with each `LayerOperator` (`.name .index .mixer .operator .inputs .outputs`).
        adapters: the mixer families to watch, all registered ones by default.
        scope: "core" for what the mixing functions apply, or "mixer" for that together with the
            short convolution and the gates around it where an adapter knows them; the `.scope` of
            each operator says which of the two it is.
        keep_graph: whether autograd follows the operators back to the model's weights, as a loss
            on them needs it. Attention dropout is no part of them. Mixers whose adapter cannot
            do that are refused, like those that are not understood.

    Yields:
        The recorder; `.refused` lists the mixers that ran without an operator, with reasons.

    Raises:
        InvalidTypeError: model is no `torch.nn.Module`, or sink is not callable.
        InvalidInputError: an unknown scope, or a graph is asked for in scope "mixer".
        UnsupportedModelError: the model is in training mode without `keep_graph` (dropout changes
            the operator), forgets its activations (gradient checkpointing) and a graph is asked
            for, or its layers were replaced by kernels that cannot be watched.

    Example:
        >>> import torch, hf_ess
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        ...                      num_attention_heads=2, vocab_size=16)
        >>> model = LlamaForCausalLM(config).eval()
        >>> shapes = []
        >>> with hf_ess.record_operators(model, lambda layer: shapes.append(layer.operator.shape)):
        ...     _ = model(torch.tensor([[1, 2, 3, 4]]))
        >>> shapes
        [(1, 2, 4, 4)]
    """
    _check(model, sink, keep_graph)
    check_scope(scope)
    if keep_graph and scope != CORE:
        raise InvalidInputError(f"A graph is kept in scope {CORE!r} only, not in {scope!r}.")
    compiled, model = model, getattr(model, "_orig_mod", model)
    recorder = Recorder(model, sink, scope, keep_graph=keep_graph)
    watching = registered_adapters() if adapters is None else adapters
    recorder.with_graph = {adapter.mixer for adapter in watching if adapter.keeps_graph}
    with ExitStack() as stack:
        stack.enter_context(eager_execution(compiled))
        stack.enter_context(_innermost(recorder))
        stack.enter_context(_running_modules(model, recorder))
        if scope == MIXER:
            stack.enter_context(watched_convolutions(model, recorder))
        for adapter in watching:
            stack.enter_context(adapter.watch(model, recorder))
        yield recorder


def check_scope(scope: str) -> None:
    """Refuses a scope that does not exist.

    Raises:
        InvalidInputError: neither "core" nor "mixer".
    """
    if scope not in SCOPES:
        raise InvalidInputError(f"Unknown scope {scope!r}; choose one of {', '.join(SCOPES)}.")


def _check(model: nn.Module, sink: Sink, keep_graph: bool) -> None:
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(
            f"record_operators needs a torch.nn.Module, got {type(model).__name__}."
        )
    if not callable(sink):
        raise InvalidTypeError(f"The sink must be callable, got {type(sink).__name__}.")
    if model.training and not keep_graph:
        raise UnsupportedModelError(
            "The model is in training mode, where dropout changes its operators.",
            fix="Call model.eval() first.",
        )
    if keep_graph and model.training and _forgets_activations(model):
        raise UnsupportedModelError(
            "The model computes its activations a second time for the gradients (gradient "
            "checkpointing), and operators with a graph would belong to the first time.",
            fix="Switch gradient checkpointing off for the layers of this model.",
        )
    if getattr(model, "use_kernels", False):
        raise UnsupportedModelError(
            "The model's layers were replaced by kernels (use_kernels=True), which hide what the "
            "mixers compute.",
            fix="Load the model with use_kernels=False.",
        )


def _forgets_activations(model: nn.Module) -> bool:
    modules = model.modules()
    return any(getattr(module, "gradient_checkpointing", False) is True for module in modules)


def eager_execution(model: nn.Module) -> AbstractContextManager[Any]:
    """Compiled modules would run past the hooks without a word; run them eagerly."""
    compiled = any(
        module._compiled_call_impl is not None or hasattr(module, "_orig_mod")
        for module in model.modules()
    )
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


_open: list[Recorder] = []


@contextmanager
def unrecorded(model: nn.Module) -> Iterator[None]:
    """Recordings of a model in this thread, opened outside, do not see what it does in here.

    Example:
        >>> import torch, hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> from model_adapters.recording import unrecorded
        >>> model, seen = build_model(SyntheticConfig(["LA"], vocab_size=8)).eval(), []
        >>> with hf_ess.record_operators(model, seen.append), unrecorded(model):
        ...     _ = model(torch.arange(8)[None])
        >>> seen
        []
    """
    waiting = [other for other in _open if other.model is model and other.here]
    for other in waiting:
        other.waits = True
    try:
        yield
    finally:
        for other in waiting:
            other.waits = False


@contextmanager
def _innermost(recorder: Recorder) -> Iterator[None]:
    """Recordings of the same model in the same thread wait until those inside of them are over."""
    with unrecorded(recorder.model):
        _open.append(recorder)
        try:
            yield
        finally:
            _open.remove(recorder)


@contextmanager
def _running_modules(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Tells the recorder which module runs."""

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module is model:
            recorder.start_forward(*_shape_of_inputs(args, kwargs))
        recorder.enter(module)

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        recorder.leave(module)

    first, last = recorder.own(enter), recorder.own(leave)
    handles = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(first, prepend=True, with_kwargs=True))
            handles.append(module.register_forward_hook(last, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shape_of_inputs(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int | None, int | None]:
    """Samples and tokens of a call of the model."""
    named = (kwargs.get(name) for name in ("input_ids", "inputs_embeds"))
    tensors = [value for value in (*named, *args) if isinstance(value, Tensor) and value.ndim > 1]
    return (tensors[0].shape[0], tensors[0].shape[1]) if tensors else (None, None)
