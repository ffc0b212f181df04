"""Where a number comes from: model, revision, libraries, settings."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

PACKAGES = ("hf-ess", "torch", "transformers", "numpy", "huggingface_hub", "safetensors")


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
    """What can be said of a model: its class, id, revision, dtype, device, attention."""
    model = getattr(model, "_orig_mod", model)
    config = getattr(model, "config", None)
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    return {
        "model": getattr(config, "_name_or_path", "") or type(model).__name__,
        "model_class": type(model).__name__,
        "model_type": getattr(config, "model_type", ""),
        "revision": getattr(config, "_commit_hash", None) or "",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": _joined(str(weight.dtype).removeprefix("torch.") for weight in weights),
        "device": _joined(str(weight.device) for weight in model.parameters()),
        "attention_implementation": getattr(config, "_attn_implementation", None) or "",
    }


def _joined(words: Any) -> str:
    return ", ".join(sorted(set(words)))
