"""Which bigrams a context holds already, how often, how far back, and how common they are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def earlier_bigrams(ids: Integers) -> tuple[Integers, Integers]:
    """How often, and how far back, the bigram that ends at each token occurred before.

    Args:
        ids: int64 `[L]`, one context.

    Returns:
        Occurrences `[L]` of `(ids[t-1], ids[t])` that end before t, and the distance `[L]` in
        tokens from t to the end of the latest of them; both 0 where there is none, as at token 0.

    Example:
        >>> import numpy as np
        >>> occurrences, distances = earlier_bigrams(np.array([5, 7, 9, 5, 7, 5, 7]))
        >>> occurrences.tolist(), distances.tolist()
        ([0, 0, 0, 0, 1, 0, 2], [0, 0, 0, 0, 3, 0, 2])
    """
    occurrences, distances = np.zeros_like(ids), np.zeros_like(ids)
    keys = bigram_keys(ids, int(ids.max()) + 1)
    order = np.argsort(keys, kind="stable")
    is_first = np.r_[True, np.diff(keys[order]) != 0]
    places = np.arange(len(order))
    firsts = np.maximum.accumulate(np.where(is_first, places, 0))
    occurrences[order + 1] = places - firsts
    distances[order + 1] = np.where(is_first, 0, np.diff(order, prepend=0))
    return occurrences, distances


def bigram_keys(ids: Integers, size: int) -> Integers:
    """One number `[L-1]` for each bigram of token ids below `size`.

    Example:
        >>> import numpy as np
        >>> bigram_keys(np.array([1, 2, 1]), 10).tolist()
        [12, 21]
    """
    return np.asarray(ids[:-1] * size + ids[1:])


def counts_in(corpus: Iterable[Integers], keys: Integers, size: int) -> Integers:
    """How often each bigram occurs in a corpus; only these bigrams are counted.

    Args:
        corpus: texts as token ids `[L]` each; no bigram spans two of them.
        keys: int64 `[T]` of `bigram_keys`.
        size: all token ids are below it.

    Returns:
        int64 `[T]`.

    Example:
        >>> import numpy as np
        >>> counts_in([np.array([1, 2, 1, 2])], np.array([12, 21, 33]), 10).tolist()
        [2, 1, 0]
    """
    wanted, places = np.unique(keys, return_inverse=True)
    counts = np.zeros(len(wanted), dtype=np.int64)
    for ids in corpus:
        found, numbers = np.unique(bigram_keys(ids, size), return_counts=True)
        here = np.searchsorted(wanted, found)
        known = here < len(wanted)
        known[known] = wanted[here[known]] == found[known]
        counts[here[known]] += numbers[known]
    return np.asarray(counts[places])
