"""Draws docs/images/architecture.svg: the rooms of the house, and data's way through them.

    python docs/make_architecture_picture.py

Rows are the layers of the import contract in pyproject.toml, words are the first lines of the
rooms' docstrings, lines are imports as grimp finds them. Only where a room stands within its row,
and the order in which data passes, are said here; each of data's steps is checked against imports.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, cast

import grimp
from importlinter.api import read_configuration

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
CONTRACT = "one way through the house"

WIDTH, ROW, BOX_WIDTH, BOX_HEIGHT = 1180, 126, 216, 80
LETTERS = 35
# From left to right; a room that is not named here stands at the left.
PLACES = {
    "hf_ess.cli": 0.56,
    "hf_ess.space": 0.72,
    "hf_ess.lab": 0.33,
    "hf_ess.training": 0.1,
    "hf_ess.reduce": 0.29,
    "hf_ess.recall": 0.48,
    "hf_ess.modulation": 0.67,
    "hf_ess.analysis": 0.39,
    "hf_ess.hub": 0.86,
    "hf_ess.synthetics": 0.1,
    "model_adapters": 0.33,
    "hf_ess.spectra": 0.6,
    "hf_ess.report": 0.86,
    "hf_ess.operators": 0.46,
    "hf_ess.metrics": 0.735,
}
# From where to where data goes, and which room imports what for it.
STEPS = (
    ("hf_ess.analysis", "model_adapters", "model, texts", ("hf_ess.analysis", "model_adapters")),
    ("model_adapters", "hf_ess.operators", "M, u, y", ("model_adapters", "hf_ess.operators")),
    ("hf_ess.operators", "hf_ess.spectra", "M", ("hf_ess.spectra", "hf_ess.operators")),
    ("hf_ess.spectra", "hf_ess.metrics", "values", ("hf_ess.spectra", "hf_ess.metrics")),
    ("hf_ess.metrics", "hf_ess.report", "ESS", ("hf_ess.analysis", "hf_ess.report")),
    ("hf_ess.report", "hf_ess.hub", "ESSReport", ("hf_ess.hub", "hf_ess.report")),
    ("hf_ess.report", "hf_ess.space", "", ("hf_ess.space", "hf_ess.report")),
    ("hf_ess.report", "hf_ess.cli", "", ("hf_ess.cli", "hf_ess.report")),
)
LEGEND = (
    ("#1c2a4a", "A room imports from its own row and those below: the contract in pyproject.toml."),
    ("#6b7485", "Grey lines: imports in the code; those that follow from others are left out."),
    ("#d9480f", "Orange arrows: the way of data, from a model and texts to what people see."),
)
# What runs on the way of data, though it is a single file.
FILES_ON_THE_WAY = {"hf_ess.metrics"}


@dataclass(frozen=True)
class House:
    """What the code says of the rooms.

    Attributes:
        layers: rooms from the top to the bottom, those that all may use left out.
        tools: single files at the bottom, which every room may use.
        imports: pairs of rooms, the first of which imports the second.
        words: first lines of docstrings.
    """

    layers: tuple[tuple[str, ...], ...]
    tools: tuple[str, ...]
    imports: frozenset[tuple[str, str]]
    words: dict[str, str]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Imports between rooms that do not follow from others, and are on no step of data."""
        steps = [{one, other} for one, other, *_ in STEPS]
        rooms = {room for layer in self.layers for room in layer}
        pairs = {pair for pair in self.imports if set(pair) <= rooms}
        first = [pair for pair in pairs if not leads(pairs - {pair}, *pair)]
        return sorted(pair for pair in first if set(pair) not in steps)


def read_house() -> House:
    """Reads contract, imports and docstrings of the code as it is."""
    contract = _contract()
    split = [layer.replace("|", ":").split(":") for layer in contract["layers"]]
    layers = [tuple(room.strip() for room in layer) for layer in split]
    ignored = {tuple(map(_room, pair.split(" -> "))) for pair in contract["ignore_imports"]}
    rooms = [room for layer in layers for room in layer]
    tools = tuple(room for room in rooms if _is_tool(room))
    return House(
        layers=tuple(kept for layer in layers if (kept := _without(layer, tools))),
        tools=tuple(sorted(tools)),
        imports=frozenset(_imports(set(rooms)) - ignored),
        words={room: _first_line(room) for room in rooms},
    )


