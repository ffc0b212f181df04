"""Positions and lists as people write them."""

from __future__ import annotations

from hf_ess.errors import InvalidInputError

SHOWN = 80


def parsed_positions(words: str, name: str = "positions") -> str | int | list[int]:
    """`"auto"`, `"all"`, a stride, or the positions of a comma-separated list.

    Args:
        words: what somebody wrote.
        name: of the option or field, for messages.

    Raises:
        InvalidInputError: none of these.

    Example:
        >>> parsed_positions("auto"), parsed_positions("8"), parsed_positions("8, 16, 24")
        ('auto', 8, [8, 16, 24])
    """
    if words.strip() in ("auto", "all"):
        return words.strip()
    numbers = whole_numbers(words, name)
    return numbers if "," in words else numbers[0]


def whole_numbers(words: str, name: str) -> list[int]:
    """The numbers of a comma-separated list.

    Raises:
        InvalidInputError: it is empty, or something else is in it.
    """
    entries = listed(words, name)
    try:
        return [int(word) for word in entries]
    except ValueError:
        raise InvalidInputError(f"{name} {_shown(words)} is not a list of whole numbers.") from None


def listed(words: str, name: str) -> list[str]:
    """The entries of a comma-separated list, without blanks around them.

    Raises:
        InvalidInputError: there is none.
    """
    entries = [word.strip() for word in words.split(",") if word.strip()]
    if not entries:
        raise InvalidInputError(f"{name} {_shown(words)} lists nothing.")
    return entries


def _shown(words: str) -> str:
    """The beginning is enough to recognise what one wrote."""
    return repr(words if len(words) <= SHOWN else f"{words[: SHOWN - 1]}\u2026")
