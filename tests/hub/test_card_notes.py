"""What is left out of a card is said with its reason, and what was added is recorded exactly."""

from __future__ import annotations

import pytest
from hub.card_shapes import CARDS, REFUSED
from hub.test_card_text import ADDITION

from hf_ess.hub.card_markers import BEGIN, END, Record, our_section, sections
from hf_ess.hub.card_parts import card_parts
from hf_ess.hub.card_text import with_addition, without_addition

TAGS = "did not add `hf_ess` to `tags`, because"
ENTRIES = "did not add the results of hf_ess to `model-index`, because"
NOTHING = "did not change its metadata, because"
NO_MAPPING = "it is not a mapping of keys to values."
MERGED = "it merges (`<<`) what may hold"
REASONS = {
    "no_yaml": [f"{NOTHING} it is not valid YAML (line 2 of the card)."],
    "tabs": [f"{NOTHING} it is not valid YAML (line 3 of the card)."],
    "control_character": [f"{NOTHING} it is not valid YAML."],
    "keys_twice": [f"{NOTHING} it has the key 'license' twice in one mapping."],
    "inner_keys_twice": [f"{NOTHING} it has the key 'b' twice in one mapping."],
    "unknown_alias": [f"{NOTHING} the alias *nowhere has no anchor."],
    "a_list": [f"{TAGS} {NO_MAPPING}", f"{ENTRIES} {NO_MAPPING}"],
    "explicit_key": [f"{ENTRIES} there is no safe place for the key `model-index`."],
    "in_braces": [f"{TAGS} it is written in braces.", f"{ENTRIES} it is written in braces."],
    "several_documents": [f"{NOTHING} it holds more than one YAML document."],
    "merged_keys": [
        f"{TAGS} {MERGED} `tags` already.",
        f"{ENTRIES} {MERGED} `model-index` already.",
    ],
    "tags_scalar": [f"{TAGS} `tags` is a single value where a list belongs."],
    "tags_alias": [f"{TAGS} `tags` is an alias where a list belongs."],
    "tags_mapping": [f"{TAGS} `tags` is a mapping where a list belongs."],
    "tags_used_elsewhere": [f"{TAGS} `tags` is used elsewhere too, through the anchor &t."],
    "last_item_of_block_text": [f"{TAGS} the edit would change something else."],
    "never_closed": [f"{NOTHING} it begins with --- and is never closed."],
}


@pytest.mark.parametrize("name", REASONS)
def test_every_reason(name):
    notes = with_addition(REFUSED[name], ADDITION).notes
    assert len(notes) == len(REASONS[name])
    for note, reason in zip(notes, REASONS[name], strict=True):
        assert f"The front matter of the card was left as it is: hf_ess {reason} " in note


def test_keys_that_merge_may_stand_twice():
    card = b"---\na: &a {x: 1}\n<<: *a\n<<: *a\n---\ntext\n"
    assert [MERGED in note for note in with_addition(card, ADDITION).notes] == [True, True]


@pytest.mark.parametrize(
    ("card", "place", "newlines"),
    [
        (b"", "end", 1),
        (b"# A model", "end", 2),
        (b"# A model\n", "end", 1),
        (b"# A model\n\n", "end", 0),
        (CARDS["open_fence"], "top", 1),
    ],
)
def test_the_record_says_what_was_added(card, place, newlines):
    body = card_parts(with_addition(card, ADDITION).content.decode()).body
    record = our_section(sections(body)).record
    assert (record.place, record.newlines) == (place, newlines)


def test_a_record_may_be_short():
    body = f'{BEGIN}\n<!-- hf_ess:added {{"place": "end"}} -->\n{END}\n'
    assert our_section(sections(body)).record == Record("end")


def test_a_marker_with_text_beside_it_is_none():
    assert sections(f"{BEGIN}\ntext\n{END}\n")
    assert not sections(f"{BEGIN}X\ntext\n{END}\n")


def test_tags_that_others_put_behind_ours_stay():
    card = b"---\ntags:\n- first\n---\ntext\n"
    edited = with_addition(card, ADDITION).content
    changed = edited.replace(b"- hf_ess\n", b"- hf_ess\n- later\n- last\n", 1)
    assert without_addition(changed) == card.replace(b"- first\n", b"- first\n- later\n- last\n")
