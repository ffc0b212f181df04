"""Weights of a module that are not simply there: offloaded by accelerate, or packed by a quantizer.

Where accelerate offloads, a module has its weights during its own forward only. Before and after,
which is when hooks run, they are on the meta device and hold no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError


@contextmanager
def weights_here(module: nn.Module, *, recurse: bool = True) -> Iterator[None]:
    """Brings offloaded weights and buffers of a module for the context, and takes them away again.

    Costs nothing where nothing is offloaded, or where the module runs and has its weights.

    Args:
        module: the module, with or without accelerate's hooks.
        recurse: whether its submodules get their weights too.

    Example:
        >>> import torch
        >>> from accelerate import cpu_offload
        >>> from model_adapters.weights import weights_here
        >>> layer = cpu_offload(torch.nn.Linear(2, 2), execution_device=torch.device("cpu"))
        >>> with weights_here(layer):
        ...     inside = layer.weight.device
        >>> inside.type, layer.weight.device.type
        ('cpu', 'meta')
    """
    with ExitStack() as stack:
        for part in module.modules() if recurse else (module,):
            hook = getattr(part, "_hf_hook", None)
            if hook is not None and any(tensor.is_meta for tensor in _tensors_of(part, hook)):
                hook.pre_forward(part)
                stack.callback(hook.post_forward, part, None)
        yield


def weight_of(module: nn.Module, name: str = "weight") -> Tensor:
    """A parameter or buffer as plain floating-point numbers, wherever and however it is kept.

    Raises:
        UnsupportedMixerError: it is packed in a form that cannot be unpacked, or it is nowhere.

    Example:
        >>> import torch
        >>> from model_adapters.weights import weight_of
        >>> weight_of(torch.nn.Linear(3, 2)).shape
        torch.Size([2, 3])
    """
    with weights_here(module, recurse=False):
        weight = getattr(module, name)
        # Linear layers of torch.ao have methods of these names.
        weight = _unpacked(weight() if callable(weight) else weight)
    if weight is None:
        raise UnsupportedMixerError(
            f"its {name} is packed ({type(getattr(module, name)).__name__}) and cannot be unpacked"
        )
    if weight.is_meta:
        raise UnsupportedMixerError(f"its {name} is on the meta device and holds no numbers")
    return weight


def bias_of(module: nn.Module) -> Tensor | None:
    """The bias of a module as `weight_of` gives it, None where it has none."""
    bias = getattr(module, "bias", None)
    if callable(bias):
        bias = bias()
    return None if bias is None else weight_of(module, "bias")


def execution_devices(model: nn.Module) -> dict[str, torch.device]:
    """Where every parameter is when it is used, by its name; meta if it never comes from there."""
    brought: dict[int, torch.device] = {}
    for part in model.modules():
        for hook in _hooks_of(part):
            if getattr(hook, "offload", False):
                device = torch.device(hook.execution_device)
                brought |= {id(tensor): device for tensor in _tensors_of(part, hook)}
    return {
        name: brought.get(id(weight), weight.device) if weight.is_meta else weight.device
        for name, weight in model.named_parameters()
    }


def where_it_runs(module: nn.Module, call: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name on the device to which accelerate moves them before the module runs.

    Hooks see them before that, and a map may put a module elsewhere than the one around it.
    """
    devices = [getattr(hook, "execution_device", None) for hook in _hooks_of(module)]
    chosen = next((torch.device(device) for device in devices if device is not None), None)
    if chosen is None:
        return call
    return {
        name: value.to(chosen) if isinstance(value, Tensor) else value
        for name, value in call.items()
    }


@contextmanager
def without_offloading(module: nn.Module) -> Iterator[None]:
    """Runs of the module use the weights that it has now, as if accelerate had no hooks on it."""
    hooked = [vars(part) for part in module.modules() if "_old_forward" in vars(part)]
    replaced = [(part["forward"], part["_hf_hook"]) for part in hooked]
    try:
        for part in hooked:
            part["forward"] = part["_old_forward"]
            # Some models of transformers call the hooks of their parts themselves.
            del part["_hf_hook"]
        yield
    finally:
        for part, (forward, hook) in zip(hooked, replaced, strict=True):
            part |= {"forward": forward, "_hf_hook": hook}


def non_finite_weights(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of weights that hold NaN or infinity, and of those that cannot be looked at.

    Offloaded weights come one module at a time.
    """
    broken, unseen = [], []
    for path, part in model.named_modules():
        with weights_here(part, recurse=False):
            for name, weight in part.named_parameters(path, recurse=False):
                values = _unpacked(weight)
                if values is None or values.is_meta:
                    unseen.append(name)
                elif not bool(torch.isfinite(values).all()):
                    broken.append(name)
    return broken, unseen


def is_packed(weight: Tensor) -> bool:
    """Whether a parameter is the work of a quantizer instead of numbers to multiply with."""
    return type(weight) not in (Tensor, nn.Parameter)


def _unpacked(weight: Any) -> Tensor | None:
    """Floating-point numbers, None if they cannot be had."""
    if not isinstance(weight, Tensor):
        return None
    values: Tensor = weight.detach()
    if values.is_floating_point() and type(values) is Tensor:
        return values
    # Torch's own method gives packed integers back as if they were the numbers.
    if type(values).dequantize is Tensor.dequantize and not values.is_quantized:
        return None
    plain = values.dequantize()
    return plain if plain.is_floating_point() else None


def _hooks_of(module: nn.Module) -> list[Any]:
    """Accelerate's hooks on a module: none, one, or several in a row."""
    hook = getattr(module, "_hf_hook", None)
    return [] if hook is None else list(getattr(hook, "hooks", [hook]))


def _tensors_of(module: nn.Module, hook: Any) -> Iterator[Tensor]:
    """What a hook brings: the module's own weights and buffers, or those of its submodules too."""
    recurse = any(getattr(one, "place_submodules", False) for one in getattr(hook, "hooks", [hook]))
    return chain(module.parameters(recurse), module.buffers(recurse))
