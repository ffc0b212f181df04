"""Model cards in the shapes that people give them, by name."""

from __future__ import annotations

from hf_ess.hub.card_markers import BEGIN, END

_PLAIN = "---\nlicense: mit\n---\n# A model\n\nIt models.\n"
_RESULT = """\
- name: first
  results:
  - task: {type: text-generation}
    dataset: {name: Pile, type: pile, args: {a: 1}}
    metrics:
    - type: accuracy
      value: 0.50
      verified: false
      unknown_key: kept
"""


def _card(yaml: str, body: str = "# A model\n") -> str:
    return f"---\n{yaml}---\n{body}"


def _body(body: str) -> str:
    return _card("license: mit\n", body)


_PAIR = f"{BEGIN}\n{END}\n"

# Front matter that takes the tag and the entry.
_EDITABLE = {
    "plain": _PLAIN,
    "crlf": _PLAIN.replace("\n", "\r\n"),
    "byte_order_mark": "\ufeff" + _PLAIN,
    "byte_order_mark_and_crlf": ("\ufeff" + _PLAIN).replace("\n", "\r\n"),
    "byte_order_mark_alone": "\ufeff",
    "byte_order_mark_without_front_matter": "\ufeff# A model\n",
    "carriage_returns_in_the_body": "---\nlicense: mit\n---\n# A\rmodel\r\rof old\r",
    "only_carriage_returns": "# A model\rof an old computer\r",
    "mixed_line_breaks": "---\r\nlicense: mit\n---\r\n# A\nmodel\rx\r\n\r",
    "ends_with_a_carriage_return": "---\nlicense: mit\n---\n# A\nmodel\nx\r",
    "carriage_returns_in_the_front_matter": "---\rlicense: mit\rtags:\r- a\r---",
    "no_front_matter": "# A model\n\nIt models.\n",
    "no_front_matter_with_rules": "# A model\n\n---\n\nIt models.\n\n---\n\nMore.\n",
    "no_final_line_break": "---\nlicense: mit\n---\n# A model",
    "trailing_blanks": "---\nlicense: mit  \n---  \t\n# A model  \n   \n  ",
    "many_blank_lines_at_the_end": _PLAIN + "\n\n\n\n",
    "blank_last_line": _PLAIN + "\n   \t",
    "empty": "",
    "one_line_break": "\n",
    "whitespace": " \n\t\n   ",
    "only_front_matter": "---\nlicense: mit\n---\n",
    "only_front_matter_without_line_break": "---\nlicense: mit\n---",
    "whitespace_before_the_front_matter": "\n \n---\nlicense: mit\n---\n# A model\n",
    "empty_front_matter": "---\n---\n# A model\n",
    "empty_front_matter_crlf": "---\r\n---\r\n# A model\r\n",
    "empty_front_matter_alone": "---\n---",
    "blank_front_matter": "---\n\n---\n# A model\n",
    "front_matter_of_comments": "---\n# metadata\n# to come\n---\n# A model\n",
    "comments": _card(
        "# top\nlicense: mit # as upstream\n\n# about tags\ntags: # mine\n- a # first\n"
        "# between\n- b\n# last\n\n# end\n"
    ),
    "nested_indentation": _card("tags:\n    - a\n    - b\nlicense: mit\n"),
    "indented_mapping": _card("  license: mit\n  tags:\n  - a\n"),
    "language_no": _card("language: no\ntags:\n- on\n- 1.0\n- 0x10\nextra: [yes, off, 1e3, 010]\n"),
    "quoted_strings": _card("tags:\n- 'it''s'\n- \"a # b\"\n- \"two \\\n  lines\"\n"),
    "tags_null": _card("tags: # none yet\nlicense: mit\n"),
    "tags_null_at_the_end": _card("license: mit\ntags:\n"),
    "tags_empty_brackets": _card("tags: []\nlicense: mit\n"),
    "tags_in_brackets": _card("tags: [a, 'b, c', d,] # mine\nlicense: mit\n"),
    "tags_in_brackets_over_lines": _card("tags: [\n  a, # one\n  b # two\n]\nlicense: mit\n"),
    "tag_of_the_author": _card("tags:\n- hf_ess\n- a\n"),
    "quoted_key": _card("\"tags\":\n- a\n'model-index':\n" + _RESULT),
    "items_of_block_text": _card("tags:\n- |\n  a\n  b\n\n\n# after\nlicense: mit\n"),
    "block_text_at_the_end": _card("license: mit\nsummary: |\n  one\n  two\n"),
    "block_text_that_keeps_line_breaks": _card("summary: |+\n  one\n\n\n"),
    "block_text_that_strips": _card("widget:\n- text: >-\n    one\n    two\n"),
    "anchors_elsewhere": _card("base: &base\n- x\ncopy: *base\ntags:\n- &t a\n- *t\n"),
    "anchored_tags_of_no_other_use": _card("tags: &mine\n- a\nlicense: mit\n"),
    "explicit_end": _card("license: mit\n...\n"),
    "null_item": _card("tags:\n- a\n-\nlicense: mit\n"),
    "model_index": _card("model-index:\n" + _RESULT + "license: mit\n"),
    "several_entries": _card("model-index:\n" + _RESULT + _RESULT.replace("first", "second")),
    "entries_with_comments": _card("model-index: # ours\n" + _RESULT + "  # end of first\n"),
    "indented_entries": _card(
        "model-index:\n" + "".join(f"    {line}\n" for line in _RESULT.splitlines())
    ),
    "entries_in_brackets": _card('model-index: [{"name": "a", "results": []}]\n'),
    "entries_of_null": _card("model-index:\n"),
    "emoji": _card("emoji: 🦙\ntags:\n- 🤗 hub\n", "# 🦙 A model 👩‍👩‍👧\n\nÄ ö 日本語\n"),
    "right_to_left": _card("pretty: نموذج\ntags:\n- 'עברית'\n", "# نموذج \u202bא\u202c\n"),
    "line_separators": _body("one\u2028two\u2029three\x85four\x0b\x0cfive\n"),
    "null_character": _body("zero \x00 here\n"),
    "html_comments": _body("<!-- hidden\n\n# not a heading\n-->\ntext\n<!-- open and closed -->\n"),
    "marker_in_a_fence": _body(f"```html\n{_PAIR}```\n\ntext\n"),
    "marker_in_tildes": _body(f"~~~\n{_PAIR}~~~\n"),
    "marker_in_indented_code": _body(
        "text\n\n" + "".join(f"    {line}\n" for line in _PAIR.splitlines())
    ),
    "marker_in_a_list": _body(f"- item\n\n  {BEGIN}\n\n  text\n\n  {END}\n"),
    "marker_in_a_quote": _body(f"> {BEGIN}\n> text\n> {END}\n"),
    "marker_inline": _body(f"Write `{BEGIN}` and `{END}` or {BEGIN} and {END}\n"),
    "marker_in_an_html_block": _body(f"<div>\n{_PAIR}</div>\n"),
    "marker_with_text_after_it": _body(f"{BEGIN} text\n{END} text\n"),
    "only_begin": _body(f"text\n\n{BEGIN}\n\nmore\n"),
    "only_end": _body(f"text\n\n{END}\n\nmore\n"),
    "end_before_begin": _body(f"{END}\ntext\n{BEGIN}\n"),
    "open_fence": _body("text\n\n```python\nprint(1)\n"),
    "open_tildes_without_line_break": _body("~~~~\n```\ncode"),
    "open_comment": _body("text\n\n<!-- a remark\nthat never ends\n"),
    "open_script": _body("\n<script>\n\nlet a = 1\n"),
    "open_fence_crlf": _body("text\n\n```\ncode\n").replace("\n", "\r\n"),
    "open_fence_with_carriage_returns": "---\na: b\n---\n\n# A\r```\rx\ry\r",
    "open_fence_without_front_matter": "```\ncode\n",
    "open_list": _body("- item\n  - inner\n\n    more"),
    "open_table": _body("| a | b |\n|---|---|\n| 1 | 2 |"),
    "heading_by_underline_at_the_end": _body("A heading\n---"),
    "text_then_rule_without_front_matter": "A heading\n---\n",
    "link_at_the_end": _body("[a link]\n\n[a link]: https://example.org"),
    "deep_list": _body("".join("  " * depth + "- x\n" for depth in range(30)) + "\nafter\n"),
    "a_megabyte": _card(
        "license: mit\ntags:\n- big\n",
        (
            "# A model\n\n"
            + "Some *text* on a line of the usual length, and `code`.\n" * 20
            + "\n- one\n- two\n\n```python\n"
            + "print(1)\n" * 20
            + "```\n\n"
        )
        * 800,
    ),
}

