"""Makes docstrings fit for the site: names in backticks become links, examples become code."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from griffe import Docstring, Extension, Object

if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))

from site_names import documented, place_of

NAME = re.compile(r"(?<![`\[])`([A-Za-z_][\w.]*)(\(\))?`(?![`\]])")
EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)


class LinkedDocstrings(Extension):
    """Changes every docstring when its object has been read."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            _change(obj.docstring)


def linked(text: str) -> str:
    """Markdown in which documented names link to where they are documented."""
    return NAME.sub(_link, text)


def _link(match: re.Match[str]) -> str:
    target = _target(match[1])
    return f"[{match[0]}][{place_of(target)}]" if target else match[0]


def _target(name: str) -> str | None:
    """The documented name that is meant; words in small letters are too often arguments."""
    if name in documented():
        return name
    if not name[0].isupper():
        return None
    name = name.partition(".")[0]  # of an attribute or a method: its class
    found = [known for known in documented() if known.rpartition(".")[2] == name]
    return found[0] if len(found) == 1 else None


def _change(docstring: Docstring) -> None:
    text = EXAMPLE.sub(r"\1Examples:", docstring.value)
    docstring.value = "\n".join(
        line if ">>>" in line else linked(line) for line in text.splitlines()
    )
