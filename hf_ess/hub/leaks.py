"""The last look at what is about to be published: no token, no home folder, no prompt text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_ess.errors import HubError

# Shorter texts are found everywhere, and say little.
FEWEST_CHARACTERS = 20
# What holds a text holds its beginning.
MOST_CHARACTERS = 400
FEWEST_TOKEN_CHARACTERS = 8

Pattern = re.Pattern[str]


def refuse_leaks(
    files: Mapping[str, bytes],
    *,
    before: Mapping[str, bytes],
    tokens: Iterable[str] = (),
    texts: Iterable[str] = (),
    home: str | None = None,
) -> None:
    r"""Refuses files that hold what must not be published.

    What a file held before, in the repository, its owner has published already.

    Args:
        files: contents by path, as they would be sent.
        before: contents of the same paths in the repository, where there are any.
        tokens: secrets of the Hub.
        texts: what was measured, where it is to be kept back.
        home: the home folder; None for that of this process.

    Raises:
        HubError: one of them is in a file; the message names the file and the place.

    Example:
        >>> refuse_leaks({"a.md": b"see /home/me/x"}, before={}, home="/home/you")
        >>> try:
        ...     refuse_leaks({"a.md": b"1\n/home/me/x"}, before={}, home="/home/me")
        ... except HubError as error:
        ...     print(error.what)
        Nothing was sent: a.md would hold the path of your home folder (line 2).
    """
    secrets = _secrets(tokens, texts, str(Path.home()) if home is None else home)
    for path, content in files.items():
        parts = _readable(path, content)
        known = _readable(path, before.get(path, b""))
        for what, secret in secrets:
            if _count(secret, parts) > _count(secret, known):
                raise _leak(path, _place(secret, parts), what)


def _secrets(tokens: Iterable[str], texts: Iterable[str], home: str) -> list[tuple[str, Pattern]]:
    found = [
        ("a token of the Hub", re.compile(re.escape(token)))
        for token in tokens
        if len(token) >= FEWEST_TOKEN_CHARACTERS
    ]
    if len(home.strip("/\\")) >= 2:
        alone = rf"(?<![\w.-]){re.escape(home)}(?![\w-])"
        found.append(("the path of your home folder", re.compile(alone)))
    for text in texts:
        beginning = text.strip()[:MOST_CHARACTERS]
        if len(beginning) >= FEWEST_CHARACTERS:
            words = r"\s+".join(map(re.escape, beginning.split()))
            found.append(("the text that was measured", re.compile(words)))
    return found


def _readable(path: str, content: bytes) -> dict[str, str]:
    """The texts in a file, by where they are; the strings of a list also run together."""
    text = content.decode("utf-8", "replace")
    if path.endswith(".json"):
        try:
            return dict(_strings(json.loads(text), ""))
        except ValueError:
            pass
    return {"": text}


def _strings(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        # The place is named in messages, so that it must not be the secret.
        for number, key in enumerate(value):
            yield f"{where} (name {number + 1})", key
        for key, item in value.items():
            yield from _strings(item, f"{where}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings(item, f"{where}[{number}]")
        yield where, "".join(item for item in value if isinstance(item, str))


def _count(secret: Pattern, parts: Mapping[str, str]) -> int:
    return sum(len(secret.findall(text)) for text in parts.values())


def _place(secret: Pattern, parts: Mapping[str, str]) -> str:
    for where, text in parts.items():
        if found := secret.search(text):
            return where.lstrip(".") or f"line {text.count(chr(10), 0, found.start()) + 1}"
    raise AssertionError("what was counted is found")


def _leak(path: str, place: str, what: str) -> HubError:
    return HubError(
        f"Nothing was sent: {path} would hold {what} ({place}).",
        causes=["a path or a text is part of the model's name, a layer's name or a warning"],
        fix="Load the model by its id on the Hub or from another folder and measure again"
        + ("; --include-text publishes the text." if "text" in what else "."),
    )
