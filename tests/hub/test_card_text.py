"""Cards with our section: everything else stays to the byte; taking it out gives the original."""

from __future__ import annotations

import time

import pytest
from hub.card_shapes import CARDS, EDITABLE, PLACES, REFUSED
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hf_ess.errors import InvalidInputError
from hf_ess.hub.card_markers import BEGIN, END, our_section, sections
from hf_ess.hub.card_parts import NEWLINE, card_parts
from hf_ess.hub.card_text import CardAddition, with_addition, without_addition
from hf_ess.hub.yaml_text import flow

ENTRY = {
    "name": "A model: 🦙",
    "results": [
        {
            "task": {"type": "text-generation", "name": "Text generation"},
            "dataset": {"name": "no", "type": "a/b"},
            "metrics": [
                {"type": "entropy-ess", "value": 7.31, "name": 'total "ESS" \\ mean'},
                {"type": "residual", "value": 1e-07},
            ],
            "source": {"name": "hf_ess", "url": "https://example.org/#hf_ess"},
        }
    ],
}
ADDITION = CardAddition("## Memory\n\n| a | b |\n|---|---|\n| 1 | 2 |", model_index_entry=ENTRY)
OTHER = CardAddition("## Other\n\n- text\n\n```\ncode\n```")
LARGE = 100_000
ALMOST_ALL = {name: card for name, card in CARDS.items() if len(card) < LARGE}


def named(cards):
    return pytest.mark.parametrize("card", [pytest.param(cards[name], id=name) for name in cards])


def lines(content):
    """With their line breaks; what follows the last line break has one too."""
    found = NEWLINE.sub(lambda newline: newline.group() + "\0", content.decode()).split("\0")
    return [line for line in found if line]


def check_law(card, addition=ADDITION):
    bare = without_addition(card)
    edited = with_addition(card, addition).content
    assert with_addition(edited, addition).content == edited
    assert without_addition(edited) == bare
    assert without_addition(bare) == bare
    return edited


@named(ALMOST_ALL)
def test_doing_it_twice_and_undoing_it(card):
    edited = check_law(card)
    assert without_addition(edited) == card
    assert b"## Memory" in edited


@named(ALMOST_ALL)
def test_another_section_replaces_the_first(card):
    first = with_addition(card, ADDITION).content
    assert with_addition(first, OTHER).content == with_addition(card, OTHER).content
    assert b"## Memory" not in with_addition(first, OTHER).content


@named({name: card for name, card in ALMOST_ALL.items() if name not in PLACES})
def test_only_lines_of_ours_are_added(card):
    edited = with_addition(card, ADDITION).content
    mark = "\ufeff".encode()
    assert edited.startswith(mark) == card.startswith(mark)
    added = lines(edited.removeprefix(mark))
    for line in lines(card.removeprefix(mark)):
        while cut_out_of_brackets(added[0], line) != line:
            assert is_ours(added.pop(0)), line
        added.pop(0)
    assert all(map(is_ours, added))


def is_ours(line):
    written = {line.strip() for line in lines(with_addition(None, ADDITION).content)}
    line = line.strip()
    is_record = line.startswith("<!-- hf_ess:added {")
    return is_record or line in written or line.removeprefix("- ") in written


def cut_out_of_brackets(new, old):
    """The line without what is ours in it: items in brackets, a line break at the end of a card."""
    item = flow(ENTRY)
    without = [new.replace(ours, "", 1) for ours in (", hf_ess", "hf_ess", f", {item}", item)]
    without += [new, new.rstrip("\r\n")]
    return old if old in without else new


@named(ALMOST_ALL)
def test_the_page_is_the_same_and_our_section(card):
    render = MarkdownIt("commonmark", {"maxNesting": 100}).enable("table").render
    edited = card_parts(with_addition(card, ADDITION).content.decode())
    before, after = render(card_parts(card.decode()).body), render(edited.body)
    section = our_section(sections(edited.body))
    ours = render(edited.body[section.start : section.end])
    assert "<h2>Memory</h2>" in ours
    assert ours in after
    if card not in PLACES.values():
        assert after.replace(ours, "", 1).strip() == before.strip()


@named(EDITABLE)
def test_nothing_to_remark(card):
    assert with_addition(card, ADDITION).notes == ()


@named(REFUSED)
def test_what_is_not_safe_is_left_out_and_said(card):
    edited = with_addition(card, ADDITION)
    assert edited.notes
    for note in edited.notes:
        assert "because" in note
        assert "then push again" in note


