"""Configurations as people write them: YAML, JSON, and `key=value` for a key with dots."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.lab.plain_yaml import parsed
from hf_ess.lab.values import check_mapping

# The field of a file that holds the axes of many runs; all others are those of one.
SWEEP = "sweep"


def read_written(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping that a file of YAML or JSON holds.

    Raises:
        InvalidInputError: the file cannot be read, or is no YAML; as `parsed`.
        InvalidTypeError: it holds something else than a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidInputError(f"{str(path)!r} cannot be read: {reason}.") from error
    written = parsed(text, str(path))
    if not isinstance(written, dict):
        raise InvalidTypeError(f"{str(path)!r} must hold a mapping of names to values.")
    return written


def with_value(written: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy in which a key, with dots for what lies inside of others, has this value.

    Raises:
        InvalidInputError: the key is empty, or leads into something that is no mapping.

    Example:
        >>> with_value({"model": {"hidden_size": 64}}, "model.mixers", ["SA"])
        {'model': {'hidden_size': 64, 'mixers': ['SA']}}
    """
    copy: dict[str, Any] = deepcopy(dict(written))
    *path, last = key.split(".")
    place: Any = copy
    for name in path:
        if place.get(name) is None:
            place[name] = {}
        place = place[name]
        if not isinstance(place, dict):
            raise InvalidInputError(f"{key!r} leads into {name!r}, which has no names inside.")
    if not last or not all(path):
        raise InvalidInputError(
            f"{key!r} names no field.", fix="Write a field, or model.hidden_size and the like."
        )
    place[last] = deepcopy(value)
    return copy


def split_axes(written: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a run, and the axes that a file has beside them.

    Raises:
        InvalidTypeError: `sweep` is no mapping.

    Example:
        >>> split_axes({"steps": 100, "sweep": {"seed": [0, 1]}})
        ({'steps': 100}, {'seed': [0, 1]})
    """
    axes = written.get(SWEEP) or {}
    check_mapping(SWEEP, axes)
    return {key: written[key] for key in written if key != SWEEP}, dict(axes)


def axes_from(words: list[str]) -> dict[str, list[Any]]:
    """Axes of a sweep from words `key=v1,v2,..`, their values in YAML.

    Raises:
        InvalidInputError: a word has no `=`, what follows is no list of YAML, or a key comes twice.

    Example:
        >>> axes_from(["seed=0,1", "model.mixers=[GLA, SA],[SA, SA]"])
        {'seed': [0, 1], 'model.mixers': [['GLA', 'SA'], ['SA', 'SA']]}
    """
    axes: dict[str, list[Any]] = {}
    for word in words:
        key, values = _split(word)
        if key in axes:
            raise InvalidInputError(
                f"The axis {key!r} is given twice.", fix=f"Write all of it as {key}=V1,V2."
            )
        axes[key] = parsed(f"[{values}]", f"The values of {key}")
    return axes


def with_settings(written: Mapping[str, Any], settings: list[str]) -> dict[str, Any]:
    """A copy with the values of `key=value` words.

    Raises:
        InvalidInputError: a word has no `=`, its value is no YAML, or its key names no field.

    Example:
        >>> with_settings({"seed": 0}, ["seed=3", "task.pairs=8"])
        {'seed': 3, 'task': {'pairs': 8}}
    """
    result = dict(written)
    for word in settings:
        key, value = _split(word)
        result = with_value(result, key, parsed(value, f"The value of {key}"))
    return result


def _split(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise InvalidInputError(f"{word!r} is not of the form key=value.")
    return key.strip(), value
