"""Tasks by name: the same texts as the functions give, and what is refused."""

from __future__ import annotations

import pytest
import torch

from hf_ess import InvalidInputError, InvalidTypeError
from hf_ess.synthetics import Task, compression, multi_query_recall, selective_copying

CASES = {
    "multi_query_recall": (multi_query_recall, {"length": 20, "pairs": 4, "vocabulary": 24}),
    "selective_copying": (selective_copying, {"length": 20, "tokens": 4}),
    "compression": (compression, {"length": 9, "vocabulary": 8}),
}


@pytest.mark.parametrize("name", CASES)
def test_texts_are_those_of_the_function(name) -> None:
    function, arguments = CASES[name]
    task = Task(name, arguments)
    texts, expected = task.texts(3, seed=7), function(3, seed=7, **arguments)
    assert all(torch.equal(*pair) for pair in zip(texts, expected, strict=True))
    assert task.vocabulary == arguments.get("vocabulary", 16)


@pytest.mark.parametrize("name", CASES)
def test_written_and_read(name) -> None:
    task = Task(name, CASES[name][1])
    written = task.to_dict()
    assert written["name"] == name
    assert written.items() >= CASES[name][1].items()
    assert Task.from_dict(written) == task


def test_defaults_are_filled_in() -> None:
    task = Task("multi_query_recall", {"pairs": 2, "length": 8})
    filled = {"vocabulary": 8192, "power": 0.1, "random_filling": True}
    assert task.arguments == {"length": 8, "pairs": 2, **filled}


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"name": "recall"}, "There is no task 'recall'"),
        ({"name": "compression", "lenght": 9}, "no argument 'lenght'"),
        ({"name": "compression"}, "needs length"),
        ({"name": "compression", "length": 9, 1: 2}, "no argument 1"),
        ({"name": "compression", "length": 9, "samples": 3}, "no argument 'samples'"),
        ({"name": "compression", "length": 9, "seed": 3}, "no argument 'seed'"),
        ({"name": "multi_query_recall", "length": 8, "pairs": 3}, "do not fit into 8 tokens"),
    ],
)
def test_what_is_refused(written, words) -> None:
    with pytest.raises(InvalidInputError, match=words):
        Task.from_dict(written)


def test_a_near_match_is_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Task("compression", {"lenght": 9})
    assert caught.value.causes == ("'length' is meant",)


@pytest.mark.parametrize("written", [None, "compression", {"length": 9}, {"name": 3}])
def test_what_is_no_task(written) -> None:
    with pytest.raises(InvalidTypeError, match="A task is a mapping with its name"):
        Task.from_dict(written)


def test_texts_of_the_test_have_the_last_seed() -> None:
    task = Task("selective_copying", {"length": 12, "tokens": 2})
    expected = selective_copying(5, length=12, tokens=2, seed=0xFFFFFFFF)
    assert all(torch.equal(*pair) for pair in zip(task.test_texts(5), expected, strict=True))
