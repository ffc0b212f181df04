"""Checks of single arguments, the same everywhere, each with an error that names the argument."""

from __future__ import annotations

import math

from hf_ess.errors import InvalidInputError, InvalidTypeError


def check_whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number in a range.

    Raises:
        InvalidTypeError: no whole number; True and 1.0 are none.
        InvalidInputError: below `least` or above `most`.

    Example:
        >>> check_whole("steps", 100, least=1)
        100
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTypeError(f"{name} must be a whole number, got {value!r}.")
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise InvalidInputError(f"{name} must be {limits}, got {value}.")
    return value


def check_number(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
    fix: str = "",
) -> float:
    """A finite number in a range.

    Args:
        name: of the argument.
        value: what was given.
        above: the number is larger than this.
        least: the number is this or larger.
        most: the number is this or smaller.
        fix: what to do about a number out of range.

    Raises:
        InvalidTypeError: no number; True is none.
        InvalidInputError: NaN, infinite or out of range.

    Example:
        >>> check_number("share", 0.02, above=0, most=1)
        0.02
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTypeError(f"{name} must be a number, got {value!r}.")
    if not math.isfinite(value):
        raise InvalidInputError(f"{name} must be finite, got {value!r}.", fix=fix)
    if value <= above or not least <= value <= most:
        limits = [
            f"above {above:g}" if math.isfinite(above) else "",
            f"at least {least:g}" if math.isfinite(least) else "",
            f"at most {most:g}" if math.isfinite(most) else "",
        ]
        raise InvalidInputError(
            f"{name} must be {' and '.join(filter(None, limits))}, got {value!r}.", fix=fix
        )
    return float(value)
