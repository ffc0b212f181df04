"""New models for a state size and a seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import nn

from hf_ess.analysis.model_checks import check_module
from hf_ess.errors import InvalidTypeError

SEED = "seed"


class Builder:
    """Calls what the user builds models with, and leaves torch's random numbers as they were.

    Args:
        build: `build(state_size)`, or `build(state_size, seed=...)` where it has such a parameter.

    Raises:
        InvalidTypeError: not callable.
    """

    def __init__(self, build: Callable[..., nn.Module]) -> None:
        if isinstance(build, nn.Module) or not callable(build):
            raise InvalidTypeError(
                f"build_model must be a function that gives a new model for a state size, got "
                f"{type(build).__name__}.",
                causes=["a model in place of a function that builds one"],
                fix="Pass for example lambda n: MambaForCausalLM(MambaConfig(state_size=n)).",
            )
        self.build = build
        self.options = (SEED,) if SEED in _parameters(build) else ()

    def __call__(self, state_size: int, seed: int) -> nn.Module:
        """A new model.

        Raises:
            InvalidTypeError: what was built is no `torch.nn.Module`.
            UnsupportedModelError: it is an encoder-decoder, or has no weights.
        """
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            model = self.build(state_size, **dict.fromkeys(self.options, seed))
        if not isinstance(model, nn.Module):
            raise InvalidTypeError(
                f"build_model({state_size}) gave a {type(model).__name__}, not a torch.nn.Module."
            )
        # A compiled model would run past the hooks; what it was compiled from computes the same.
        original: nn.Module = getattr(model, "_orig_mod", model)
        check_module(original)
        return original


def _parameters(function: Callable[..., object]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except ValueError:  # of some builtins nothing is known
        return set()