def test_a_card_of_a_megabyte_is_quick():
    card = CARDS["a_megabyte"]
    assert len(card) > 1_000_000
    start = time.process_time()
    edited = with_addition(card, ADDITION).content
    added = time.process_time() - start
    start = time.process_time()
    assert without_addition(edited) == card
    removed = time.process_time() - start
    assert max(added, removed) < 2
    assert with_addition(edited, ADDITION).content == edited
    assert edited.startswith(b"---\nlicense: mit\ntags:\n- big\n- hf_ess\nmodel-index:\n- name: ")
    assert card_parts(edited.decode()).body.startswith(card_parts(card.decode()).body)


def test_no_card_becomes_one():
    edited = with_addition(None, ADDITION)
    assert edited == with_addition(b"", ADDITION)
    assert edited.content.startswith(b"---\ntags:\n- hf_ess\nmodel-index:\n- name: ")
    assert edited.content.endswith(
        b"## Memory\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n" + END.encode() + b"\n"
    )
    assert without_addition(edited.content) == b""


def test_lines_of_ours_break_as_theirs():
    edited = with_addition(CARDS["crlf"], ADDITION).content
    assert edited.count(b"\r\n") == edited.count(b"\n") == edited.count(b"\r")


def test_an_open_block_sends_the_section_to_the_top():
    for name in ("open_fence", "open_tildes_without_line_break", "open_comment", "open_script"):
        body = card_parts(with_addition(CARDS[name], ADDITION).content.decode()).body
        assert body.startswith(BEGIN), name


def test_no_place_in_open_code_under_an_open_front_matter():
    card = b"---\nlicense: mit\n\n```\ncode\n"
    edited = with_addition(card, ADDITION)
    assert edited.content == card
    assert len(edited.notes) == 1
    assert "The card was left as it is" in edited.notes[0]


@named(PLACES)
def test_the_author_chooses_the_place(card):
    edited = with_addition(card, ADDITION).content.decode()
    before = card.decode()
    place = sections(card_parts(before).body)[0].inner_start
    body = card_parts(edited).body
    assert body[:place] == card_parts(before).body[:place]
    assert body[place:].startswith("<!-- hf_ess:added ")
    assert edited.endswith(before[before.index(END) :])


def test_several_pairs_get_a_note():
    edited = with_addition(CARDS["place_chosen_twice"], ADDITION)
    assert any("2 pairs of hf_ess markers" in note for note in edited.notes)


def test_a_pair_with_our_record_goes_before_others():
    ours = with_addition(b"# A model\n", ADDITION).content.decode()
    begins = f"---\nlicense: mit\n---\n{BEGIN}\nnot ours\n{END}\n\n"
    card = (begins + card_parts(ours).body).encode()
    edited = with_addition(card, OTHER).content.decode()
    assert f"{BEGIN}\nnot ours\n{END}\n" in edited
    assert "## Memory" not in edited
    assert edited.count("## Other") == 1


def test_text_in_a_pair_without_a_record_is_ours():
    card = f"---\na: b\n---\ntext\n\n{BEGIN}\nold\n{END}\n\nmore\n".encode()
    edited = with_addition(card, OTHER)
    assert b"old" not in edited.content
    assert any("was replaced" in note for note in edited.notes)
    assert without_addition(edited.content) == without_addition(card) == card.replace(b"old\n", b"")


def test_a_forged_record_is_text():
    for record in ("{", "[]", '{"place": 3}', '{"place": "end", "newlines": 99}'):
        card = f"text\n\n\n{BEGIN}\n<!-- hf_ess:added {record} -->\n{END}\n".encode()
        assert without_addition(card) == f"text\n\n\n{BEGIN}\n{END}\n".encode()


def test_text_that_others_append_keeps_its_distance():
    edited = with_addition(b"# A model", ADDITION).content + b"## Citation\n"
    assert without_addition(edited) == b"# A model\n\n## Citation\n"
    again = with_addition(edited, OTHER).content
    assert again.endswith(END.encode() + b"\n## Citation\n")


def test_a_section_that_someone_moved_stays_there():
    edited = with_addition(b"# A model\n\nText.\n", ADDITION).content.decode()
    section = edited[edited.index(BEGIN) :]
    moved = edited.replace(section, "").replace("Text.", section + "\nText.").encode()
    again = with_addition(moved, OTHER).content.decode()
    assert again.index("# A model") < again.index("## Other") < again.index("Text.")
    assert without_addition(again.encode()) == without_addition(moved)


