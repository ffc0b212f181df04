"""YAML in which a value is what it looks like, and nothing stands twice.

YAML 1.1, which PyYAML reads, takes `no` for a truth value, `010` for eight, `1:30` for ninety and
2e-3 for a word, and keeps the last of two keys that are the same.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from hf_ess.errors import InvalidInputError


class _Loader(yaml.SafeLoader):
    """Numbers as people write them, true, false and null; all else that is not quoted is text."""

    # pyyaml looks for them here, in the class.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses keys that stand twice; those of a merge (`<<`) may be overridden."""
        seen = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands there twice", key.start_mark
                )
            seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


# A number that begins with 0 and goes on is left as text, which is then refused for a number:
# YAML 1.1 reads it by eights, YAML 1.2 by tens.
_FORMS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": ("<<", ["<"]),
}
for _name, (_form, _first) in _FORMS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_form})$"), _first
    )


def parsed(text: str, source: str) -> Any:
    """What a text of YAML (or JSON, which is YAML) says, in the types of JSON.

    Raises:
        InvalidInputError: it is not YAML, a key stands twice, or JSON has no such value; the
            message says where.

    Example:
        >>> parsed("{rate: 2e-3, mixers: [GLA, SA], answer: no}", "a test")
        {'rate': 0.002, 'mixers': ['GLA', 'SA'], 'answer': 'no'}
    """
    try:
        value = yaml.load(text, _Loader)
        json.dumps(value)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        raise InvalidInputError(
            f"{source} is not YAML{where}: {getattr(error, 'problem', None) or error}."
        ) from error
    except (RecursionError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{source} holds what no configuration can: {error}.",
            causes=["a value that holds itself", "values too deep inside of others", "a YAML tag"],
        ) from error
    return value
