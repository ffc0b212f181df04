"""Plain data as lines of YAML, or as YAML in one line, for any strings that are in it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hf_ess.errors import InvalidInputError

# Words that YAML 1.1 or 1.2 reads as something else than text.
_NOT_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])
_WORDS = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
# What JSON writes as it is and YAML would not read, or would read as a line break.
_UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def scalar(value: object) -> str:
    """One value; text stays bare where every version of YAML reads it as text.

    Raises:
        InvalidInputError: the value is not text, a number, a truth value or None.

    Example:
        >>> print(scalar("llama"), scalar("no"), scalar(1e-05), scalar(True), scalar(None))
        llama "no" 1.0e-05 true null
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return _text(value)
    raise InvalidInputError(
        f"Metadata of a card cannot hold a value of type {type(value).__name__}.",
        fix="Pass text, numbers, truth values, None, and lists and mappings of them.",
    )


def flow(value: Any) -> str:
    """Data in one line, which may stand in brackets or braces of others.

    Example:
        >>> flow({"name": "a: b", "values": [1, 2.5]})
        '{name: "a: b", values: [1, 2.5]}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(k))}: {flow(v)}" for k, v in value.items()) + "}"
    if _is_list(value):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def block(value: Any) -> list[str]:
    r"""Data as lines without line breaks, the way people write metadata of cards.

    Example:
        >>> print("\n".join(block({"name": "m", "results": [{"task": {"type": "a"}, "size": 1}]})))
        name: m
        results:
        - task:
            type: a
          size: 1
    """
    if isinstance(value, Mapping) and value:
        return [line for key, inner in value.items() for line in _entry(str(key), inner)]
    if _is_list(value) and value:
        return [line for inner in value for line in _item(inner)]
    return [flow(value)]


def _entry(key: str, value: Any) -> list[str]:
    lines = block(value)
    if isinstance(value, Mapping) and value:
        return [f"{scalar(key)}:", *(f"  {line}" for line in lines)]
    if _is_list(value) and value:
        return [f"{scalar(key)}:", *lines]
    return [f"{scalar(key)}: {lines[0]}"]


def _item(value: Any) -> list[str]:
    first, *others = block(value)
    return [f"- {first}", *(f"  {line}" for line in others)]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise InvalidInputError(
            f"Metadata of a card cannot hold {value}.", fix="Leave out what has no value."
        )
    text = float.__repr__(value)
    mantissa, exponent, power = text.partition("e")
    # YAML 1.1 reads 1e-05, without a point, as text.
    return text if "." in mantissa else f"{mantissa}.0{exponent}{power}"


def _text(value: str) -> str:
    if _SURROGATE.search(value):
        raise InvalidInputError(
            f"The text {value!r} holds half of a character and cannot be written as UTF-8.",
            fix="Correct the name or text that it comes from.",
        )
    if _WORDS.fullmatch(value) and value.lower() not in _NOT_WORDS:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNREADABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)
