"""Puts the section and the metadata of hf_ess into a model card, and takes them out again.

Cards belong to other people. Nothing of theirs is rewritten: text is inserted and cut out, and
what was inserted is recorded in the section, so that taking it out gives the original bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hf_ess.errors import InvalidInputError
from hf_ess.hub.card_markers import BEGIN, END, Record, Section, our_section, sections, with_inner
from hf_ess.hub.card_parts import (
    NEWLINE,
    CardParts,
    card_parts,
    card_text,
    joint,
    line_breaks_at_end,
    newline_style,
)
from hf_ess.hub.front_matter import SOURCE, AddedMetadata, with_metadata, without_metadata
from hf_ess.hub.yaml_text import flow

_ANY_MARKER = re.compile(r"<!--\s*hf_ess:")
_FENCE = re.compile(r"---[ \t]*")
# A line break of the last line, and a blank line.
_MOST_BREAKS = 2


@dataclass(frozen=True)
class CardAddition:
    r"""What hf_ess adds to a card.

    Args:
        section: Markdown that stands between the markers; lines end with "\n".
        tag: the tag for the front matter.
        model_index_entry: an entry for `model-index`, as plain data; the source of every result is
            named "hf_ess", so that the entry is known again.

    Raises:
        InvalidInputError: text that would break out of the section, or data that YAML cannot hold.
    """

    section: str
    tag: str = SOURCE
    model_index_entry: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_section(self.section)
        flow(self.tag)
        if self.model_index_entry is not None:
            _check_entry(self.model_index_entry)


@dataclass(frozen=True)
class EditedCard:
    """A card with an addition.

    Args:
        content: the bytes of the card.
        notes: what could not be done and why, for the user.
    """

    content: bytes
    notes: tuple[str, ...] = ()


def with_addition(card: bytes | None, addition: CardAddition) -> EditedCard:
    r"""Puts an addition into a card, in place of an earlier one; everything else stays to the byte.

    Args:
        card: the bytes of the card; None if there is none yet.
        addition: the section and the metadata.

    Returns:
        The edited card; doing it again changes nothing. `without_addition` takes it out.

    Raises:
        InvalidInputError: the card is not UTF-8.

    Example:
        >>> card = b"---\nlicense: mit # as upstream\n---\n# A model\n"
        >>> edited = with_addition(card, CardAddition("## Memory\n\n7.3 dimensions"))
        >>> print(edited.content.decode(), end="")  # doctest: +ELLIPSIS
        ---
        license: mit # as upstream
        tags:
        - hf_ess
        ---
        # A model
        <BLANKLINE>
        <!-- hf_ess:begin -->
        <!-- hf_ess:added {"place": "end", "newlines": 1, ...} -->
        <BLANKLINE>
        ## Memory
        <BLANKLINE>
        7.3 dimensions
        <BLANKLINE>
        <!-- hf_ess:end -->
        >>> without_addition(edited.content) == card
        True
    """
    parts = card_parts("" if card is None else card_text(card))
    found = sections(parts.body)
    section = our_section(found)
    bare = _bare(parts, section)
    newline = newline_style(bare.body) or newline_style(bare.text) or "\n"
    metadata = with_metadata(
        parts,
        _added(section),
        tag=addition.tag,
        entry=addition.model_index_entry,
        newline=newline,
    )
    inner = _Inner(addition.section, metadata.added, newline)
    if section is None:
        content = _with_new_section(metadata.card, inner, bare.text)
    else:
        content = _with_section(metadata.card, section, inner, bare.text)
    if content is None:
        return EditedCard(parts.text.encode(), (_UNTOUCHED,))
    return EditedCard(content.encode(), metadata.notes + _notes(parts, found, section))


def without_addition(card: bytes) -> bytes:
    r"""Takes out what `with_addition` put in.

    Markers that the author put in by hand stay, with nothing between them.

    Raises:
        InvalidInputError: the card is not UTF-8.

    Example:
        >>> without_addition(with_addition(b"# A model", CardAddition("text")).content)
        b'# A model'
    """
    parts = card_parts(card_text(card))
    return _bare(parts, our_section(sections(parts.body))).text.encode()


_UNTOUCHED = (
    "The card was left as it is: no place was found from which the section could be taken out "
    "again to the byte. Put the lines <!-- hf_ess:begin --> and <!-- hf_ess:end --> where the "
    "section belongs, outside of lists, quotes and code, then push again."
)


@dataclass(frozen=True)
class _Inner:
    """The lines between the markers, but for what depends on the place."""

    markdown: str
    metadata: AddedMetadata
    newline: str

    def text(self, record: Record) -> str:
        lines = NEWLINE.split(self.markdown.strip("\r\n"))
        return self.newline.join([record.line(), "", *lines, "", ""])

    def between_markers(self, record: Record) -> str:
        return self.newline.join([BEGIN, self.text(record) + END])


def _with_section(card: CardParts, old: Section, inner: _Inner, bare: str) -> str | None:
    """The card with an update in place, if it can be taken out again."""
    record = old.record or Record("chosen", inside=_whitespace_inside(card.body, old))
    record = replace(record, metadata=inner.metadata)
    body, section = with_inner(card.body, old, inner.text(record))
    new = replace(card, body=body)
    return new.text if _bare(new, section).text == bare else None


def _with_new_section(card: CardParts, inner: _Inner, bare: str) -> str | None:
    """The card with a section at the first place from which it can be taken out again."""
    places = [_at_the_end(card, inner)]
    if not card.front_matter_stays_open:  # the author could no longer close it below a section
        places.append(_at_the_top(card, inner))
    for text in places:
        new = card_parts(text)
        if _bare(new, our_section(sections(new.body))).text == bare:
            return text
    return None


def _at_the_end(card: CardParts, inner: _Inner) -> str:
    text, newline = card.text, inner.newline
    if not card.body and newline == "\r":
        newline = "\n"  # as the Hub wants it after a closing fence
    missing = 0
    if card.opening or card.body:
        missing = max(0, _MOST_BREAKS - len(line_breaks_at_end(text)))
    for _ in range(missing):
        text += joint(text, newline, "")
    record = Record("end", missing, metadata=inner.metadata)
    return text + inner.between_markers(record) + inner.newline


def _at_the_top(card: CardParts, inner: _Inner) -> str:
    follows_line = card.body.startswith(("\r", "\n"))
    record = Record("top", 0 if follows_line else 1, metadata=inner.metadata)
    blank = "" if follows_line else inner.newline
    ending = joint("", inner.newline, blank + card.body)
    return card.head + inner.between_markers(record) + ending + blank + card.body


def _bare(parts: CardParts, section: Section | None) -> CardParts:
    cut = parts if section is None else card_parts(_without_section(parts, section))
    return without_metadata(cut, _added(section))


def _added(section: Section | None) -> AddedMetadata:
    if section is None or section.record is None:
        return AddedMetadata()
    return section.record.metadata


def _without_section(parts: CardParts, section: Section) -> str:
    record, body = section.record, parts.body
    if record is None or record.place == "chosen":
        inside = record.inside if record else _whitespace_inside(body, section)
        return parts.head + body[: section.inner_start] + inside + body[section.inner_end :]
    before, after = parts.head + body[: section.start], body[section.end :]
    # Where others wrote on the far side of the section, line breaks of ours separate them now.
    if record.place == "end" and not after:
        before = _without_breaks_at_end(before, record.newlines)
    if record.place == "top" and not body[: section.start] and record.newlines:
        newline = NEWLINE.match(after)
        after = after[newline.end() :] if newline else after
    return before + after


def _whitespace_inside(body: str, section: Section) -> str:
    inside = body[section.inner_start : section.inner_end]
    return "" if inside.strip() else inside


def _without_breaks_at_end(text: str, count: int) -> str:
    breaks = line_breaks_at_end(text)
    if len(breaks) < _MOST_BREAKS:
        return text  # someone took a blank line away that we had made sure of
    return text[: len(text) - len("".join(breaks[len(breaks) - count :]))]


def _notes(parts: CardParts, found: list[Section], section: Section | None) -> tuple[str, ...]:
    notes = []
    if len(found) > 1:
        notes.append(
            f"The card has {len(found)} pairs of hf_ess markers; one was updated and the others "
            "were left as they are. Delete those that you do not want."
        )
    if section is not None and section.record is None:
        old = parts.body[section.inner_start : section.inner_end]
        if old.strip():
            notes.append("What stood between the hf_ess markers was replaced by the new section.")
    return tuple(notes)


def _check_section(markdown: str) -> None:
    if _ANY_MARKER.search(markdown):
        raise InvalidInputError(
            "The section holds a marker of hf_ess itself, and would end there.",
            fix="Leave comments that begin with <!-- hf_ess: out of the section.",
        )
    if any(_FENCE.fullmatch(line) for line in NEWLINE.split(markdown)):
        raise InvalidInputError(
            "The section has a line of three dashes, which could end the front matter of a card.",
            fix="Write *** for a rule, and # for a heading.",
        )
    lines = [BEGIN, "", *NEWLINE.split(markdown), "", END]
    if len(sections("\n".join(lines))) != 1:
        raise InvalidInputError(
            "The section leaves a code block or an HTML block open, which would swallow its end.",
            fix="Close every ``` and every <!-- in the section.",
        )
    try:
        markdown.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            "The section holds half of a character and cannot be written as UTF-8.",
            fix="Correct the name or text that it comes from.",
        ) from error


def _check_entry(entry: Mapping[str, Any]) -> None:
    flow(entry)
    results = entry.get("results") or [{}]
    if any((result.get("source") or {}).get("name") != SOURCE for result in results):
        raise InvalidInputError(
            "A result of the model-index entry does not name hf_ess as its source.",
            fix=f'Give every result "source": {{"name": "{SOURCE}"}}.',
        )
