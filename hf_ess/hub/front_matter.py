"""The tag and the entry of `model-index` that hf_ess keeps in the front matter of a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hf_ess.hub.card_parts import CardParts, card_parts, newline_style
from hf_ess.hub.yaml_edit import Added, says, with_item, without_empty_key, without_item
from hf_ess.hub.yaml_tree import Node, YamlError, YamlText, read_yaml

SOURCE = "hf_ess"
_TAGS, _MODEL_INDEX = "tags", "model-index"
_FENCE = "---"


@dataclass(frozen=True)
class AddedMetadata:
    """What hf_ess added to a front matter, so that it can be taken away to the byte.

    Args:
        front_matter: whether the whole front matter was added.
        tag: the tag that was added; None if it was the author's already.
        tags: whether the tag came with its key.
        model_index: whether our entry came with its key.
    """

    front_matter: bool = False
    tag: str | None = None
    tags: Added = "item"
    model_index: Added = "key"


@dataclass(frozen=True)
class EditedMetadata:
    """A card after an edit of its front matter, what was added, and notes for the user."""

    card: CardParts
    added: AddedMetadata
    notes: tuple[str, ...] = ()


def with_metadata(
    card: CardParts,
    added: AddedMetadata,
    *,
    tag: str,
    entry: Mapping[str, Any] | None,
    newline: str,
) -> EditedMetadata:
    r"""Puts the tag and the entry in, in place of those that `added` says are ours.

    Args:
        card: the card; only its front matter is edited.
        added: what an earlier edit added.
        tag: the tag.
        entry: the entry of `model-index`; its results name hf_ess as their source.
        newline: the line break for a front matter that is new.

    Returns:
        The edited card. What cannot be done safely is left out, and a note says why.

    Example:
        >>> card = card_parts("---\nlicense: mit\n---\n# A model\n")
        >>> edited = with_metadata(card, AddedMetadata(), tag="hf_ess", entry=None, newline="\n")
        >>> print(edited.card.text, end="")
        ---
        license: mit
        tags:
        - hf_ess
        ---
        # A model
    """
    if card.front_matter_stays_open:
        return EditedMetadata(card, added, (_note("it begins with --- and is never closed"),))
    try:
        old = read_yaml(card.yaml)
    except YamlError as error:
        return EditedMetadata(card, added, (_note(error),))
    if card.has_front_matter and _is_current(old, tag, entry):
        return EditedMetadata(card, added)
    bare = without_metadata(card, added)
    start = AddedMetadata(not bare.has_front_matter)
    if _results_of_ours(read_yaml(bare.yaml)):
        start = replace(start, model_index=added.model_index)
    edited = _filled(EditedMetadata(_with_fences(bare, newline), start), tag, entry, newline)
    seen_by_the_hub = card_parts(edited.card.text)
    if seen_by_the_hub != edited.card or without_metadata(edited.card, edited.added) != bare:
        return EditedMetadata(card, added, (_note("an edit could not be undone to the byte"),))
    return edited


def without_metadata(card: CardParts, added: AddedMetadata) -> CardParts:
    r"""Takes away what is ours: the tag if we added it, entries whose results we are the source of.

    Example:
        >>> card = card_parts("---\nlicense: mit\ntags:\n- hf_ess\n---\n")
        >>> without_metadata(card, AddedMetadata(tag="hf_ess", tags="key")).yaml
        'license: mit\n'
    """
    try:
        document = read_yaml(card.yaml)
    except YamlError:
        return card
    document = _tried(_without_entries, document, added)
    document = _tried(_without_tag, document, added)
    bare = replace(card, yaml=document.text)
    fences = (card.opening.rstrip("\r\n"), card.closing.rstrip("\r\n"))
    if added.front_matter and not bare.yaml and fences == (_FENCE, _FENCE):
        return replace(bare, opening="", closing="")
    return bare


def is_ours(entry: Node) -> bool:
    """Whether an entry of `model-index` has results, and hf_ess is the source of each."""
    sources = _sources(entry)
    return bool(sources) and all(source == SOURCE for source in sources)


def _filled(
    start: EditedMetadata, tag: str, entry: Mapping[str, Any] | None, newline: str
) -> EditedMetadata:
    card, added, notes = start.card, start.added, list(start.notes)
    newline = newline_style(card.yaml) or newline_style(card.opening) or newline
    document = read_yaml(card.yaml)
    if tag not in _tags(document):
        try:
            document, how = with_item(document, _TAGS, tag, newline)
            added = replace(added, tag=tag, tags=how)
        except YamlError as error:
            notes.append(_note(error, f"add `{tag}` to `tags`"))
    if entry is not None:
        try:
            if _results_of_ours(document):
                raise YamlError("older results of hf_ess in `model-index` cannot be replaced")
            document, how = with_item(document, _MODEL_INDEX, entry, newline)
            added = replace(added, model_index=how)
        except YamlError as error:
            notes.append(_note(error, "add the results of hf_ess to `model-index`"))
    return EditedMetadata(replace(card, yaml=document.text), added, tuple(notes))


def _with_fences(card: CardParts, newline: str) -> CardParts:
    if card.has_front_matter:
        return card
    # The Hub sees no end of a front matter in a fence that ends with a lone carriage return.
    fence = _FENCE + ("\n" if newline == "\r" else newline)
    return replace(card, opening=fence, closing=fence)


def _is_current(document: YamlText, tag: str, entry: Mapping[str, Any] | None) -> bool:
    ours = _results_of_ours(document)
    wanted = [] if entry is None else [entry]
    return (
        tag in _tags(document)
        and len(ours) == len(wanted)
        and all(says(document, node, data) for node, data in zip(ours, wanted, strict=True))
    )


def _without_entries(document: YamlText, added: AddedMetadata) -> YamlText:
    while ours := [i for i, entry in enumerate(_entries(document)) if is_ours(entry)]:
        document = without_item(document, _list(document, _MODEL_INDEX), ours[-1])
        if added.model_index == "key" and not _entries(document):
            document = _tried(_without_key, document, _MODEL_INDEX)
    return document


def _without_tag(document: YamlText, added: AddedMetadata) -> YamlText:
    tags = _tags(document)
    if added.tag is None or added.tag not in tags:
        return document
    last = len(tags) - 1 - tags[::-1].index(added.tag)
    document = without_item(document, _list(document, _TAGS), last)
    if added.tags == "key" and not _tags(document):
        document = _tried(_without_key, document, _TAGS)
    return document


def _without_key(document: YamlText, key: str) -> YamlText:
    return without_empty_key(document, key)


def _tried(edit: Callable[[YamlText, Any], YamlText], document: YamlText, how: Any) -> YamlText:
    try:
        return edit(document, how)
    except YamlError:
        return document


def _list(document: YamlText, key: str) -> Node:
    value = document.root and document.root.get(key)
    assert value is not None
    return value


def _items(document: YamlText, key: str) -> tuple[Node, ...]:
    value = document.root and document.root.get(key)
    return value.items if value is not None else ()


def _tags(document: YamlText) -> list[str | None]:
    return [node.value if node.kind == "scalar" else None for node in _items(document, _TAGS)]


def _entries(document: YamlText) -> tuple[Node, ...]:
    return _items(document, _MODEL_INDEX)


def _results_of_ours(document: YamlText) -> list[Node]:
    """The entries with a result of hf_ess, also where another tool merged it with others."""
    return [entry for entry in _entries(document) if SOURCE in _sources(entry)]


def _sources(entry: Node) -> list[str | None]:
    results = entry.get("results")
    return [_source(result) for result in results.items] if results is not None else []


def _source(result: Node) -> str | None:
    source = result.get("source")
    name = source and source.get("name")
    return name.value if name is not None and name.kind == "scalar" else None


def _note(reason: object, wanted: str = "change its metadata") -> str:
    return (
        f"The front matter of the card was left as it is: hf_ess did not {wanted}, because "
        f"{reason}. The section was written. To have the metadata too, correct the front matter "
        "at the top of README.md, then push again."
    )
