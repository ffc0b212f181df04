"""Tasks: every answer can be found in the text, by code that knows nothing of the generators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import hf_ess
from hf_ess.synthetics import (
    Examples,
    accuracy,
    compression,
    multi_query_recall,
    selective_copying,
)

TASKS = {
    "recall": lambda samples, seed: multi_query_recall(
        samples, length=40, pairs=7, vocabulary=50, seed=seed
    ),
    "copying": lambda samples, seed: selective_copying(samples, length=30, tokens=9, seed=seed),
    "compression": lambda samples, seed: compression(samples, length=30, seed=seed),
}

RECALL = (
    [[6, 9, 1, 13, 1, 7, 0, 14, 5, 10, 6, 0]],
    [[-100, -100, -100, -100, -100, 13, -100, -100, -100, -100, -100, 9]],
)
COPYING = (
    [[1, 6, 0, 5, 6, 7, 6, 6, 6]],
    [[-100, -100, -100, -100, -100, -100, 1, 0, 5]],
)


def asked(labels: Tensor) -> list[int]:
    """Places of labels."""
    return [place for place, label in enumerate(labels.tolist()) if label != -100]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_seed_alone_decides(task) -> None:
    state = torch.random.get_rng_state()
    first = task(5, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(9)
    assert all(torch.equal(*pair) for pair in zip(first, task(5, 3), strict=True))
    assert not torch.equal(first.input_ids, task(5, 4).input_ids)
    assert not torch.equal(first.input_ids[0], first.input_ids[1])
    assert isinstance(first, Examples)
    assert {tensor.dtype for tensor in first} == {torch.int64}


def test_texts_of_one_seed_stay_as_they_are() -> None:
    ids, labels = multi_query_recall(1, length=12, pairs=2, vocabulary=16, seed=5)
    assert (ids.tolist(), labels.tolist()) == RECALL
    ids, labels = selective_copying(1, length=9, tokens=3, vocabulary=8, seed=5)
    assert (ids.tolist(), labels.tolist()) == COPYING


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize(
    ("length", "pairs", "vocabulary"), [(40, 10, 50), (41, 3, 23), (64, 16, 8192), (4, 1, 4)]
)
def test_each_query_is_answered_by_its_pair(length, pairs, vocabulary, filled) -> None:
    texts = multi_query_recall(
        300, length=length, pairs=pairs, vocabulary=vocabulary, random_filling=filled, seed=1
    )
    assert texts.input_ids.shape == texts.labels.shape == (300, length)
    for ids, labels in zip(texts.input_ids.tolist(), texts.labels, strict=True):
        keys, values = ids[: 2 * pairs : 2], ids[1 : 2 * pairs : 2]
        assert all(1 <= key < vocabulary // 2 for key in keys)
        assert all(vocabulary // 2 <= value < vocabulary for value in values)
        assert len(set(keys)) == len(set(values)) == pairs
        value_of = dict(zip(keys, values, strict=True))
        places = asked(labels)
        assert all(place > 2 * pairs and place % 2 for place in places)
        queried = [ids[place - 1] for place in places]
        assert sorted(queried) == sorted(keys)
        assert [value_of[key] for key in queried] == [int(labels[place]) for place in places]
        others = set(range(2 * pairs, length)) - {place - 1 for place in places}
        assert filled or not any(ids[place] for place in others)
        assert all(0 <= token < vocabulary for token in ids)


def places_of_one_query(power: float) -> Tensor:
    labels = multi_query_recall(20000, length=42, pairs=1, vocabulary=8, power=power).labels
    return (labels != -100).int().argmax(-1).sub(3) // 2


@pytest.mark.parametrize("power", [0.1, 0.01, 1.0])
def test_distances_follow_the_power_law(power: float) -> None:
    counts = torch.bincount(places_of_one_query(power), minlength=20).double()
    weights = [place ** (power - 1) for place in range(1, 21)]
    expected = 20000 * torch.tensor(weights, dtype=torch.float64) / sum(weights)
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 43.8  # 19 degrees of freedom: exceeded by one draw in a thousand


def test_several_queries_are_drawn_one_after_the_other() -> None:
    weights = torch.arange(1, 4).double() ** -0.9
    shares = weights / weights.sum()
    texts = multi_query_recall(30000, length=10, pairs=2, vocabulary=8, random_filling=False)
    first, second = (
        (texts.input_ids[:, 4::2] == texts.input_ids[:, key, None]).int().argmax(-1)
        for key in (0, 2)
    )
    for i in range(3):
        for j in range(3):
            drawn = float(((first == i) & (second == j)).double().mean())
            rest = 1 - shares[i]
            expected = 0.0 if i == j else float(shares[i] * shares[j] / rest)
            assert drawn == pytest.approx(expected, abs=5 * (0.25 / 30000) ** 0.5)


@pytest.mark.parametrize(
    ("length", "tokens", "vocabulary"), [(30, 9, 16), (9, 3, 3), (40, 19, 128)]
)
def test_scattered_tokens_are_repeated_in_order(length, tokens, vocabulary) -> None:
    texts = selective_copying(200, length=length, tokens=tokens, vocabulary=vocabulary, seed=2)
    blank, mark = vocabulary - 2, vocabulary - 1
    seen = set()
    for ids, labels in zip(texts.input_ids.tolist(), texts.labels, strict=True):
        assert ids.count(mark) == 1
        end = ids.index(mark)
        content = [token for token in ids[:end] if token != blank]
        assert len(content) == tokens
        assert asked(labels) == list(range(end + 1, length))
        assert labels[end + 1 :].tolist() == content
        assert set(ids[end + 1 :]) == {blank}
        seen.add(tuple(place for place in range(end) if ids[place] != blank))
    assert len(seen) >= 10


@pytest.mark.parametrize(("length", "tokens"), [(31, 15), (30, 14), (3, 1)])
@pytest.mark.parametrize("vocabulary", [8, 128])
def test_compressed_texts_are_repeated_whole(length, tokens, vocabulary) -> None:
    texts = compression(300, length=length, vocabulary=vocabulary, seed=3)
    for ids, labels in zip(texts.input_ids.tolist(), texts.labels, strict=True):
        assert ids.index(vocabulary - 1) == tokens
        assert set(ids[tokens + 1 :]) == {vocabulary - 2}
        assert asked(labels) == list(range(tokens + 1, 2 * tokens + 1))
        assert labels[tokens + 1 : 2 * tokens + 1].tolist() == ids[:tokens]
    drawn = texts.input_ids[:, :tokens].unique()
    assert drawn.max() == vocabulary - 3 or length == 3
    assert drawn.min() >= 0


def test_accuracy_counts_what_is_asked() -> None:
    labels = torch.full((2, 6), -100)
    labels[0, 2], labels[0, 5], labels[1, 1] = 3, 4, 0
    logits = torch.zeros(2, 6, 5)
    logits[0, 1, 3] = 1  # right
    logits[0, 5, 4] = 1  # a token too late
    assert accuracy(logits, labels) == 2 / 3
    logits[0, 4, 4] = 1
    assert accuracy(logits, labels) == 1.0
    assert accuracy(logits[:1], labels[:1]) == 1.0


def test_accuracy_of_nothing_is_an_error() -> None:
    first = torch.full((1, 4), -100)
    first[0, 0] = 1
    with pytest.raises(hf_ess.InvalidInputError, match="ask for nothing"):
        accuracy(torch.zeros(1, 4, 5), first)
    with pytest.raises(hf_ess.InvalidInputError, match=r"\[1, 4, 5\] and labels \[1, 3\]"):
        accuracy(torch.zeros(1, 4, 5), first[:, :3])


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: multi_query_recall(1, length=39, pairs=10), "at least 40 tokens"),
        (lambda: multi_query_recall(1, length=40, pairs=10, vocabulary=21), "at least 22"),
        (lambda: multi_query_recall(1, length=40, pairs=10, power=0.0), "power must be above 0"),
        (lambda: multi_query_recall(0, length=40, pairs=10), "samples must be at least 1"),
        (lambda: multi_query_recall(1, length=40, pairs=1, seed=-1), "seed must be at least 0"),
        (lambda: selective_copying(1, length=21, tokens=10), "at least 22 tokens"),
        (lambda: selective_copying(1, length=9, tokens=3, vocabulary=2), "a token to copy"),
        (lambda: compression(1, length=2), "at least 3 tokens"),
        (lambda: compression(1, length=20, vocabulary=7), "8 to 128"),
        (lambda: compression(1, length=20, vocabulary=129), "8 to 128"),
    ],
)
def test_impossible_tasks_are_refused(ask, said: str) -> None:
    with pytest.raises(hf_ess.InvalidInputError, match=said):
        ask()


def test_sizes_are_whole_numbers() -> None:
    with pytest.raises(hf_ess.InvalidTypeError, match=r"length must be a whole number, got 40\.0"):
        multi_query_recall(1, length=40.0, pairs=10)
