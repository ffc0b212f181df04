"""Links that reopen a view: what the query of an address says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

KEY = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_-]{7,79}")
_WORDS = {
    "metric": ("entropy", "tolerance"),
    "scale": ("linear", "log"),
    "colour": ("total", "change"),
}
# What may be written, up to which number.
_NUMBERS = {"layer": 10**6, "position": 10**9, "side": 1}


@dataclass(frozen=True)
class Link:
    """What an address asks for.

    Attributes:
        keys: of the views: none, one, or two to compare.
        state: of the page, without what the address says wrongly.
    """

    keys: tuple[str, ...] = ()
    state: dict[str, str | float | int] = field(default_factory=dict)

    @property
    def query(self) -> str:
        """The query of an address that asks for it."""
        named = dict(zip(("view", "with"), self.keys, strict=False))
        return urlencode({**named, **self.state})


def parsed_link(query: Mapping[str, str]) -> Link:
    """What a query asks for; anybody can write one, so that what makes no sense is left out.

    Example:
        >>> parsed_link({"view": "0123456789abcdef", "metric": "entropy", "layer": "x"})
        Link(keys=('0123456789abcdef',), state={'metric': 'entropy'})
        >>> parsed_link({"view": "../../etc/passwd"})
        Link(keys=(), state={})
    """
    keys = [query[name] for name in ("view", "with") if name in query]
    if not keys or not all(KEY.fullmatch(key) for key in keys) or "view" not in query:
        return Link()
    state: dict[str, str | float | int] = {
        name: query[name] for name, known in _WORDS.items() if query.get(name) in known
    }
    threshold = _positive(query.get("threshold", ""))
    if threshold is not None:
        state["threshold"] = threshold
    for name, largest in _NUMBERS.items():
        number = query.get(name, "")
        if number.isascii() and number.isdecimal() and int(number[:20]) <= largest:
            state[name] = int(number)
    return Link(tuple(keys), state)


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
