"""The runs of a sweep: every combination of the values of its axes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hf_ess.errors import HfEssError, InvalidInputError, InvalidTypeError
from hf_ess.lab.run_config import RunConfig
from hf_ess.lab.values import check_mapping
from hf_ess.lab.written import with_value

Axes = Mapping[str, Sequence[Any]]
LONGEST_NAME = 80
DIGEST = 8


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: of the run and of its folder, for people: its values on the axes, and the digest.
        digest: of all in the configuration that is not a default.
        settings: the value of each axis, as `label` writes it.
        config: of the run.
    """

    name: str
    digest: str
    settings: dict[str, Any]
    config: RunConfig


def points_of(base: Mapping[str, Any], axes: Axes) -> list[Point]:
    """The runs, the last axis the fastest; those that are the same configuration come once.

    Args:
        base: fields of a `RunConfig`; what the axes set may be missing.
        axes: lists of values by fields, with dots for what lies inside: "model.state_size".

    Raises:
        InvalidInputError, InvalidTypeError: axes that are no lists, or a combination that
            `RunConfig` refuses; says which.

    Example:
        >>> task = {"name": "compression", "length": 16}
        >>> points = points_of({"task": task}, {"seed": [0, 1], "model.mixers": [["LA"], ["SA"]]})
        >>> [point.settings for point in points][:2]
        [{'seed': 0, 'model.mixers': 'LA'}, {'seed': 0, 'model.mixers': 'SA'}]
    """
    _check_axes(axes)
    found: dict[str, Point] = {}
    for combination in product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        point = _point(base, values)
        found.setdefault(point.digest, point)
    return list(found.values())


def label(value: Any) -> Any:
    """A value as a cell of a table: lists of words joined by +, other structures as JSON.

    Example:
        >>> label(["GLA", "SA"]), label(2e-3), label(None), label({"name": "ess"})
        ('GLA+SA', 0.002, 'none', '{"name": "ess"}')
    """
    if value is None:
        return "none"
    if isinstance(value, list | tuple) and all(isinstance(item, str | int) for item in value):
        return "+".join(map(str, value))
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return value


def _point(base: Mapping[str, Any], values: dict[str, Any]) -> Point:
    written = dict(base)
    try:
        for key, value in values.items():
            written = with_value(written, key, value)
        config = RunConfig.from_dict(written)
    except HfEssError as error:
        if not values:
            raise
        shown = ", ".join(f"{key}={label(value)}" for key, value in values.items())
        kind = InvalidTypeError if isinstance(error, TypeError) else InvalidInputError
        raise kind(f"{shown}: {error.what}", causes=error.causes, fix=error.fix) from error
    labels = {key: label(value) for key, value in values.items()}
    digest = hashlib.sha256(_essence(config)).hexdigest()[:DIGEST]
    return Point(_name(labels, digest), digest, labels, config)


def _essence(config: RunConfig) -> bytes:
    """All that is not a default, so that fields which are added later do not count as changes."""
    usual = RunConfig(config.task).to_dict()
    written = config.to_dict()
    essence = {key: written[key] for key in written if key == "task" or written[key] != usual[key]}
    return json.dumps(essence, sort_keys=True).encode()


def _name(labels: dict[str, Any], digest: str) -> str:
    words = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in labels.items()]
    readable = re.sub(r"[^A-Za-z0-9=+.-]+", "_", ",".join(words))[:LONGEST_NAME].strip("._")
    return f"{readable}-{digest}" if readable else digest


def _check_axes(axes: Axes) -> None:
    check_mapping("The axes of a sweep", axes)
    for key, values in axes.items():
        if not isinstance(key, str):
            raise InvalidTypeError(f"An axis is the name of a field, got {key!r}.")
        if not isinstance(values, list | tuple):
            raise InvalidTypeError(
                f"The axis {key!r} must be a list of values, got {values!r}.",
                fix=f"Write {key}: [{values}].",
            )
        if not values:
            raise InvalidInputError(f"The axis {key!r} has no values.")
