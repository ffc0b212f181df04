"""Words of tables and messages."""

from __future__ import annotations


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
