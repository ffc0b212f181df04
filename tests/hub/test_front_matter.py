"""The metadata of a card is what it was and ours, for whoever reads it with another program."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import yaml
from hub.card_shapes import CARDS, EDITABLE
from hub.test_card_text import ALMOST_ALL, ENTRY, named
from huggingface_hub.repocard import metadata_load
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_ess.hub.card_parts import card_parts
from hf_ess.hub.card_text import CardAddition, with_addition, without_addition
from hf_ess.hub.yaml_text import block, flow
from hf_ess.hub.yaml_tree import YamlError, read_yaml

ADDITION = CardAddition("text", model_index_entry=ENTRY)


def loaded(card, folder):
    path = folder / "README.md"
    path.write_bytes(card)
    try:
        return metadata_load(path)
    except (yaml.YAMLError, ValueError, KeyError) as error:  # KeyError: PyYAML, of "!!bool |"
        return type(error)


def with_ours(data, notes):
    data = copy.deepcopy(data) or {}
    if not any("`hf_ess`" in note for note in notes):
        tags = data.get("tags") or []
        data["tags"] = tags if "hf_ess" in tags else [*tags, "hf_ess"]
    if not any("`model-index`, because" in note for note in notes):
        data["model-index"] = [*(data.get("model-index") or []), ENTRY]
    return data


@named(ALMOST_ALL)
def test_the_hub_reads_the_old_data_and_ours(card, tmp_path):
    edited = with_addition(card, ADDITION)
    before, after = loaded(card, tmp_path), loaded(edited.content, tmp_path)
    if any("change its metadata" in note for note in edited.notes) or isinstance(before, type):
        assert after == before
        assert card_parts(edited.content.decode()).head == card_parts(card.decode()).head
    else:
        assert after == with_ours(before, edited.notes)
    assert loaded(without_addition(edited.content), tmp_path) == before


@named({name: card for name, card in EDITABLE.items() if name in ALMOST_ALL})
def test_both_are_there(card, tmp_path):
    data = loaded(with_addition(card, ADDITION).content, tmp_path)
    assert "hf_ess" in data["tags"]
    assert data["model-index"][-1] == ENTRY


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("tags:\n- a # first\n# end\n", "tags:\n- a # first\n- hf_ess\n# end\n"),
        ("tags:\n- |\n  a\nx: 1\n", "tags:\n- |\n  a\n- hf_ess\nx: 1\n"),
        ("tags:\n    - a\nx: 1\n", "tags:\n    - a\n    - hf_ess\nx: 1\n"),
        ("tags: [a, b,] # mine\n", "tags: [a, b, hf_ess,] # mine\n"),
        ("tags: []\n", "tags: [hf_ess]\n"),
        ("tags: # none\nx: 1\n", "tags: # none\n- hf_ess\nx: 1\n"),
        ("x: 1\n# end\n", "x: 1\n# end\ntags:\n- hf_ess\n"),
        ("x: 1\n...\n", "x: 1\ntags:\n- hf_ess\n...\n"),
        ("x: |\n  text\n", "tags:\n- hf_ess\nx: |\n  text\n"),
        ("  x: 1\n", "  x: 1\n  tags:\n  - hf_ess\n"),
        ("tags:\n- hf_ess\n", "tags:\n- hf_ess\n"),
    ],
)
def test_where_the_tag_goes(before, after):
    card = f"---\n{before}---\ntext\n".encode()
    edited = with_addition(card, CardAddition("text")).content
    assert card_parts(edited.decode()).yaml == after
    assert without_addition(edited) == card


def test_a_tag_of_the_author_stays():
    edited = with_addition(CARDS["tag_of_the_author"], ADDITION).content
    assert edited.count(b"- hf_ess\n") == 1
    assert b"- hf_ess\n" in without_addition(edited)


def test_an_entry_that_lost_its_section_is_replaced():
    edited = with_addition(CARDS["model_index"], ADDITION).content.decode()
    alone = card_parts(edited).head.encode() + b"# A model\n"
    again = with_addition(alone, ADDITION).content
    assert again.count(b"hf_ess\n      url") == 1
    assert again.count(b"- name: first") == 1
    assert without_addition(again).count(b"entropy-ess") == 0


def test_results_that_another_tool_merged_are_left_alone():
    merged = {"name": "m", "results": [*ENTRY["results"], {"source": {"name": "other"}}]}
    lines = "\n".join(["model-index:", *block([merged])])
    card = f"---\n{lines}\n---\ntext\n".encode()
    edited = with_addition(card, ADDITION)
    assert any("cannot be replaced" in note for note in edited.notes)
    assert lines.encode() in edited.content
    assert without_addition(edited.content) == card


def test_a_comment_inside_our_entry_is_not_lost():
    edited = with_addition(CARDS["plain"], ADDITION).content
    commented = edited.replace(b"    metrics:\n", b"    # checked by me\n    metrics:\n")
    new = CardAddition("text", model_index_entry=ENTRY | {"name": "new"})
    again = with_addition(commented, new)
    assert b"# checked by me" in again.content
    assert any("cannot be replaced" in note for note in again.notes)
    assert b"# checked by me" in without_addition(commented)


def test_keys_that_others_add_to_our_front_matter_stay():
    edited = with_addition(b"# A model\n", ADDITION).content
    changed = edited.replace(b"---\ntags:", b"---\nlicense: mit\ntags:", 1)
    assert without_addition(changed) == b"---\nlicense: mit\n---\n# A model\n"


def test_front_matter_broken_between_two_writes_is_left_and_mended_later():
    edited = with_addition(CARDS["plain"], ADDITION).content
    broken = edited.replace(b"license: mit", b"license: [mit")
    again = with_addition(broken, ADDITION)
    assert again.content == broken
    assert again.notes
    mended = again.content.replace(b"license: [mit", b"license: mit")
    assert without_addition(mended) == CARDS["plain"]


def test_aliases_of_aliases_do_no_harm():
    names = "abcdefghijklmnopqrstuvwxyz"
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise(names)
    )
    card = f"---\n{bomb}---\n".encode()
    edited = with_addition(card, ADDITION)
    assert edited.notes == ()
    assert without_addition(edited.content) == card


@pytest.mark.parametrize(
    "text", ["a: [\n", "a: 1\na: 2\n", "*a\n", "a: \x07\n", 'a: "\\UFFFFFFFF"\n']
)
def test_what_is_no_yaml_is_said(text):
    with pytest.raises(YamlError):
        read_yaml(text)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["no", "on", "null", "~", "1", "1e3", "0x1F", "2024-01-01", "a: b", "a # b", "- a", "hf_ess"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
) | TEXTS
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(data=DATA)
@settings(max_examples=200, deadline=None)
def test_data_written_by_us_is_read_back(data):
    assert yaml.safe_load("\n".join(block(data))) == data
    assert yaml.safe_load(f"[{flow(data)}]") == [data]


KEYS = st.sampled_from(["license", "language", "widget", "extra", "a b", "no"])
LISTS = st.lists(TEXTS, max_size=4) | st.none()
ENTRIES = st.lists(st.fixed_dictionaries({"name": TEXTS, "results": st.lists(DATA, max_size=2)}))


@given(
    others=st.dictionaries(KEYS, DATA, max_size=3),
    lists=st.fixed_dictionaries({}, optional={"tags": LISTS, "model-index": ENTRIES | st.none()}),
    style=st.fixed_dictionaries(
        {
            "default_flow_style": st.sampled_from([False, False, None]),
            "indent": st.integers(2, 6),
            "width": st.sampled_from([20, 80, 10000]),
            "sort_keys": st.booleans(),
            "allow_unicode": st.booleans(),
            "default_style": st.sampled_from([None, None, "'", "|"]),
            "line_break": st.sampled_from(["\n", "\r\n"]),
        }
    ),
    data=st.data(),
)
@settings(max_examples=250, deadline=None)
def test_any_front_matter(tmp_path_factory, others, lists, style, data):
    text = yaml.safe_dump(others | lists, **style).splitlines(keepends=True)
    for _ in range(data.draw(st.integers(0, 2))):
        comment = data.draw(st.sampled_from(["# comment", "    # deep", "", "  "]))
        text.insert(data.draw(st.integers(0, len(text))), comment + style["line_break"])
    card = f"---\n{''.join(text)}---\ntext\n".encode()
    folder = tmp_path_factory.getbasetemp()
    before = loaded(card, folder)
    edited = with_addition(card, ADDITION)
    assert without_addition(edited.content) == card
    assert with_addition(edited.content, ADDITION).content == edited.content
    after = loaded(edited.content, folder)
    if isinstance(before, type) or any("change its metadata" in note for note in edited.notes):
        assert after == before
    else:
        assert after == with_ours(before, edited.notes)
