"""Models that are given as objects or by name."""

from __future__ import annotations

import os
from typing import Any

from torch import nn


def model_and_tokenizer(model: Any, tokenizer: Any | None, **options: Any) -> tuple[nn.Module, Any]:
    """A model that was given as it is, one that was named loaded with its tokenizer.

    A compiled model would run past the hooks; what it was compiled from computes the same and is
    returned in its place. Objects that are no models are left to `check_model`.

    Args:
        model: an object, or a name, folder or file as `model_adapters.loading.load` takes it.
        tokenizer: goes before the one that comes with a named model.
        **options: of `model_adapters.loading.load`.

    Raises:
        InvalidInputError, ModelLoadError, UnsupportedModelError: as `model_adapters.loading.load`.

    Example:
        >>> import torch
        >>> model = torch.nn.Identity()
        >>> model_and_tokenizer(model, None)
        (Identity(), None)
    """
    if isinstance(model, (str, os.PathLike)):
        from model_adapters.loading import load

        loaded = load(model, **options)
        model, tokenizer = loaded.model, tokenizer or loaded.tokenizer
    return getattr(model, "_orig_mod", model), tokenizer
