"""Where a number comes from: model, revision, libraries, settings."""

from __future__ import annotations

import math
import os.path
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor, nn

from model_adapters.weights import execution_devices, is_packed

PACKAGES = ("hf-ess", "torch", "transformers", "numpy", "huggingface_hub", "safetensors")
# Where transformers puts Python files that come with a checkpoint.
REMOTE_CODE = "transformers_modules."


def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape the numbers."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def model_provenance(model: nn.Module) -> dict[str, Any]:
    """What can be said of a model: its class, id, revision, dtype, quantization, attention.

    The device is where it computes; where weights wait until then says nothing of the numbers.
    """
    model = getattr(model, "_orig_mod", model)
    config = getattr(model, "config", None)
    weights = dict(model.named_parameters())
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    name = str(getattr(config, "_name_or_path", "") or type(model).__name__)
    return {
        "model": name,
        "model_is_local": name.lower().endswith(".gguf")
        or os.path.exists(os.path.expanduser(name)),
        "model_class": type(model).__name__,
        "model_type": getattr(config, "model_type", ""),
        "revision": getattr(config, "_commit_hash", None) or "",
        # Offloaded weights that are one have two places.
        "parameters": sum(
            _size(weight)
            for name, weight in weights.items()
            if not (weight.is_meta and tied.get(name) in weights)
        ),
        "dtype": _joined(
            str(weight.dtype).removeprefix("torch.")
            for weight in weights.values()
            if weight.is_floating_point()
        ),
        "quantization": _quantization(model),
        "device": _joined(str(device) for device in execution_devices(model).values()),
        "attention_implementation": getattr(config, "_attn_implementation", None) or "",
        "remote_code": type(model).__module__.startswith(REMOTE_CODE),
    }


def _size(weight: Tensor) -> int:
    """Number of numbers, of which a packed weight of bitsandbytes holds several in one byte."""
    shape = getattr(getattr(weight, "quant_state", None), "shape", None)
    return weight.numel() if shape is None else math.prod(shape)


def _quantization(model: nn.Module) -> str:
    """The quantizer, if there is one, and the kinds of packed weights; empty for plain weights."""
    settings = getattr(getattr(model, "config", None), "quantization_config", None)
    named = settings if isinstance(settings, dict) else vars(settings) if settings else {}
    method = named.get("quant_method")
    kinds = [type(weight).__name__ for weight in model.parameters() if is_packed(weight)]
    if any(type(part).__module__.startswith("torch.ao.nn.quantized") for part in model.modules()):
        kinds.append("torch.ao")
    words = [str(getattr(method, "value", method) or ""), _joined(kinds)]
    return ": ".join(word for word in words if word)


def _joined(words: Any) -> str:
    return ", ".join(sorted(set(words)))
