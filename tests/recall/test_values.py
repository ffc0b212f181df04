"""Recall perplexity against plain loops over tokens."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recall.oracle import repeats, scored_tokens, standard_error
from tiny_models import build_tiny

import hf_ess
from hf_ess.recall.bigrams import earlier_bigrams
from hf_ess.recall.windows import Windowing

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def _texts(*lengths, symbols=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, symbols, (n,), generator=generator).tolist() for n in lengths]


def _measured(model, texts, **options):
    return hf_ess.recall_perplexity(model, {"input_ids": texts}, progress=False, **options)


def _rows(result):
    scored = result.scored
    columns = (
        scored.texts,
        scored.positions,
        scored.losses,
        scored.occurrences,
        scored.distances,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.fixture
def model(tiny_llama):
    return tiny_llama.double()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": 12},
        {"window": 12, "stride": 5, "batch_size": 3},
        {"window": 9, "stride": 8},
        {"window": 2, "stride": 1},
        {"memory_budget": 1},
        {"memory_budget": 1, "window": 12, "batch_size": 2},
    ],
    ids=str,
)
def test_every_token_is_that_of_the_loops(model, options):
    texts = _texts(31, 2, 12, 31)
    window = options.get("window")
    stride = options.get("stride", window and window // 2)
    expected = scored_tokens(model, texts, window, stride)
    found = _rows(_measured(model, texts, **options))
    assert [row[:2] + row[3:] for row in found] == [row[:2] + row[3:] for row in expected]
    np.testing.assert_allclose([r[2] for r in found], [r[2] for r in expected], **EXACT)


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "mamba", "cohere", "granite", "rwkv", "xlnet"])
def test_other_models_also_in_parts(kind):
    model = build_tiny(kind).double()
    texts = _texts(14, 9)
    expected = [row[2] for row in scored_tokens(model, texts)]
    for budget in (1, 2**29):
        found = _measured(model, texts, memory_budget=budget).scored.losses
        np.testing.assert_allclose(found, expected, **EXACT)


class Plain(torch.nn.Module):
    """A causal language model of one's own: no base class, no backbone, no options."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, input_ids):
        return self.inner(input_ids=input_ids, use_cache=False)


class Rounded(Plain):
    """Parts of its logits are others than those of a whole run."""

    def forward(self, input_ids, logits_to_keep=0):
        parts = torch.is_tensor(logits_to_keep)
        logits = self.inner(input_ids=input_ids, logits_to_keep=logits_to_keep).logits
        return SimpleNamespace(logits=logits.bfloat16().double() if parts else logits)


@pytest.mark.parametrize("kind", [Plain, Rounded])
@pytest.mark.parametrize("budget", [1, 2**29])
def test_models_that_give_no_parts_are_run_whole(model, kind, budget):
    texts = _texts(14, 9)
    expected = [row[2] for row in scored_tokens(model, texts)]
    found = _measured(kind(model).eval(), texts, memory_budget=budget).scored.losses
    np.testing.assert_allclose(found, expected, **EXACT)


def test_groups_are_sums_over_their_tokens(model):
    texts = _texts(120, 70, symbols=9)
    result = _measured(model, texts)
    rows = scored_tokens(model, texts)
    chosen = {
        "all": rows,
        "recall": [row for row in rows if row[3]],
        "others": [row for row in rows if not row[3]],
        "seen 1 before": [row for row in rows if row[3] == 1],
        "seen 3-4 before": [row for row in rows if 3 <= row[3] <= 4],
        "1-15 ago": [row for row in rows if 1 <= row[4] < 16],
        "64-255 ago": [row for row in rows if 64 <= row[4] < 256],
    }
    groups = [result.all, result.recall, result.others, *result.by_occurrences, *result.by_distance]
    named = {group.name: group for group in groups}
    for name, members in chosen.items():
        losses = [row[2] for row in members]
        error = standard_error(losses, [(row[0], row[1] // 32) for row in members])
        group, mean = named[name], math.fsum(losses) / len(losses)
        assert group.tokens == len(members) > 1
        assert group.loss == pytest.approx(mean, rel=1e-10)
        assert group.standard_error == pytest.approx(error, rel=1e-9)
        assert group.perplexity == pytest.approx(math.exp(mean), rel=1e-10)
        assert group.perplexity_error == pytest.approx(math.exp(mean) * error, rel=1e-9)
    for parts in (result.by_occurrences, result.by_distance):
        assert sum(group.tokens for group in parts) == result.recall.tokens


def test_standard_perplexity_is_the_loss_of_transformers(model):
    ids = torch.tensor(_texts(40))
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    # transformers takes its loss in float32, whatever the dtype of the model.
    assert _measured(model, ids.tolist()).all.loss == pytest.approx(float(loss), rel=1e-7)


@pytest.mark.parametrize("symbols", [1, 2, 5])
def test_repeats_are_those_of_the_loops(symbols):
    for ids in _texts(2, 3, 40, 90, symbols=symbols, seed=symbols):
        occurrences, distances = earlier_bigrams(np.array(ids))
        expected = [(0, 0), *(repeats(ids, 0, t) for t in range(1, len(ids)))]
        assert list(zip(occurrences.tolist(), distances.tolist(), strict=True)) == expected


@pytest.mark.parametrize("length", [2, 7, 8, 9, 23, 24])
@pytest.mark.parametrize(("window", "stride"), [(8, 4), (8, 1), (8, 7), (2, 1)])
def test_each_token_is_scored_once_with_the_context_that_is_promised(length, window, stride):
    windows = list(Windowing(window, stride).of_text(0, length))
    scored = [t for w in windows for t in range(w.scored_from, w.stop)]
    assert scored == list(range(1, length))
    for w in windows:
        assert w.stop - w.start <= window
        assert w.start == 0 or w.scored_from - w.start >= window - stride
        assert w.stop <= length


def test_common_bigrams_are_no_recall(model):
    texts, corpus = _texts(60, 30, symbols=5), _texts(80, 41, symbols=8, seed=3)
    counts = {}
    for ids in corpus:
        for pair in itertools.pairwise(ids):
            counts[pair] = counts.get(pair, 0) + 1
    result = _measured(model, texts, exclude_common=2, corpus={"input_ids": corpus})
    expected = [
        occurrences > 0 and counts.get((texts[number][t - 1], texts[number][t]), 0) <= 2
        for number, t, _, occurrences, _ in scored_tokens(model, texts)
    ]
    assert result.scored.recalled.tolist() == expected
    assert 0 < result.recall.tokens < int((result.scored.occurrences > 0).sum())
    assert result.settings["corpus_tokens"] == 121


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_logits_of_any_dtype_are_summed_in_float64(tiny_llama, dtype):
    model = tiny_llama.to(dtype)
    ids = torch.tensor(_texts(24))
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1]
    assert logits.dtype == dtype
    expected = -logits.double().log_softmax(-1)[torch.arange(23), ids[0, 1:]]
    found = _measured(model, ids.tolist()).scored.losses
    np.testing.assert_allclose(found, expected, **EXACT)


def test_padding_changes_nothing(model):
    texts = _texts(12, 20)
    ids = torch.tensor([[0] * 8 + texts[0], texts[1]])
    mask = torch.tensor([[0] * 8 + [1] * 12, [1] * 20])
    inputs = {"input_ids": ids, "attention_mask": mask}
    padded = hf_ess.recall_perplexity(model, inputs, batch_size=2, progress=False)
    assert _rows(padded) == _rows(_measured(model, texts))
