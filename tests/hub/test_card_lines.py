"""Line breaks, blanks and characters of cards at the places where they matter."""

from __future__ import annotations

import pytest
import yaml

from hf_ess.hub.card_markers import BEGIN, END, sections
from hf_ess.hub.card_parts import newline_style
from hf_ess.hub.card_text import CardAddition, with_addition, without_addition
from hf_ess.hub.yaml_text import flow
from hf_ess.hub.yaml_tree import line_end, line_start

NEWLINES = pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])


@NEWLINES
def test_a_text_has_the_style_of_most_of_its_lines(newline):
    assert newline_style(f"a{newline}b{newline}c\n" if newline != "\n" else "a\nb") == newline


@NEWLINES
def test_lines_begin_after_any_line_break(newline):
    text = f"{newline}ab{newline}c"
    first, second = len(newline), 2 * len(newline) + 2
    for at in range(first, first + 3):
        assert line_start(text, at) == first
        assert line_end(text, at) == second
    assert line_start(text, second) == second
    assert line_end(text, second) == len(text)


@NEWLINES
@pytest.mark.parametrize("blank", [True, False])
def test_a_section_at_the_top_keeps_one_line_of_distance(newline, blank):
    body = f"# A model{newline}<!-- open{newline}"
    card = ((newline if blank else "") + body).encode()
    edited = with_addition(card, CardAddition("text")).content.decode()
    assert edited.endswith(f"{END}{newline}{newline}{body}")
    assert without_addition(edited.encode()) == card


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_blanks_beside_a_marker_are_no_text(blank):
    assert len(sections(f"{BEGIN}{blank}\n{END}{blank}\n")) == 1


@pytest.mark.parametrize("character", ["\xa0", "\u2003", "."])
def test_characters_beside_a_marker_make_it_text(character):
    assert sections(f"{BEGIN}{character}\n{END}\n") == []
    assert sections(f"{BEGIN}\n{END}{character}\n") == []


def test_a_section_that_begins_with_code_keeps_its_indentation():
    edited = with_addition(b"# A model\n", CardAddition("\n    code\n\ntext  \n")).content
    assert b"\n\n    code\n\ntext  \n\n" + END.encode() in edited


@pytest.mark.parametrize("character", ["\x7f", "\x85", "\u2028", "\ufeff", "\uffff"])
def test_characters_that_yaml_cannot_hold_are_escaped(character):
    written = flow(f"a{character}b")
    assert character not in written
    assert yaml.safe_load(written) == f"a{character}b"
