"""Adds to lists of someone's YAML, and takes away again, without touching any other character.

Every edit is proved: the edited text is read again, and its events must be the old ones and
exactly the addition. Else the edit raises `YamlError`, and the text stays as it was.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from hf_ess.hub.yaml_text import block, flow, scalar
from hf_ess.hub.yaml_tree import (
    EMPTY,
    Node,
    Signature,
    YamlError,
    YamlText,
    line_after,
    line_end,
    line_start,
    read_yaml,
)

Added: TypeAlias = Literal["key", "item"]
_BEFORE_FIRST_DASH = re.compile(r"(?:[&!]\S*|#[^\r\n]*|\s)*(?=-)")
_DASH_BEFORE = re.compile(r" *-[ ]+")
_COMMA_BETWEEN = re.compile(r"\s*,\s*")


def with_item(old: YamlText, key: str, item: object, newline: str) -> tuple[YamlText, Added]:
    r"""Adds an item at the end of the list under a top-level key, and the key where it is missing.

    Raises:
        YamlError: it cannot be done without changing something else.

    Example:
        >>> new, added = with_item(read_yaml("tags: # mine\n- a\n# end\n"), "tags", "b", "\n")
        >>> new.text, added
        ('tags: # mine\n- a\n- b\n# end\n', 'item')
    """
    if old.root is not None and old.root.kind != "mapping":
        raise YamlError("it is not a mapping of keys to values")
    value = old.root and old.root.get(key)
    if value is None:
        return _with_key(old, key, item, newline), "key"
    _check_own(old, key, value)
    if old.signatures[value.first] == EMPTY:
        return _with_first_item(old, key, item, newline), "item"
    if value.kind != "sequence":
        kind = {"scalar": "a single value", "alias": "an alias"}.get(value.kind, "a mapping")
        raise YamlError(f"`{key}` is {kind} where a list belongs")
    if value.flow:
        at, text = _in_brackets(old.text, value, item)
    else:
        at = line_after(old.text, value)
        text = _lines(block([item]), _dash_column(old.text, value), newline)
    new = _inserted(old, at, text)
    _check(new, [*old.signatures[: value.last], *_events(item), *old.signatures[value.last :]])
    return new, "item"


def without_item(old: YamlText, sequence: Node, index: int) -> YamlText:
    """Takes an item out of a list; a list in block style without any other item becomes null.

    Raises:
        YamlError: it cannot be done without changing something else.
    """
    item = sequence.children[index]
    start, end = _extent(old.text, sequence, index)
    _check_no_comment(old.text, item, start, end)
    events = old.signatures
    kept = [*events[: item.first], *events[item.last + 1 :]]
    if not sequence.flow and len(sequence.children) == 1:
        kept = [*events[: sequence.first], EMPTY, *events[sequence.last + 1 :]]
    new = read_yaml(old.text[:start] + old.text[end:])
    _check(new, kept)
    return new


def without_empty_key(old: YamlText, key: str) -> YamlText:
    """Takes away the line of a top-level key that has nothing, or an empty list, and no comment.

    Raises:
        YamlError: there is no such line, or it cannot be taken away.
    """
    entry = old.root and old.root.entry(key)
    if not entry:
        raise YamlError(f"there is no `{key}`")
    name, value = entry
    start, end = line_start(old.text, name.start), line_end(old.text, name.end)
    if not re.fullmatch(rf"{re.escape(key)}:(?:[ ]*\[[ ]*\])?", old.text[start:end].strip()):
        raise YamlError(f"`{key}` does not stand alone on its line")
    new = read_yaml(old.text[:start] + old.text[end:])
    kept = [*old.signatures[: name.first], *old.signatures[value.last + 1 :]]
    if old.root is not None and len(old.root.children) == 2:
        kept = [old.signatures[0], old.signatures[-1]]
    _check(new, kept)
    return new


def says(old: YamlText, node: Node, data: object) -> bool:
    """Whether a node says exactly what the data would be written as."""
    return old.signatures[node.first : node.last + 1] == _events(data)


def _with_key(old: YamlText, key: str, item: object, newline: str) -> YamlText:
    root = old.root
    if root is not None and root.flow:
        raise YamlError("it is written in braces")
    if root is not None and root.get("<<"):
        raise YamlError(f"it merges (`<<`) what may hold `{key}` already")
    column = 0 if root is None else root.children[0].start
    column -= line_start(old.text, column)
    text = _lines([f"{scalar(key)}:", *block([item])], column, newline)
    events = list(read_yaml(f"{scalar(key)}: [{flow(item)}]\n").signatures)
    # The end is where people expect it, unless a document ends before it ("...") or a text
    # that ends there would get a line break more.
    places = [len(old.text), 0]
    if root is None:
        wanted = dict.fromkeys(places, events)
    else:
        places.insert(1, line_after(old.text, root))
        inner = events[3:-3]
        wanted = {
            place: [*old.signatures[:at], *inner, *old.signatures[at:]]
            for place, at in zip(places, (root.last, root.last, root.first + 1), strict=True)
        }
    for place in places:
        try:
            new = _inserted(old, place, text)
            _check(new, wanted[place])
        except YamlError:
            continue
        return new
    raise YamlError(f"there is no safe place for the key `{key}`")


def _with_first_item(old: YamlText, key: str, item: object, newline: str) -> YamlText:
    entry = old.root and old.root.entry(key)
    assert entry
    name, value = entry
    column = name.start - line_start(old.text, name.start)
    at = line_end(old.text, value.end)
    new = _inserted(old, at, _lines(block([item]), column, newline))
    events = read_yaml(f"[{flow(item)}]\n").signatures[2:-2]
    _check(new, [*old.signatures[: value.first], *events, *old.signatures[value.last + 1 :]])
    return new


def _check_own(old: YamlText, key: str, value: Node) -> None:
    for node in (old.root, value):
        if node is not None and node.anchor in old.aliases:
            raise YamlError(f"`{key}` is used elsewhere too, through the anchor &{node.anchor}")


def _in_brackets(text: str, sequence: Node, item: object) -> tuple[int, str]:
    if sequence.children:
        return sequence.children[-1].end, f", {flow(item)}"
    return text.index("[", sequence.start) + 1, flow(item)


def _dash_column(text: str, sequence: Node) -> int:
    before = _BEFORE_FIRST_DASH.match(text, sequence.start)
    if before is None:
        raise YamlError("a list begins in a way that is not understood")
    return before.end() - line_start(text, before.end())


def _lines(lines: list[str], column: int, newline: str) -> str:
    return "".join(" " * column + line + newline for line in lines)


def _inserted(old: YamlText, at: int, text: str) -> YamlText:
    return read_yaml(old.text[:at] + text + old.text[at:])


def _events(data: object) -> tuple[Signature, ...]:
    return read_yaml(f"[{flow(data)}]\n").signatures[3:-3]


def _check(new: YamlText, wanted: list[Signature]) -> None:
    if list(new.signatures) != wanted:
        raise YamlError("the edit would change something else")


def _extent(text: str, sequence: Node, index: int) -> tuple[int, int]:
    item = sequence.children[index]
    if not sequence.flow:
        start = line_start(text, item.start)
        if not _DASH_BEFORE.fullmatch(text, start, item.start):
            raise YamlError("an item of ours shares its line with something else")
        return start, line_after(text, item)
    if len(sequence.children) == 1:
        return item.start, item.end
    last = index > 0
    start = sequence.children[index - 1].end if last else item.start
    end = item.end if last else sequence.children[1].start
    comma = text[start : item.start] if last else text[item.end : end]
    if not _COMMA_BETWEEN.fullmatch(comma):
        raise YamlError("an item of ours has a comment beside it")
    return start, end


def _check_no_comment(text: str, item: Node, start: int, end: int) -> None:
    """A comment in what is cut out was written by someone else."""
    between = []
    for leaf in _leaves(item):
        between.append(text[start : leaf.start])
        start = leaf.end
    between.append(text[start:end])
    if any("#" in gap for gap in between):
        raise YamlError("someone wrote a comment into what hf_ess added")


def _leaves(node: Node) -> list[Node]:
    stack, leaves = [node], []
    while stack:
        top = stack.pop()
        if top.children:
            stack.extend(reversed(top.children))
        else:
            leaves.append(top)
    return leaves
