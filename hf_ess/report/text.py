"""Text from models and users, made safe to show."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    r"""The text with control and other invisible characters written out as escapes.

    A name may hold terminal escape codes, line breaks or marks that reverse the reading
    direction; none of them may reach a terminal or a table.

    Example:
        >>> printable("layer\x1b[31m")
        'layer\\x1b[31m'
    """
    # Categories C*: control, format, surrogate, private use, unassigned; Zl, Zp: line breaks.
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character)[0] == "C"
        or unicodedata.category(character) in ("Zl", "Zp")
        else character
        for character in text
    )


def shortened(text: str, limit: int) -> str:
    """The text cut to `limit` characters, the last one an ellipsis where something is missing.

    Example:
        >>> shortened("self_attention", 8)
        'self_at…'
    """
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"


def counted(number: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> counted(1, "layer"), counted(3, "layer")
        ('1 layer', '3 layers')
    """
    return f"{number} {noun}{'s' if number != 1 else ''}"
