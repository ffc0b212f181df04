"""Checks of single values of a configuration, each with an error that names the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.training.regularizer import checked_number


def check_names(what: str, given: Iterable[object], known: Iterable[str]) -> None:
    """Refuses names that nothing goes by.

    Raises:
        InvalidInputError: a name is unknown; the message has the nearest known one.

    Example:
        >>> check_names("field", ["seed"], ["seed", "steps"])
    """
    names = list(known)
    for name in given:
        if name not in names:
            near = get_close_matches(str(name), names, n=1)
            raise InvalidInputError(
                f"There is no {what} {name!r}.",
                causes=[f"{near[0]!r} is meant"] if near else [],
                fix=f"It is one of {', '.join(names)}.",
            )


def check_mapping(name: str, value: object) -> None:
    """Refuses what is no mapping.

    Raises:
        InvalidTypeError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise InvalidTypeError(f"{name} must be a mapping of names to values, got {value!r}.")


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Refuses what is no whole number, or is out of range.

    Raises:
        InvalidTypeError: no whole number.
        InvalidInputError: below `least` or above `most`.

    Example:
        >>> check_whole("steps", 100, least=1)
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidTypeError(f"{name} must be a whole number, got {value!r}.")
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise InvalidInputError(f"{name} must be {limits}, got {value}.")


def check_number(name: str, value: float, *, above: float | None = None) -> None:
    """Refuses what is no finite number of 0 or more, or not above `above`.

    Raises:
        InvalidTypeError: no number.
        InvalidInputError: out of range.

    Example:
        >>> check_number("learning_rate", 2e-3, above=0)
    """
    number = checked_number(name, value)
    if number < 0 or (above is not None and number <= above):
        least = "at least 0" if above is None else f"above {above:g}"
        raise InvalidInputError(f"{name} must be {least}, got {value!r}.")