def test_what_others_change_elsewhere_makes_no_difference():
    edited = with_addition(CARDS["plain"], ADDITION).content
    changed = edited.replace(b"license: mit", b"license: apache-2.0").replace(b"It ", b"They ")
    changed = changed.replace(b"\n---\n# A", b"\nlast: key\n---\n# A")
    assert with_addition(changed, ADDITION).content == changed


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_card_in_another_encoding_is_refused(encoding):
    card = "# Ein schönes Modell".encode(encoding)
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        with_addition(card, ADDITION)
    with pytest.raises(InvalidInputError, match=r"Save README\.md as UTF-8"):
        without_addition(card)


@pytest.mark.parametrize(
    "section",
    [
        BEGIN,
        f"text {END}",
        "<!--hf_ess:added {} -->",
        "a\n---\nb",
        "```\ncode",
        "<!-- open",
        "\ud800",
    ],
)
def test_a_section_that_would_break_out_is_refused(section):
    with pytest.raises(InvalidInputError, match="What to do"):
        CardAddition(section)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "a"},
        {"name": "a", "results": [{"metrics": []}]},
        {"name": "a", "results": [ENTRY["results"][0], {"source": {"name": "b"}}]},
        ENTRY | {"value": float("nan")},
        ENTRY | {"value": b"bytes"},
    ],
)
def test_an_entry_that_could_not_be_known_again_is_refused(entry):
    with pytest.raises(InvalidInputError, match="What to do"):
        CardAddition("text", model_index_entry=entry)


FRAGMENTS = st.sampled_from(
    [
        *(BEGIN, END, f"  {BEGIN}", f"    {END}", f"> {BEGIN}", f"- {END}", f"{BEGIN} "),
        *("```", "~~~", "````", "    code", "<!--", "-->", "<div>", "</div>", "<script>", "<pre>"),
        *("<?php", "<![CDATA[", "---", "--- ", " ---", "===", "***", "...", "- item", "1. item"),
        *("  more", "> quote", "| a | b |", "|---|---|", "text", "# heading", "", " ", "\t"),
        *("<!-- hf_ess:added {} -->", "[a]: b", "\ufeff", "\u2028", "\x0c", "$$", "🦙"),
        *("tags: [a]", "license: mit"),
    ]
)
BREAKS = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"])
BODIES = st.lists(st.tuples(FRAGMENTS, BREAKS), max_size=12).map(
    lambda found: "".join(text + newline for text, newline in found)
)
ENDS = st.sampled_from(["", "text", " ", "```", END])
HEADS = st.sampled_from(
    ["", "---\nlicense: mit\n---\n", "---\r\ntags: [a]\r\n---\r\n", "---\n---\n"]
)


@given(head=HEADS, body=BODIES, end=ENDS)
@settings(max_examples=400, deadline=None)
def test_any_body(head, body, end):
    card = (head + body + end).encode()
    edited = check_law(card)
    text = card.decode()
    if not sections(card_parts(text).body):
        assert without_addition(edited) == card
    assert check_law(edited, OTHER) == check_law(without_addition(card), OTHER)


@given(head=HEADS, body=BODIES, end=ENDS, data=st.data())
@settings(max_examples=200, deadline=None)
def test_what_others_insert_between_two_writes_survives(head, body, end, data):
    edited = with_addition((head + body + end).encode(), ADDITION).content.decode()
    parts = card_parts(edited)
    section = our_section(sections(parts.body))
    assume(section is not None)
    found = NEWLINE.finditer(parts.body)
    places = [0, *(newline.end() for newline in found), len(parts.body)]
    outside = [at for at in places if not section.start < at < section.end]
    at = data.draw(st.sampled_from(outside))
    inserted = data.draw(st.sampled_from(["of others\n", "\n", "    code\r\n", "# of others\r\n"]))
    changed = parts.head + parts.body[:at] + inserted + parts.body[at:]
    again = check_law(changed.encode(), OTHER).decode()
    assert again.count("of others") == inserted.count("of others")
    theirs = card_parts(without_addition(changed.encode()).decode()).body
    left = iter(lines(again.encode()))
    assert all(
        any(line.strip() == other.strip() for other in left) for line in lines(theirs.encode())
    )