def _contract() -> dict[str, Any]:
    contracts = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    (contract,) = (contract for contract in contracts if contract["name"] == CONTRACT)
    return cast("dict[str, Any]", contract)


def _without(layer: tuple[str, ...], tools: tuple[str, ...]) -> tuple[str, ...]:
    kept = [room for room in layer if room not in tools]
    return tuple(sorted(kept, key=lambda room: PLACES.get(room, 0.0)))


def _is_tool(room: str) -> bool:
    return not ROOT.joinpath(*room.split(".")).is_dir() and room not in FILES_ON_THE_WAY


def _file_of(room: str) -> Path:
    path = ROOT.joinpath(*room.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _first_line(room: str) -> str:
    text = ast.get_docstring(ast.parse(_file_of(room).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".").replace("`", "")


def _imports(rooms: set[str]) -> set[tuple[str, str]]:
    graph = grimp.build_graph(
        "hf_ess", "model_adapters", exclude_type_checking_imports=True, cache_dir=None
    )
    pairs = {
        (_room(module), _room(other))
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
    }
    return {(one, other) for one, other in pairs if one != other and {one, other} <= rooms}


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] == "model_adapters" else ".".join(parts[:2])


def leads(pairs: set[tuple[str, str]], start: str, end: str) -> bool:
    """Whether a way over some of the pairs ends there."""
    reached, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        following = {other for one, other in pairs if one == here} - reached
        reached |= following
        waiting.extend(following)
    return end in reached


@dataclass(frozen=True)
class Box:
    """Where a room stands."""

    x: float
    y: float

    @property
    def left(self) -> float:
        return self.x - BOX_WIDTH / 2

    @property
    def right(self) -> float:
        return self.x + BOX_WIDTH / 2

    @property
    def middle(self) -> float:
        return self.y + BOX_HEIGHT / 2

    @property
    def bottom(self) -> float:
        return self.y + BOX_HEIGHT


def boxes_of(house: House) -> dict[str, Box]:
    """Where each room stands in the picture."""
    return {
        room: Box(PLACES.get(room, 0.1) * WIDTH, 20 + ROW * row)
        for row, layer in enumerate(house.layers)
        for room in layer
    }


def draw(house: House) -> str:
    """The picture as SVG.

    Raises:
        ValueError: a step of data has no import that could carry it.
    """
    for *_, carried in STEPS:
        if carried not in house.imports:
            raise ValueError(f"Data cannot go from {carried[0]} to {carried[1]}: no import.")
    boxes = boxes_of(house)
    height = 20 + ROW * len(house.layers) + 74
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif" role="img">',
        f"<title>The rooms of hf_ess and data's way through them</title>{MARKERS}",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *(_line(boxes[one], boxes[other]) for one, other in house.lines),
        *(_room_box(room, box, house.words[room]) for room, box in boxes.items()),
        *(_step(n, boxes, step) for n, step in enumerate(STEPS, start=1)),
        _tool_box(house.tools, height - 74),
        *(
            _text(24, 34 + 21 * n, words, f'font-size="13" text-anchor="start" fill="{colour}"')
            for n, (colour, words) in enumerate(LEGEND)
        ),
        "</svg>\n",
    ]
    return "\n".join(parts)


MARKERS = "".join(
    f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" '
    f'markerHeight="{size}" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
    for name, size, colour in (("import", 6, "#9aa3b2"), ("data", 4, "#d9480f"))
)


def _line(one: Box, other: Box) -> str:
    if one.y == other.y:
        start, end = (one.right, other.left - 2) if one.x < other.x else (one.left, other.right + 2)
        path = f"M{start:.0f} {one.middle:.0f} H{end:.0f}"
    else:
        middle = (one.bottom + other.y) / 2
        bend = f"C{one.x:.0f} {middle:.0f} {other.x:.0f} {middle:.0f}"
        path = f"M{one.x:.0f} {one.bottom:.0f} {bend} {other.x:.0f} {other.y - 2:.0f}"
    return (
        f'<path d="{path}" fill="none" stroke="#9aa3b2" stroke-width="1.2" '
        'marker-end="url(#import)"/>'
    )


