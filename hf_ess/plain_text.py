"""Text from models, users and servers, made safe to show: no control characters, no secrets."""

from __future__ import annotations

import logging
import os
import re
import traceback
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

HIDDEN = "***"
# Shorter words stand in ordinary sentences.
FEWEST_CHARACTERS = 8
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SECRETS = (
    (re.compile(r"\bhf_(?:[A-Za-z0-9]{16,}|(?:oauth|jwt)_[\w.-]{8,})"), f"hf_{HIDDEN}"),
    (re.compile(r"(?<=Bearer )[^\s'\"]+"), HIDDEN),
    (re.compile(r"(?<=://)[^\s/?#]{1,256}@"), ""),
)
_WHITE = re.compile(r"([\n\t])")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


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


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """The text without tokens of the Hub, what follows `Bearer`, and passwords in addresses.

    Args:
        text: of any origin.
        known: secrets that look like ordinary words; shorter than 8 characters they stay.

    Example:
        >>> without_secrets("https://jane:word@host/x of hf_abcdefghijklmnopqr")
        'https://host/x of hf_***'
    """
    for secret in known:
        if len(secret) >= FEWEST_CHARACTERS:
            text = text.replace(secret, HIDDEN)
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def safe_to_show(text: str) -> str:
    r"""Lines for a person: printable but for their tabs, no colours, no secret of the user.

    Example:
        >>> safe_to_show("no layer \x1b[31mred\x1b[0m\n\x07 of Bearer abc")
        'no layer red\n\\x07 of Bearer ***'
    """
    tokens = [os.environ[name] for name in _TOKEN_VARIABLES if name in os.environ]
    plain = _COLOURS.sub("", without_secrets(text, tokens))
    return "".join(word if word in "\n\t" else printable(word) for word in _WHITE.split(plain))


@contextmanager
def safe_logs() -> Iterator[None]:
    """What any library logs inside of the context is safe to show, tracebacks too."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_SafeRecord)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


class _SafeRecord(logging.LogRecord):
    """A record of a log whose words come from models and servers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.exc_info and self.exc_info[0] is not None:
            lines = traceback.format_exception(*self.exc_info)
            self.exc_text = safe_to_show("".join(lines).rstrip())

    def getMessage(self) -> str:  # noqa: N802 - the name is that of logging
        return safe_to_show(super().getMessage())
