"""Example texts are there, and the separators are where they should be."""

from __future__ import annotations

import ast

import pytest

from hf_ess.errors import InvalidInputError
from hf_ess.modulation.texts import SENTENCES
from hf_ess.space.limits import Limits
from hf_ess.space.prompts import (
    EXAMPLES,
    SEPARATORS,
    example_text,
    separator_prompt,
)


@pytest.mark.parametrize("name", [name for _, name in EXAMPLES])
def test_every_example_is_a_text_within_the_limits(name):
    text, separated = example_text(name)
    Limits().check_text(text)
    assert len(text) > 200
    assert separated == (name == "separators")


@pytest.mark.parametrize("separator", [separator for _, separator in SEPARATORS])
def test_a_separator_stands_between_any_two_sentences_and_not_at_the_end(separator):
    text = separator_prompt(separator)
    assert [text.find(sentence) for sentence in SENTENCES] == sorted(map(text.find, SENTENCES))
    assert len(text) == sum(map(len, SENTENCES)) + 4 * len(separator)
    assert text.endswith(SENTENCES[-1])
    assert example_text("separators", separator) == (text, True)


def test_the_code_is_code():
    assert len(ast.parse(example_text("example-code")[0]).body) == 3


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "README", "demo.txt"])
def test_there_are_no_other_examples(name):
    with pytest.raises(InvalidInputError, match="no example"):
        example_text(name)
    with pytest.raises(InvalidInputError, match="no such separator"):
        example_text("demo", name + "x")