def _room_box(room: str, box: Box, words: str) -> str:
    lines = textwrap.wrap(words, LETTERS)[:3]
    return "\n".join(
        [
            f'<rect x="{box.left:.0f}" y="{box.y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" '
            'rx="7" fill="#f4f6fb" stroke="#5b6b8c"/>',
            _text(box.x, box.y + 20, room, 'font-size="15" font-weight="bold" fill="#1c2a4a"'),
            *(
                _text(box.x, box.y + 38 + 14.5 * n, line, 'font-size="12" fill="#39445c"')
                for n, line in enumerate(lines)
            ),
        ]
    )


def _step(number: int, boxes: dict[str, Box], step: tuple[str, str, str, object]) -> str:
    start, end, words = boxes[step[0]], boxes[step[1]], step[2]
    path, middle = _straight(start, end) if words else _around(start, end, number)
    arrow = (
        f'<path d="{path}" fill="none" stroke="#d9480f" stroke-width="3" marker-end="url(#data)"/>'
    )
    lower = 0 if start.x == end.x else 9 if end.y < start.y else -7
    return f"{arrow}\n{_label(number, words, *middle, lower)}"


def _straight(start: Box, end: Box) -> tuple[str, tuple[float, float]]:
    """From the side of one box that is nearest to the other, and where its middle is."""
    inwards = 0 if start.x == end.x else 34 if start.x < end.x else -34
    x1, x2 = start.x + inwards, end.x - inwards
    y1, y2 = (start.y, end.bottom + 3) if end.y < start.y else (start.bottom, end.y - 3)
    return f"M{x1:.0f} {y1:.0f} L{x2:.0f} {y2:.0f}", ((x1 + x2) / 2, (y1 + y2) / 2)


def _around(start: Box, end: Box, number: int) -> tuple[str, tuple[float, float]]:
    """Along the right edge, each in a lane of its own."""
    side = 12 * (number % 2)
    lane, y = WIDTH - 14 - side, start.y + 22 + side
    path = f"M{start.right:.0f} {y:.0f} H{lane} V{end.middle:.0f} H{end.right + 4:.0f}"
    return path, (lane, (y + end.middle) / 2)


def _label(number: int, words: str, x: float, y: float, lower: int) -> str:
    circle = f'<circle cx="{x:.0f}" cy="{y:.0f}" r="9" fill="#d9480f"/>'
    digit = _text(x, y + 4, str(number), 'font-size="11.5" font-weight="bold" fill="#ffffff"')
    style = (
        'font-size="14" font-style="italic" fill="#d9480f" stroke="#ffffff" stroke-width="4" '
        'paint-order="stroke" text-anchor="start"'
    )
    return "\n".join(
        [circle, digit, _text(x + 14, y + 4 + lower, words, style)] if words else [circle, digit]
    )


def _tool_box(tools: tuple[str, ...], y: float) -> str:
    names = ", ".join(tool.removeprefix("hf_ess.") for tool in tools)
    return "\n".join(
        [
            f'<rect x="16" y="{y:.0f}" width="{WIDTH - 32}" height="56" rx="7" fill="#eef3ee" '
            'stroke="#6b8a6b"/>',
            _text(
                WIDTH / 2,
                y + 22,
                "single files of hf_ess that every room may use",
                'font-size="14" font-weight="bold" fill="#274027"',
            ),
            _text(WIDTH / 2, y + 41, names, 'font-size="13" fill="#274027"'),
        ]
    )


def _text(x: float, y: float, words: str, style: str) -> str:
    anchor = "" if "text-anchor" in style else ' text-anchor="middle"'
    return f'<text x="{x:.0f}" y="{y:.0f}"{anchor} {style}>{escape(words)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(read_house()), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}", file=sys.stderr)
