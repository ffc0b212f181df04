"""What a training wraps around a model, taken off."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hf_ess.errors import UnsupportedModelError


def unwrapped(model: Any) -> Any:
    """The model inside of `torch.compile`, DataParallel and DistributedDataParallel.

    What is no model comes back as it is.

    Raises:
        UnsupportedModelError: its weights are spread over processes (FSDP, DeepSpeed's third
            stage, tensor parallelism).

    Example:
        >>> import torch
        >>> from hf_ess.training.wrapped import unwrapped
        >>> layer = torch.nn.Linear(2, 2)
        >>> unwrapped(torch.nn.DataParallel(layer)) is layer
        True
    """
    if not isinstance(model, nn.Module):
        return model
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, DataParallel | DistributedDataParallel):
            inner = model.module
        if inner is None:
            break
        model = inner
    if how := _spread(model):
        raise UnsupportedModelError(
            f"The weights of {type(model).__name__} are spread over processes ({how}), and no "
            "process can run it alone.",
            fix="Measure a checkpoint of it with hf_ess.analyze.",
        )
    return model


def _spread(model: nn.Module) -> str:
    """By which means the weights are spread, empty if they are not."""
    fsdp = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    spread = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", ())
    if any(isinstance(module, fsdp) for module in model.modules()):
        return "FSDP"
    for weight in model.parameters():
        if isinstance(weight, spread) or isinstance(weight.data, spread):
            return "DTensor"
        if hasattr(weight, "ds_id"):
            return "DeepSpeed"
    return ""
