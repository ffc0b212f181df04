"""docs/architecture.md and its picture say what is so."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest
from house.markdown_pages import ROOT

PAGE = ROOT / "docs" / "architecture.md"
AGAIN = "run `python docs/make_architecture_picture.py` and commit docs/images/architecture.svg"


@pytest.fixture(scope="module")
def script():
    path = ROOT / "docs" / "make_architecture_picture.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def house(script):
    return script.read_house()


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


def test_the_picture_is_that_of_the_code(script, house):
    assert script.PICTURE.read_text(encoding="utf-8") == script.draw(house), AGAIN


def test_no_room_is_in_two_places_of_the_picture(script, house):
    boxes = list(script.boxes_of(house).values())
    assert len(boxes) == sum(map(len, house.layers))
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            assert abs(one.x - other.x) >= script.BOX_WIDTH or one.y != other.y


def test_lines_lead_to_all_that_is_imported(script, house):
    drawn = set(house.lines) | {pair for *_, pair in script.STEPS}
    rooms = {room for layer in house.layers for room in layer}
    imported = {pair for pair in house.imports if set(pair) <= rooms}
    assert drawn <= imported
    for pair in imported:
        assert pair in drawn or script.leads(drawn, *pair)


def test_lines_that_follow_from_others_are_left_out(script):
    pairs = {("a", "b"), ("b", "c"), ("a", "c"), ("d", "c")}
    house = script.House((("a", "d"), ("b",), ("c",)), (), frozenset(pairs), {})
    assert house.lines == [("a", "b"), ("b", "c"), ("d", "c")]


def test_a_step_without_an_import_is_refused(script, house):
    carried = script.STEPS[0][-1]
    less = script.House(house.layers, house.tools, house.imports - {carried}, house.words)
    with pytest.raises(ValueError, match=carried[0]):
        script.draw(less)


def test_every_room_has_its_row(house, text):
    folders = {
        room.replace(".", "/") + "/"
        for layer in house.layers
        for room in layer
        if (ROOT / room.replace(".", "/")).is_dir()
    }
    assert len(folders) > 10
    assert set(re.findall(r"^\| `([a-z_/]+/)` \|", text, re.MULTILINE)) == folders


def test_every_path_of_the_page_exists(text):
    paths = set(re.findall(r"`([\w./]+/[\w./]*)`", text))
    assert len(paths) > 40
    assert not [path for path in paths if not (ROOT / path).exists() and path != "paper/"]
