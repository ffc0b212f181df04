"""YAML as nodes that know where they stand in the text; nothing is converted.

The tree is built from events, not with `yaml.compose`, so that an alias is a node with a place
of its own, and neither deep nesting nor aliases of aliases can blow it up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import yaml

from hf_ess.hub.card_parts import NEWLINE, line_breaks_at_end

Signature: TypeAlias = tuple[object, ...]
EMPTY: Signature = ("ScalarEvent", None, None, True, "")


class YamlError(ValueError):
    """YAML that cannot be read, or cannot be edited safely; the message is part of a sentence."""


@dataclass(frozen=True)
class Node:
    """A value in the text.

    Args:
        kind: what it is.
        start, end: its first character, and the one after it, in the text.
        first, last: its first and last event.
        value: the text of a scalar, the name of an alias.
        anchor: its anchor, if it has one.
        flow: whether it is a list in brackets or a mapping in braces.
        block_text: whether it is text after `|` or `>`.
        children: the items of a list; keys and values of a mapping, in turns.
    """

    kind: Literal["scalar", "alias", "sequence", "mapping"]
    start: int
    end: int
    first: int
    last: int
    value: str = ""
    anchor: str | None = None
    flow: bool = False
    block_text: bool = False
    children: tuple[Node, ...] = ()

    @property
    def entries(self) -> list[tuple[Node, Node]]:
        """Keys with values, if it is a mapping."""
        if self.kind != "mapping":
            return []
        return list(zip(self.children[::2], self.children[1::2], strict=True))

    def entry(self, key: str) -> tuple[Node, Node] | None:
        """The key of that text with its value, if it is a mapping that has it."""
        for name, value in self.entries:
            if name.kind == "scalar" and name.value == key:
                return name, value
        return None

    def get(self, key: str) -> Node | None:
        """The value of a key, if it is a mapping that has it."""
        entry = self.entry(key)
        return entry and entry[1]

    @property
    def items(self) -> tuple[Node, ...]:
        """The items, if it is a list."""
        return self.children if self.kind == "sequence" else ()


@dataclass(frozen=True)
class YamlText:
    """The lines of a front matter, read.

    Args:
        text: the lines; the last one has its line break.
        signatures: what every event says, without how it is written.
        root: the top value; None if there are only comments.
        aliases: anchors that are used somewhere.
    """

    text: str
    signatures: tuple[Signature, ...]
    root: Node | None
    aliases: frozenset[str]


@lru_cache(maxsize=16)
def read_yaml(text: str) -> YamlText:
    r"""Reads the lines between the fences as `huggingface_hub` does: without the last line break.

    Raises:
        YamlError: no YAML, more than one document, a key twice in a mapping, an unknown alias.

    Example:
        >>> read_yaml("tags:\n- a\n").root.get("tags").items[0].value
        'a'
    """
    seen = text[: len(text) - len("".join(line_breaks_at_end(text)[-1:]))]
    try:
        events = list(yaml.parse(seen, Loader=yaml.BaseLoader))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise YamlError(f"it is not valid YAML{_place(error)}") from error
    if sum(isinstance(event, yaml.DocumentStartEvent) for event in events) > 1:
        raise YamlError("it holds more than one YAML document")
    builder = _Builder()
    for index, event in enumerate(events):
        builder.take(index, event)
    return YamlText(text, tuple(map(_signature, events)), builder.root, frozenset(builder.aliases))


def line_start(text: str, at: int) -> int:
    """Where the line begins that the character at `at` is in."""
    return max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1


def line_end(text: str, at: int) -> int:
    """Where the next line begins."""
    newline = NEWLINE.search(text, at)
    return newline.end() if newline else len(text)


def line_after(text: str, node: Node) -> int:
    """Where the first line begins that no longer belongs to a node in block style."""
    while node.children and not node.flow:
        node = node.children[-1]
    if node.block_text and line_start(text, node.end) == node.end:
        return node.end
    return line_end(text, node.end)


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    # The opening fence is the first line of the file.
    return "" if mark is None else f" (line {mark.line + 2} of the card)"


@dataclass
class _Builder:
    """Puts events together to nodes, with a stack of its own."""

    root: Node | None = None
    aliases: set[str] = field(default_factory=set)
    anchors: set[str] = field(default_factory=set)
    open: list[tuple[int, Any, list[Node]]] = field(default_factory=list)

    def take(self, index: int, event: Any) -> None:
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.CollectionStartEvent):
            self.open.append((index, event, []))
        elif isinstance(event, yaml.CollectionEndEvent):
            self.close(index, end)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise YamlError(f"the alias *{event.anchor} has no anchor")
            self.aliases.add(event.anchor)
            self.add(Node("alias", start, end, index, index, event.anchor))
            return
        elif isinstance(event, yaml.ScalarEvent):
            node = Node(
                "scalar",
                start,
                end,
                index,
                index,
                event.value,
                event.anchor,
                block_text=event.style in ("|", ">"),
            )
            self.add(node)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.anchors.add(event.anchor)

    def close(self, index: int, end: int) -> None:
        first, event, children = self.open.pop()
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if is_mapping:
            _check_keys(children[::2])
        node = Node(
            "mapping" if is_mapping else "sequence",
            event.start_mark.index,
            end,
            first,
            index,
            anchor=event.anchor,
            flow=bool(event.flow_style),
            children=tuple(children),
        )
        self.add(node)

    def add(self, node: Node) -> None:
        if self.open:
            self.open[-1][2].append(node)
        else:
            self.root = node


def _check_keys(keys: list[Node]) -> None:
    names = [key.value for key in keys if key.kind == "scalar" and key.value != "<<"]
    if len(names) != len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise YamlError(f"it has the key {twice!r} twice in one mapping")


def _signature(event: Any) -> Signature:
    kind = type(event).__name__
    if isinstance(event, yaml.ScalarEvent):
        return (kind, event.anchor, event.tag, event.implicit[0], event.value)
    if isinstance(event, yaml.CollectionStartEvent):
        return (kind, event.anchor, event.tag, event.implicit)
    if isinstance(event, yaml.AliasEvent):
        return (kind, event.anchor)
    if isinstance(event, yaml.DocumentStartEvent):
        return (kind, event.explicit, event.version, str(event.tags))
    return (kind,)
