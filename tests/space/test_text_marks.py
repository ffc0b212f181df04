"""Ends of sentences, lines and passages."""

from __future__ import annotations

import pytest

from hf_ess.space.text_marks import passage_ends


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        ([], []),
        (["One", ".", " Two", "."], [1, 3]),
        (["He", " said", ' "', "no", '."', " So"], [4]),
        (["a", "<|endoftext|>", "b"], [1]),
        (["end", ".", "<|endoftext|>", "b"], [1, 2]),
        (["x", "\n\n", "y"], [1]),
        ([" 3", ".", "14"], []),
        (["www", ".", "org"], []),
        (["\u3042", "\u3002", "\u3044", " "], [1]),
        (["...", " and", "?", "!", " ok"], [0, 3]),
        (["", ".", ""], [1]),
    ],
    ids=repr,
)
def test_ends(tokens, ends):
    assert passage_ends(tokens) == ends
