"""A model that is looked at in the middle of a training, and given back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hf_ess.analysis.model_checks import evaluation_mode
from hf_ess.analysis.random_numbers import same_random_numbers
from model_adapters.weights import execution_devices

Given = TypeVar("Given")
Result = TypeVar("Result")

AUTOCAST_KINDS = ("cpu", "cuda", "xpu", "mps")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the training goes on as if nothing had been.

    Given back, also after an exception: the mode, buffers, attributes and submodules of every
    module, and the random numbers of Python, numpy and torch, on the CPU and the model's devices.
    Gradients are not touched. Weights that autocast converts meanwhile are not remembered: they
    have no graph, and a training step within the same autocast context would use them.

    Example:
        >>> import torch
        >>> from hf_ess.training.undisturbed import undisturbed
        >>> model = torch.nn.BatchNorm1d(2).train()
        >>> with undisturbed(model):
        ...     model.training, torch.is_grad_enabled()
        (False, False)
        >>> model.training
        True
    """
    kinds = {device.type for device in execution_devices(model).values()} - {"meta"}
    with ExitStack() as stack:
        stack.enter_context(same_random_numbers(model))
        stack.enter_context(_same_modules(model))
        for kind in sorted(kinds | {"cpu"}):
            stack.enter_context(_autocast_that_forgets(kind))
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(torch.no_grad())
        yield


def without_autocast(function: Callable[[Given], Result]) -> Callable[[Given], Result]:
    """The function in the arithmetic of its arguments, though it is called within autocast."""

    @wraps(function)
    def computed(given: Given) -> Result:
        with ExitStack() as stack:
            for kind in AUTOCAST_KINDS:
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            return function(given)

    return computed


@contextmanager
def _autocast_that_forgets(kind: str) -> Iterator[None]:
    if not torch.is_autocast_enabled(kind):
        yield
        return
    dtype = torch.get_autocast_dtype(kind)
    with torch.autocast(kind, dtype=dtype, cache_enabled=False):
        yield


@contextmanager
def _same_modules(model: nn.Module) -> Iterator[None]:
    """Some models keep tables for the longest text that they saw, or exchange modules."""
    kept = [_Kept(module) for module in model.modules()]
    try:
        yield
    finally:
        for module in kept:
            module.give_back()


class _Kept:
    """What one module holds besides its weights."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.attributes: dict[str, Any] = dict(vars(module))
        self.submodules = dict(module._modules)
        self.buffers = dict(module._buffers)
        # Tensors made in inference mode have no versions, and cannot change outside of it.
        self.values: dict[str, tuple[int, Tensor]] = {
            name: (buffer._version, buffer.clone())
            for name, buffer in self.buffers.items()
            if buffer is not None and not buffer.is_inference()
        }

    def give_back(self) -> None:
        """Only what changed is written, since assignments may have guards."""
        with torch.no_grad():
            for name, (version, value) in self.values.items():
                buffer = self.buffers[name]
                if buffer is not None and buffer._version != version:
                    buffer.copy_(value)
        for here, before in (
            (self.module._buffers, self.buffers),
            (self.module._modules, self.submodules),
            (vars(self.module), self.attributes),
        ):
            _restore(here, before)


def _restore(here: dict[str, Any], before: dict[str, Any]) -> None:
    for name in here.keys() - before.keys():
        del here[name]
    for name, value in before.items():
        if here.get(name) is not value:
            here[name] = value
