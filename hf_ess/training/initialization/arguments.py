"""What the probe takes, checked before anything is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError, NonFiniteError
from hf_ess.training.decay_rates import checked_alpha


def checked_inputs(inputs: Any) -> Tensor | None:
    """Vectors `[B, L, d]` or token ids `[B, L]`, None for none.

    Raises:
        InvalidTypeError: no tensor of floats or whole numbers.
        InvalidInputError: of another shape.
        NonFiniteError: NaN or infinite.
    """
    if inputs is None:
        return None
    if not isinstance(inputs, Tensor) or inputs.is_complex() or inputs.dtype == torch.bool:
        raise InvalidTypeError(f"inputs must be a tensor of vectors or ids, got {inputs!r}.")
    axes = 3 if inputs.is_floating_point() else 2
    if inputs.ndim != axes or not inputs.numel():
        raise InvalidInputError(
            f"inputs have the shape {list(inputs.shape)}.",
            fix="Pass vectors [B, L, d], or token ids [B, L].",
        )
    if not bool(torch.isfinite(inputs).all()):
        raise NonFiniteError("The inputs hold NaN or infinity.")
    return inputs


def checked_alphas(alphas: Any) -> tuple[float, ...] | None:
    """Distinct positive numbers, None for none.

    Raises:
        InvalidTypeError, InvalidInputError: anything else.
    """
    if alphas is None:
        return None
    if not isinstance(alphas, Iterable) or isinstance(alphas, str):
        raise InvalidTypeError(f"alphas must be numbers, got {alphas!r}.")
    checked = tuple(map(checked_alpha, alphas))
    if not checked or len(set(checked)) < len(checked):
        raise InvalidInputError(f"alphas must be distinct, and at least one, got {alphas!r}.")
    return checked


def whole_numbers(name: str, numbers: Any, *, least: int) -> tuple[int, ...]:
    """Distinct whole numbers, at least one, none below `least`.

    Raises:
        InvalidTypeError, InvalidInputError: anything else.

    Example:
        >>> whole_numbers("seeds", range(3), least=0)
        (0, 1, 2)
    """
    if not isinstance(numbers, Iterable) or isinstance(numbers, str):
        raise InvalidTypeError(f"{name} must be whole numbers, got {numbers!r}.")
    listed: list[Any] = list(numbers)
    if any(isinstance(x, bool) or not hasattr(x, "__index__") for x in listed):
        raise InvalidTypeError(f"{name} must be whole numbers, got {listed}.")
    checked = tuple(map(int, listed))
    if not checked or min(checked) < least or len(set(checked)) < len(checked):
        raise InvalidInputError(
            f"{name} must be distinct, of {least} or more, and at least one, got {listed}."
        )
    return checked
