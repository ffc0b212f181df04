"""The form of `report.json`, checked by hand so that loading needs no further package.

`docs/schema/report-v3.schema.json` says the same for other programs; tests keep the two together.
"""

from __future__ import annotations

import re
from typing import Any

Kinds = tuple[type, ...]
TEXT: Kinds = (str,)
INTEGER: Kinds = (int,)
NUMBER: Kinds = (int, float)
BOOLEAN: Kinds = (bool,)
LIST: Kinds = (list,)
OBJECT: Kinds = (dict,)
NOTHING = type(None)
# Above it, numbers of JSON are not the same to all who read them.
LARGEST_WHOLE = 2**53
DEEPEST = 32

DOCUMENT = {
    "schema_version": INTEGER,
    "created_at": TEXT,
    "content": OBJECT,
    "content_sha256": TEXT,
}
CONTENT = {
    "arrays": OBJECT,
    "complete": BOOLEAN,
    "incomplete_reason": TEXT,
    "layers": LIST,
    "positions": LIST,
    "provenance": OBJECT,
    "relative": BOOLEAN,
    "samples": LIST,
    "scope": TEXT,
    "tolerances": LIST,
    "unsupported": LIST,
    "warnings": LIST,
    "window": (list, NOTHING),
}
ARRAYS = {"file": TEXT, "bytes": INTEGER, "sha256": TEXT}
LAYER = {
    "call": INTEGER,
    "groups": INTEGER,
    "index": INTEGER,
    "method": TEXT,
    "method_reason": TEXT,
    "mixer": TEXT,
    "multiplicity": INTEGER,
    "name": TEXT,
    "reason": TEXT,
    "residual_bound": NUMBER,
    "state_size": (int, NOTHING),
    "verified": BOOLEAN,
}
SAMPLE = {
    "length": INTEGER,
    "text_sha256": (str, NOTHING),
    "text_withheld": BOOLEAN,
    "token_ids_sha256": (str, NOTHING),
    "tokens": (list, NOTHING),
}
# The version that brought a key; whoever reads an older report knows what it stood for.
ADDED_IN = {"method_reason": 2, "text_withheld": 3, "token_ids_sha256": 3}
SHA256 = re.compile("[0-9a-f]{64}")
UNSUPPORTED = {"index": INTEGER, "mixer": TEXT, "name": TEXT, "reason": TEXT}


def check_document(document: object) -> None:
    """Refuse a document that lacks a key, has one too many, or a value of another form.

    Raises:
        ValueError: the message names the place, such as `content.layers[3].groups`.

    Example:
        >>> check_document({"schema_version": 1})
        Traceback (most recent call last):
        ...
        ValueError: the document lacks 'content'
    """
    checked = _check_object(document, DOCUMENT, "the document")
    content = checked["content"]
    version = checked["schema_version"]
    _check_object(content, CONTENT, "content")
    _check_object(content["arrays"], ARRAYS, "content.arrays")
    _check_depth(content["provenance"], DEEPEST)
    for name, form in (("layers", LAYER), ("samples", SAMPLE), ("unsupported", UNSUPPORTED)):
        known = {key: kinds for key, kinds in form.items() if ADDED_IN.get(key, 1) <= version}
        for number, record in enumerate(content[name]):
            _check_object(record, known, f"content.{name}[{number}]")
    _check_items(content, "positions", INTEGER, "content")
    _check_items(content, "tolerances", NUMBER, "content")
    _check_items(content, "warnings", TEXT, "content")
    _check_items(content, "window", INTEGER, "content")
    for number, sample in enumerate(content["samples"]):
        place = f"content.samples[{number}]"
        _check_items(sample, "tokens", TEXT, place)
        _check_sha256(sample, "text_sha256", place)
        _check_sha256(sample, "token_ids_sha256", place)
        if sample.get("text_withheld") and sample["tokens"] is not None:
            raise ValueError(f"{place} has tokens, and its text is withheld")
    _check_sha256(content["arrays"], "sha256", "content.arrays")
    _check_sha256(checked, "content_sha256", "the document")


def _check_object(value: object, form: dict[str, Kinds], place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is no object")
    for name in sorted(form):
        if name not in value:
            raise ValueError(f"{place} lacks {name!r}")
        _check_value(value[name], form[name], f"{place}.{name}")
    for name in sorted(value.keys() - form.keys()):
        raise ValueError(f"{place} has an unknown key {name!r}")
    return value


def _check_items(parent: dict[str, Any], name: str, kinds: Kinds, place: str) -> None:
    for number, item in enumerate(parent[name] or ()):
        _check_value(item, kinds, f"{place}.{name}[{number}]")


def _check_sha256(parent: dict[str, Any], name: str, place: str) -> None:
    if parent.get(name) is not None and not SHA256.fullmatch(parent[name]):
        raise ValueError(f"{place}.{name} is no SHA-256 in hexadecimal")


def _check_value(value: object, kinds: Kinds, place: str) -> None:
    if not _is_a(value, kinds):
        raise ValueError(f"{place} is of type {type(value).__name__}")
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ValueError(f"{place} is larger than any number that is counted")


def _check_depth(value: object, deepest: int) -> None:
    if isinstance(value, (dict, list)):
        if not deepest:
            raise ValueError("content.provenance is nested too deeply")
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, deepest - 1)


def _is_a(value: object, kinds: Kinds) -> bool:
    # Python counts True as an int; JSON does not.
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)
