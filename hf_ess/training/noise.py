"""Vectors in place of token embeddings: Gaussian noise, and how a model is run on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.analysis.model_checks import (
    explained_length,
    forward_options,
    forward_parameters,
    input_device,
    input_embeddings,
)
from hf_ess.analysis.run import TRIAL_LENGTH
from hf_ess.errors import InvalidInputError, UnsupportedModelError

VECTORS, IDS = "inputs_embeds", "input_ids"
# What modules call the number of their input channels.
WIDTHS = ("hidden_size", "d_model", "embed_dim")
GIVE_IDS = "Pass `inputs`, token ids [B, L]."
GIVE_INPUTS = "Pass `inputs`, vectors [B, L, d] of the right width."


def gaussian_noise(model: nn.Module, samples: int, length: int, seed: int) -> Tensor:
    """Independent numbers of variance one, `[B, L, d]`, in place of the model's embeddings.

    Drawn in float32 on the CPU by a generator of their own.

    Raises:
        InvalidInputError: the module does not say how wide its inputs are.
        UnsupportedModelError: the model takes token ids only.

    Example:
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["GLA"], vocab_size=16, hidden_size=32))
        >>> gaussian_noise(model, samples=2, length=5, seed=0).shape
        torch.Size([2, 5, 32])
    """
    known = forward_parameters(model)
    if VECTORS not in known and IDS in known:
        raise UnsupportedModelError(
            f"{type(model).__name__} takes token ids and no vectors (no `{VECTORS}` in its "
            "forward), so that it cannot run on noise.",
            fix=GIVE_IDS,
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, length, _width(model), generator=generator)


def run_on(model: nn.Module, inputs: Tensor) -> Any:
    """Runs a model on vectors `[B, L, d]` or token ids `[B, L]`, without a cache.

    A module whose forward names neither (a mixer alone) gets the vectors as its only argument.
    Inputs are brought to where the model wants them, vectors in the dtype of its weights.

    Raises:
        InvalidInputError: the model does not take inputs of this kind, or not so many.
        UnsupportedModelError: it takes vectors, but only those of tokens.
    """
    known, length = forward_parameters(model), inputs.shape[1]
    name = VECTORS if inputs.is_floating_point() else IDS
    if name not in known and (name == IDS or IDS in known):
        raise InvalidInputError(
            f"{type(model).__name__} does not take {name}.",
            fix="Pass vectors [B, L, d] to a mixer, token ids [B, L] to what takes only those.",
        )
    inputs = inputs.to(input_device(model), _dtype_for(model, inputs))
    with explained_length(model, length):
        if name not in known:
            return model(inputs)
        try:
            return model(**{name: inputs}, **forward_options(model, length))
        except RuntimeError as error:
            # Models that look up more of a token than its embedding say that they cannot do so.
            if name != VECTORS or VECTORS not in str(error):
                raise
            raise UnsupportedModelError(
                f"{type(model).__name__} does not run on vectors of no token: {error}",
                fix=GIVE_IDS,
            ) from error


def _width(model: nn.Module) -> int:
    """Channels of the vectors that a model takes."""
    embeddings = input_embeddings(model)
    weight = getattr(embeddings, "weight", None)
    if isinstance(weight, Tensor):
        return int(weight.shape[-1])
    for owner in (model, getattr(model, "config", None)):
        for name in WIDTHS:
            width = getattr(owner, name, None)
            if isinstance(width, int) and width > 0:
                return width
    raise InvalidInputError(
        f"{type(model).__name__} does not say how wide its inputs are.",
        causes=[f"it has neither input embeddings nor one of {', '.join(WIDTHS)}"],
        fix=GIVE_INPUTS,
    )


def _dtype_for(model: nn.Module, inputs: Tensor) -> torch.dtype:
    """That of the model's weights for vectors; ids stay what they are."""
    if not inputs.is_floating_point():
        return inputs.dtype
    dtypes = (weight.dtype for weight in model.parameters() if weight.is_floating_point())
    return next(dtypes, inputs.dtype)


def trial_inputs(model: nn.Module) -> Tensor:
    """Short inputs on which a model can be asked what it does: token ids, or noise for a mixer.

    Raises:
        InvalidInputError, UnsupportedModelError: as `gaussian_noise`.

    Example:
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> trial_inputs(build_model(SyntheticConfig(["GLA"], vocab_size=8)))
        tensor([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4]])
    """
    vocabulary = getattr(input_embeddings(model), "num_embeddings", None)
    if IDS in forward_parameters(model) and vocabulary is not None:
        return torch.arange(TRIAL_LENGTH).remainder(int(vocabulary))[None]
    return gaussian_noise(model, 1, TRIAL_LENGTH, seed=0)