# Front matter where something cannot be added safely; the section still can.
_REFUSED = {
    "no_yaml": _card("license: [mit\n"),
    "tabs": _card("tags:\n\t- a\n"),
    "keys_twice": _card("license: mit\nlicense: apache-2.0\n"),
    "inner_keys_twice": _card("a:\n- {b: 1, b: 2}\n"),
    "unknown_alias": _card("a: *nowhere\n"),
    "a_list": _card("- a\n- b\n"),
    "a_text": _card("just text\n"),
    "explicit_key": _card("? tags\n: - a\n  - b\nlicense: mit\n"),
    "in_braces": _card("{license: mit}\n"),
    "several_documents": _card("license: mit\n--- # next\ntags: [a]\n"),
    "merged_keys": _card("base: &b {x: 1}\n<<: *b\n"),
    "tags_scalar": _card("tags: llama\n"),
    "tags_written_null": _card("tags: ~\n"),
    "tags_alias": _card("base: &b [x]\ntags: *b\n"),
    "tags_used_elsewhere": _card("tags: &t\n- a\ncopy: *t\n"),
    "tags_mapping": _card("tags:\n  a: 1\n"),
    "entries_mapping": _card("model-index:\n  name: a\n"),
    "last_item_of_block_text": _card("model-index: []\ntags:\n- |\n  a\n"),
    "control_character": _card("license: mit # \x07\n"),
    "never_closed": "---\nlicense: mit\n\n# A model\n",
    "never_closed_rule": "---\n# A model\n",
    "only_carriage_returns_with_fences": "---\rlicense: mit\r---\r# A model\r",
    "text_between_rules": "---\n\nA quote.\n\n---\n\n# A model\n",
}

_EMPTY_PAIRS = {
    "place_chosen": _body(f"# A model\n\n{_PAIR}\nLast words.\n"),
    "place_chosen_with_whitespace": _body(f"Text\n{BEGIN}\n\n \n{END}  \nLast words."),
    "place_chosen_crlf": _body(f"Text\n\n  {_PAIR}\n## After\n").replace("\n", "\r\n"),
    "place_chosen_twice": _body(f"{_PAIR}\ntext\n\n{_PAIR}"),
    "place_chosen_at_the_end": _body(f"Text\n\n{BEGIN}\n{END}"),
    "place_after_a_lone_begin": _body(f"{BEGIN}\n{_PAIR}"),
}

EDITABLE = {name: text.encode() for name, text in _EDITABLE.items()}
REFUSED = {name: text.encode() for name, text in _REFUSED.items()}
PLACES = {name: text.encode() for name, text in _EMPTY_PAIRS.items()}
CARDS = EDITABLE | REFUSED | PLACES
