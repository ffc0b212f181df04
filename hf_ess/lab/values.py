"""Checks of single values of a configuration, each with an error that names the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from hf_ess.errors import InvalidInputError, InvalidTypeError


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
