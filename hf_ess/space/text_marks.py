"""Where sentences, lines and passages of a tokenized text end."""

from __future__ import annotations

from collections.abc import Sequence

from hf_ess.report.token_labels import is_marker

# The first kind is also written inside of numbers and names; the second kind is not.
SENTENCE_ENDS = ".!?\u2026"
ALWAYS_ENDS = "\u3002\uff01\uff1f\u0964\u061f"
CLOSING = "\"')]}\u00bb\u201d\u2019\u300d"


def passage_ends(tokens: Sequence[str]) -> list[int]:
    r"""Indices of the tokens that end a sentence, a line, or a passage (such as `</s>`).

    A full stop ends a sentence only where a space, a line break or a marker follows, so that
    `3.14` is one number.

    Example:
        >>> passage_ends(["Yes", ".", " Pi", " is", " 3", ".", "1", "\n", "So", "</s>"])
        [1, 7, 9]
    """
    return [
        number
        for number, token in enumerate(tokens)
        if is_marker(token)
        or "\n" in token
        or _last_letter(token) in ALWAYS_ENDS
        or (_last_letter(token) in SENTENCE_ENDS and _is_free(tokens, number + 1))
    ]


def _last_letter(token: str) -> str:
    """What a token ends with apart from blanks and closing marks; a blank if there is nothing."""
    return (token.strip().rstrip(CLOSING) or " ")[-1]


def _is_free(tokens: Sequence[str], number: int) -> bool:
    """Whether the token of that number begins something new."""
    if number >= len(tokens):
        return True
    token = tokens[number]
    return not token or token[0].isspace() or is_marker(token)
