"""Where the section of hf_ess stands in the Markdown of a card, and what was added around it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from markdown_it import MarkdownIt
from markdown_it.token import Token

from hf_ess.hub.card_parts import NEWLINE
from hf_ess.hub.front_matter import AddedMetadata

BEGIN = "<!-- hf_ess:begin -->"
END = "<!-- hf_ess:end -->"
_RECORD = re.compile(r"<!-- hf_ess:added (\{.*\}) -->[ \t]*(?:\r\n|\r|\n|\Z)")
_BLANKS = " \t"
# Deeper lists and quotes would make markdown-it skip the rest of the card.
_DEEPEST = 100

Place: TypeAlias = Literal["end", "top", "chosen"]


@dataclass(frozen=True)
class Record:
    """What was added around a section, kept in the line after its first marker.

    Args:
        place: the end or the top of the body, or where the author had put the markers.
        newlines: line breaks added before it (at the end), or after it (at the top).
        inside: whitespace that the author had between the markers.
        metadata: what was added to the front matter.
    """

    place: Place
    newlines: int = 0
    inside: str = ""
    metadata: AddedMetadata = field(default_factory=AddedMetadata)

    def line(self) -> str:
        """The record as a comment in one line, without a line break.

        Example:
            >>> Record("end", newlines=1).line()
            '<!-- hf_ess:added {"place": "end", "newlines": 1, "model-index": "key"} -->'
        """
        added = self.metadata
        data: dict[str, object] = {"place": self.place}
        if self.newlines:
            data["newlines"] = self.newlines
        if self.inside:
            data["inside"] = self.inside
        if added.front_matter:
            data["front_matter"] = True
        if added.tag is not None:
            data |= {"tag": added.tag, "tags": added.tags}
        data["model-index"] = added.model_index
        text = json.dumps(data).replace(">", "\\u003e")
        return f"<!-- hf_ess:added {text} -->"


@dataclass(frozen=True)
class Section:
    """A pair of markers; numbers are characters of the body.

    Args:
        start: where the line of the first marker begins.
        inner_start: where the line after it begins.
        inner_end: where the line of the second marker begins.
        end: where the line after it begins.
        record: what stands in the line after the first marker; None if it is none of ours.
    """

    start: int
    inner_start: int
    inner_end: int
    end: int
    record: Record | None


def sections(body: str) -> list[Section]:
    r"""The pairs of markers that CommonMark sees as comments of their own, outside of everything.

    Example:
        >>> body = "text\n\n<!-- hf_ess:begin -->\n<!-- hf_ess:end -->\n"
        >>> [(found.start, found.end) for found in sections(body)]
        [(6, 48)]
        >>> sections(f"```\n{body}\n```\n")
        []
    """
    if BEGIN not in body or END not in body:
        return []
    starts = [0, *(newline.end() for newline in NEWLINE.finditer(body)), len(body)]
    markers = []
    for token in _parser().parse(body):
        line = _single_line(token)
        if line is not None:
            text = body[starts[line] : starts[line + 1]].strip(_BLANKS + "\r\n")
            if text in (BEGIN, END):
                markers.append((text, starts[line], starts[line + 1]))
    return [
        Section(begin[1], begin[2], end[1], end[2], _record(body[begin[2] : end[1]]))
        for begin, end in pairwise(markers)
        if (begin[0], end[0]) == (BEGIN, END)
    ]


def with_inner(body: str, old: Section, inner: str) -> tuple[str, Section]:
    r"""The body with other lines between the markers of a section, and that section in it.

    The lines before it are the same, and the new ones are closed in themselves, so that the
    markers stay what they are without reading the body again.

    Example:
        >>> body = "<!-- hf_ess:begin -->\n<!-- hf_ess:end -->\n"
        >>> with_inner(body, sections(body)[0], "text\n")[0]
        '<!-- hf_ess:begin -->\ntext\n<!-- hf_ess:end -->\n'
    """
    end = old.inner_start + len(inner)
    section = Section(
        old.start, old.inner_start, end, end + old.end - old.inner_end, _record(inner)
    )
    return body[: old.inner_start] + inner + body[old.inner_end :], section


def our_section(found: list[Section]) -> Section | None:
    """The first pair with a record, else the first pair."""
    recorded = [section for section in found if section.record is not None]
    return next(iter(recorded or found), None)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"maxNesting": _DEEPEST})
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _single_line(token: Token) -> int | None:
    if token.type != "html_block" or token.level != 0 or token.map is None:
        return None
    first, after = token.map
    return first if after == first + 1 else None


def _record(inner: str) -> Record | None:
    line = _RECORD.match(inner)
    if line is None:
        return None
    try:
        data = json.loads(line.group(1))
    except ValueError:
        return None
    record = Record(
        data.get("place"),
        data.get("newlines", 0),
        data.get("inside", ""),
        AddedMetadata(
            data.get("front_matter", False),
            data.get("tag"),
            data.get("tags", "item"),
            data.get("model-index", "key"),
        ),
    )
    return record if _is_sound(record) else None


def _is_sound(record: Record) -> bool:
    """Anyone can write such a line; one that we did not write counts as text."""
    added: Any = record.metadata
    return (
        record.place in ("end", "top", "chosen")
        and type(record.newlines) is int
        and 0 <= record.newlines <= 2
        and isinstance(record.inside, str)
        and not record.inside.strip()
        and isinstance(added.front_matter, bool)
        and (added.tag is None or isinstance(added.tag, str))
        and added.tags in ("key", "item")
        and added.model_index in ("key", "item")
    )
