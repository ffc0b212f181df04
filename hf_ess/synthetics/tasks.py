"""Tasks that ask for memory: multi-query associative recall, selective copying, compression.

Each function gives texts and labels that depend on its arguments and the seed alone, and on no
global random state. Labels follow transformers: `labels[b, i]` is what the model should answer at
token i - 1, and -100 where nothing is asked, so that `model(input_ids=.., labels=..).loss` and the
Trainer need no more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hf_ess.arguments import check_number, check_whole
from hf_ess.errors import InvalidInputError

NOT_ASKED = -100
BLANK, MARK = -2, -1  # counted from the end of the vocabulary
# Rows of random numbers at a time: as many as the vocabulary each.
ROWS = 256
FEWEST_TOKENS, MOST_TOKENS = 8, 128


class Examples(NamedTuple):
    """Texts `[B, L]` and labels `[B, L]`, both int64.

    `hf_ess.synthetics.multi_query_recall` and the other tasks make them.
    """

    input_ids: Tensor
    labels: Tensor


def multi_query_recall(
    samples: int,
    *,
    length: int,
    pairs: int,
    vocabulary: int = 8192,
    power: float = 0.1,
    random_filling: bool = True,
    seed: int = 0,
) -> Examples:
    """MQAR: `k1 v1 k2 v2 ..`, then each key once more, to be answered with its value.

    Keys are distinct tokens of the first half of the vocabulary (without token 0), values distinct
    ones of the second. The region after the pairs has room for one query every two tokens; places
    are drawn without replacement with probabilities `~ x^(power - 1)`, x = 1, 2, ..

    Args:
        samples: B.
        length: L, at least `4 * pairs`.
        pairs: keys and values.
        vocabulary: number of tokens.
        power: of the distances; small ones put queries close to the pairs, 1 anywhere.
        random_filling: whether tokens between queries are random, else they are 0. Random ones may
            repeat a key without asking for it.
        seed: of the texts.

    Raises:
        InvalidInputError: `4 * pairs > length`, too small a vocabulary, a power that is not
            positive, or sizes that are not.

    Source: Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models",
    ICLR 2024, section 3 and appendix.

    Example:
        >>> ids, labels = multi_query_recall(1, length=8, pairs=2, vocabulary=20, seed=0)
        >>> recalled = dict(zip(ids[0, :4:2].tolist(), ids[0, 1:4:2].tolist()))
        >>> [recalled[int(ids[0, i - 1])] == int(labels[0, i]) for i in (5, 7)]
        [True, True]
    """
    generator = _checked(seed, samples=samples, length=length, pairs=pairs, vocabulary=vocabulary)
    if 4 * pairs > length:
        raise InvalidInputError(
            f"{pairs} pairs and their queries do not fit into {length} tokens.",
            fix=f"Make the texts at least {4 * pairs} tokens long, or ask for fewer pairs.",
        )
    half = vocabulary // 2
    if half - 1 < pairs:
        raise InvalidInputError(
            f"A vocabulary of {vocabulary} tokens has {half - 1} keys, fewer than {pairs}.",
            fix=f"Take at least {2 * pairs + 2} tokens.",
        )
    check_number("power", power, above=0)
    keys = 1 + _distinct(torch.zeros(half - 1), samples, pairs, generator)
    values = half + _distinct(torch.zeros(vocabulary - half), samples, pairs, generator)
    places = (length - 2 * pairs) // 2
    weights = (power - 1) * torch.arange(1, places + 1).log()
    queries = 2 * pairs + 2 * _distinct(weights, samples, pairs, generator)
    ids = torch.zeros(samples, length, dtype=torch.int64)
    if random_filling:
        ids = torch.randint(vocabulary, (samples, length), generator=generator)
    ids[:, : 2 * pairs] = torch.stack([keys, values], -1).flatten(1)
    labels = torch.full_like(ids, NOT_ASKED)
    return Examples(ids.scatter(1, queries, keys), labels.scatter(1, queries + 1, values))


def selective_copying(
    samples: int, *, length: int, tokens: int, vocabulary: int = 16, seed: int = 0
) -> Examples:
    """Tokens scattered among blanks, a mark, and as many blanks in which to repeat the tokens.

    The blank is the last but one token of the vocabulary and the mark the last.

    Args:
        samples: B.
        length: L, more than `2 * tokens + 1`.
        tokens: how many are to be copied, in order.
        vocabulary: number of tokens, blank and mark included.
        seed: of the texts.

    Raises:
        InvalidInputError: `2 * tokens + 1 >= length`, fewer than 3 tokens in the vocabulary, or
            sizes that are not positive.

    Source: Poli et al., "Mechanistic Design and Scaling of Hybrid Architectures", ICML 2024 (MAD),
    selective copying.

    Example:
        >>> ids, labels = selective_copying(1, length=8, tokens=2, vocabulary=9, seed=0)
        >>> ids[0, :5][ids[0, :5] != 7].tolist() == labels[0, 6:].tolist()
        True
    """
    generator = _checked(seed, samples=samples, length=length, tokens=tokens, vocabulary=vocabulary)
    if 2 * tokens + 1 >= length:
        raise InvalidInputError(
            f"{tokens} tokens, a mark and {tokens} copies leave no blank in {length} tokens.",
            fix=f"Make the texts at least {2 * tokens + 2} tokens long, or copy fewer tokens.",
        )
    if vocabulary < 3:
        raise InvalidInputError("Besides blank and mark, the vocabulary needs a token to copy.")
    before = length - tokens - 1
    places = _distinct(torch.zeros(before), samples, tokens, generator).sort(-1).values
    content = torch.randint(vocabulary - 2, (samples, tokens), generator=generator)
    ids = torch.full((samples, length), vocabulary + BLANK)
    ids[:, before] = vocabulary + MARK
    labels = torch.full_like(ids, NOT_ASKED)
    labels[:, before + 1 :] = content
    return Examples(ids.scatter(1, places, content), labels)


def compression(samples: int, *, length: int, vocabulary: int = 16, seed: int = 0) -> Examples:
    """Random tokens, a mark, and blanks in which to repeat all of them from memory.

    `(length - 1) // 2` tokens are repeated. MAD rebuilds the text from the features of its last
    token by a network of its own; that the model itself answers, token by token, is ours, so that
    the same models take every task.

    Args:
        samples: B.
        length: L, at least 3.
        vocabulary: number of tokens, 8 to 128, blank and mark included.
        seed: of the texts.

    Raises:
        InvalidInputError: another vocabulary, or too short a text.

    Source: Poli et al., ICML 2024 (MAD), compression.

    Example:
        >>> ids, labels = compression(1, length=7, vocabulary=8, seed=0)
        >>> ids[0, :3].tolist() == labels[0, 4:].tolist(), ids[0, 3:].tolist()
        (True, [7, 6, 6, 6])
    """
    generator = _checked(seed, samples=samples, length=length, vocabulary=vocabulary)
    if not FEWEST_TOKENS <= vocabulary <= MOST_TOKENS:
        raise InvalidInputError(
            f"Compression has a vocabulary of {FEWEST_TOKENS} to {MOST_TOKENS} tokens, "
            f"got {vocabulary}."
        )
    if length < 3:
        raise InvalidInputError(f"Compression needs at least 3 tokens, got {length}.")
    tokens = (length - 1) // 2
    ids = torch.full((samples, length), vocabulary + BLANK)
    content = torch.randint(vocabulary - 2, (samples, tokens), generator=generator)
    ids[:, :tokens] = content
    ids[:, tokens] = vocabulary + MARK
    labels = torch.full_like(ids, NOT_ASKED)
    labels[:, tokens + 1 : 2 * tokens + 1] = content
    return Examples(ids, labels)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of asked tokens that the model answers right.

    Args:
        logits: `[B, L, V]`.
        labels: `[B, L]`, compared with the logits of the token before.

    Raises:
        InvalidInputError: shapes that do not fit together, or labels that ask for nothing.

    Example:
        >>> import torch
        >>> logits = torch.eye(4)[[1, 2, 3, 0]][None]  # answers 1, 2, 3, 0
        >>> accuracy(logits, torch.tensor([[-100, 1, 3, 3]]))
        0.6666666666666666
    """
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise InvalidInputError(
            f"Logits {list(logits.shape)} and labels {list(labels.shape)} are not [B, L, V] "
            "and [B, L]."
        )
    expected = labels[:, 1:]
    asked = expected != NOT_ASKED
    if not asked.any():
        raise InvalidInputError("The labels ask for nothing: all are -100.")
    right = logits[:, :-1].argmax(-1) == expected
    return int((right & asked).sum()) / int(asked.sum())


def _checked(seed: int, **sizes: int) -> torch.Generator:
    """A generator of its own for the seed, once the sizes are found to be of at least 1."""
    check_whole("seed", seed, least=0)
    for name, size in sizes.items():
        check_whole(name, size, least=1)
    return torch.Generator().manual_seed(seed)


def _distinct(weights: Tensor, rows: int, count: int, generator: torch.Generator) -> Tensor:
    """Draws without replacement, `[rows, count]`, by logarithmic weights of the choices.

    The largest of weights with Gumbel noise are such draws, in the order in which they are drawn.
    """
    parts = []
    for start in range(0, rows, ROWS):
        shape = min(ROWS, rows - start), len(weights)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        noise = -(-uniform.clamp_min(torch.finfo(torch.float64).tiny).log()).log()
        parts.append((weights + noise).topk(count).indices)
    return torch.cat(parts)
