"""Recall perplexity as plain loops over tokens: each token from a forward pass of its own."""

from __future__ import annotations

import math

import torch


def context_start(position, window, stride):
    """The first token that token `position` sees, by moving the window until it fits."""
    start = 0
    while window is not None and position >= start + window:
        start += stride
    return start


def token_loss(model, ids, start, position):
    """-log p of one token given `ids[start:position]`, by a sum over the vocabulary."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids[start:position]])).logits[0, -1].tolist()
    top = max(logits)
    total = math.fsum(math.exp(value - top) for value in logits)
    return top + math.log(total) - logits[ids[position]]


def repeats(ids, start, position, special=()):
    """How often the bigram that ends at a token ended before it in the context; how far back."""
    pair = (ids[position - 1], ids[position])
    if position - 1 < start or set(pair) & set(special):
        return 0, 0
    ends = [
        earlier
        for earlier in range(start + 1, position)
        if (ids[earlier - 1], ids[earlier]) == pair
    ]
    return (len(ends), position - ends[-1]) if ends else (0, 0)


def scored_tokens(model, texts, window=None, stride=None, special=()):
    """A row for each token: text, position, loss, occurrences, distance."""
    rows = []
    for number, ids in enumerate(texts):
        for position in range(1, len(ids)):
            start = context_start(position, window, stride)
            loss = token_loss(model, ids, start, position)
            rows.append((number, position, loss, *repeats(ids, start, position, special)))
    return rows


def standard_error(losses, stretches):
    """Of the mean loss, over clusters: the sandwich estimate of a ratio of totals."""
    mean = math.fsum(losses) / len(losses)
    totals = {}
    for loss, stretch in zip(losses, stretches, strict=True):
        totals[stretch] = totals.get(stretch, 0.0) + loss - mean
    clusters = len(totals)
    squares = math.fsum(total**2 for total in totals.values())
    return math.sqrt(squares * clusters / (clusters - 1)) / len(losses)
