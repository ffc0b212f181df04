"""Where separators are among the tokens, and the texts that come with hf_ess."""

from __future__ import annotations

import pytest
from modulation.separated_words import MARKS, passages, tokenizer_of_words

from hf_ess.errors import InvalidInputError
from hf_ess.modulation.prompts import separated
from hf_ess.modulation.texts import SENTENCES, TEXT_NAMES, passages_of


def tokens_at(prompt, tokenizer):
    return [tokenizer.convert_ids_to_tokens(list(prompt.ids[a:b])) for a, b in prompt.spans]


@pytest.mark.parametrize(
    ("separator", "inside"),
    [
        ("eos", ["</s>"]),
        ("token:<doc>", ["<doc>"]),
        ("period", ["."]),
        ("newline", ["\n"]),
        ("none", []),
        ("closing", ["."]),
    ],
)
def test_spans_hold_the_separator_and_nothing_else(separator, inside):
    tokenizer = tokenizer_of_words()
    prompt = separated("x", passages(5, 4, 7, end="."), separator, tokenizer)
    assert tokens_at(prompt, tokenizer) == [inside, inside]
    # Only the last passage of "closing" keeps its full stop.
    extra = 1 if separator == "closing" else 0
    assert len(prompt.ids) == 16 + 2 * len(inside) + extra
    starts = [start for start, _ in prompt.spans]
    assert starts == [5, 5 + len(inside) + 4]
    assert prompt.shortest_passage == 4


def test_a_brace_closes_a_function_and_a_line_follows():
    tokenizer = tokenizer_of_words()
    parts = [part + "\nw1 }" for part in passages(5, 6)]
    prompt = separated("code", parts, "closing", tokenizer)
    assert tokens_at(prompt, tokenizer) == [["}"]]
    assert prompt.ids[prompt.spans[0][1]] == MARKS.index("\n")


def test_a_tokenizer_may_begin_every_text_with_the_token():
    tokenizer = tokenizer_of_words()
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", 1)]
    )
    prompt = separated("x", passages(5, 4), "eos", tokenizer)
    assert prompt.ids[0] == 1
    assert prompt.spans == ((6, 7),)


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_texts_leave_room_after_the_last_separator(name):
    *parts, last = passages_of(name)
    assert len(parts) >= 4
    assert len(last) > 1.1 * max(map(len, parts))


def test_the_short_text_is_four_sentences_and_more():
    assert passages_of("short")[:4] == SENTENCES[:4]


def test_functions_end_with_a_brace():
    assert all(part.endswith("}") for part in passages_of("code"))


def test_there_is_no_other_text():
    with pytest.raises(InvalidInputError, match="no text 'poem'"):
        passages_of("poem")
