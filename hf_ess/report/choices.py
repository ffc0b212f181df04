"""Choosing one of several things by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from hf_ess.errors import InvalidInputError

T = TypeVar("T")


def chosen(what: str, name: str, known: Mapping[str, T]) -> T:
    """What goes by a name.

    Raises:
        InvalidInputError: nothing does; the message lists the names.

    Example:
        >>> chosen("level", "layer", {"layer": 1, "group": 2})
        1
    """
    if name not in known:
        raise InvalidInputError(
            f"There is no {what} {name!r}.", fix=f"Use one of {', '.join(known)}."
        )
    return known[name]
