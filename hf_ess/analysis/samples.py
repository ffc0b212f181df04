"""What to analyse: texts, token ids or encodings become samples of token ids without padding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.report import SampleInfo

SHORTEST = 2


@dataclass(frozen=True)
class Sample:
    """One sequence of tokens, without padding.

    Attributes:
        ids: int64 `[L]`.
        info: what the report says about it.
    """

    ids: Tensor
    info: SampleInfo

    @property
    def length(self) -> int:
        """L."""
        return int(self.ids.shape[0])


def samples_from(inputs: Any, tokenizer: Any | None) -> list[Sample]:
    """Samples from what a user passed as `inputs`.

    Padding is removed, so that a sample is analysed exactly as if it had come alone.

    Args:
        inputs: str, list of str, LongTensor `[L]` or `[B, L]`, or a BatchEncoding (its
            `attention_mask` says which tokens are padding).
        tokenizer: needed for text; with token ids it only labels them.

    Raises:
        InvalidTypeError: inputs are of another type, or text comes without a tokenizer.
        InvalidInputError: nothing to analyse, or a sample has fewer than two tokens.
    """
    check_inputs(inputs)
    if isinstance(inputs, str):
        return _from_texts([inputs], tokenizer)
    if isinstance(inputs, Tensor):
        return _from_ids(inputs, None, tokenizer)
    if isinstance(inputs, Sequence):
        return _from_texts(inputs, tokenizer)
    return _from_ids(inputs["input_ids"], inputs.get("attention_mask"), tokenizer)


def check_inputs(inputs: Any) -> None:
    """Refuses what can be refused before a model is loaded.

    Raises:
        InvalidTypeError: inputs are of a type that cannot be analysed.
        InvalidInputError: there is no text, or one is empty.
    """
    texts = [inputs] if isinstance(inputs, str) else inputs
    if isinstance(texts, Sequence) and all(isinstance(text, str) for text in texts):
        _check_texts(texts)
    elif not isinstance(inputs, Tensor) and not (hasattr(inputs, "keys") and "input_ids" in inputs):
        raise InvalidTypeError(
            f"Cannot analyse inputs of type {type(inputs).__name__}.",
            fix="Pass a text, a list of texts, a LongTensor of token ids [B, L], or a "
            "BatchEncoding.",
        )


def equal_length_batches(samples: Sequence[Sample], batch_size: int) -> Iterator[list[int]]:
    """Numbers of samples that are run together: only of one length, so that nothing is padded."""
    by_length: dict[int, list[int]] = {}
    for number, sample in enumerate(samples):
        by_length.setdefault(sample.length, []).append(number)
    for numbers in by_length.values():
        for start in range(0, len(numbers), batch_size):
            yield numbers[start : start + batch_size]


def _check_texts(texts: Sequence[str]) -> None:
    if not texts:
        raise InvalidInputError("There is no text to analyse: the list is empty.")
    for number, text in enumerate(texts):
        if not text.strip():
            raise InvalidInputError(
                f"Text {number} is empty." if len(texts) > 1 else "The text is empty.",
                fix="Pass a text of at least two tokens; some hundred show more.",
            )


def _from_texts(texts: Sequence[str], tokenizer: Any | None) -> list[Sample]:
    if tokenizer is None:
        raise InvalidTypeError(
            "A text needs a tokenizer, and there is none.",
            causes=[
                "the model was passed as an object, which does not carry its tokenizer",
                "the checkpoint has no tokenizer, or one that needs trust_remote_code",
            ],
            fix="Pass tokenizer=AutoTokenizer.from_pretrained(...), or token ids (--ids at the "
            "command line).",
        )
    samples = []
    for number, text in enumerate(texts):
        ids = tokenizer(text, return_tensors="pt", verbose=False)["input_ids"][0]
        digest = hashlib.sha256(text.encode()).hexdigest()
        samples.append(_sample(number, ids, tokenizer, digest))
    return samples


def _from_ids(ids: Any, attention_mask: Any | None, tokenizer: Any | None) -> list[Sample]:
    rows = _rows(ids)
    shown = [torch.ones_like(row) for row in rows]
    masks = shown if attention_mask is None else _rows(attention_mask)
    if [mask.shape for mask in masks] != [row.shape for row in rows]:
        raise InvalidInputError(
            f"attention_mask does not fit input_ids: rows of {[len(mask) for mask in masks]} and "
            f"{[len(row) for row in rows]} tokens."
        )
    return [
        _sample(number, row[_kept(number, mask.bool())], tokenizer, None)
        for number, (row, mask) in enumerate(zip(rows, masks, strict=True))
    ]


def _rows(ids: Any) -> list[Tensor]:
    """Token ids, or a mask over them, as one tensor `[L]` per sample.

    Without padding a tokenizer gives lists of different lengths.
    """
    if isinstance(ids, (list, tuple)) and not isinstance(next(iter(ids), None), int):
        rows = [torch.as_tensor(row) for row in ids]
    else:
        whole = torch.as_tensor(ids)
        rows = list(whole if whole.ndim > 1 else whole[None])
    if not rows or any(row.ndim != 1 or not len(row) for row in rows):
        raise InvalidInputError(
            f"Token ids need shape [L] or [B, L], got {[list(row.shape) for row in rows]}."
        )
    return rows


def _kept(number: int, mask: Tensor) -> Tensor:
    """The mask itself, if what it hides lies before or after the text."""
    text = mask.nonzero()[:, 0]
    if len(text) and int(text[-1] - text[0]) + 1 != len(text):
        raise InvalidInputError(
            f"attention_mask hides tokens in the middle of sample {number}.",
            causes=["several texts were packed into one row"],
            fix="Pass each text as a sample of its own.",
        )
    return mask


def _sample(number: int, ids: Tensor, tokenizer: Any | None, digest: str | None) -> Sample:
    if ids.is_floating_point() or ids.dtype == torch.bool or ids.is_complex():
        raise InvalidTypeError(f"Token ids must be integers, got {ids.dtype}.")
    ids = ids.detach().to(device="cpu", dtype=torch.int64)
    if len(ids) < SHORTEST:
        raise InvalidInputError(
            f"Sample {number} has {len(ids)} token(s); a state needs a past and a future.",
            fix="Pass at least two tokens; some hundred show more.",
        )
    if bool((ids < 0).any()):
        raise InvalidInputError(f"Sample {number} holds the negative token id {int(ids.min())}.")
    tokens = None
    if tokenizer is not None:
        words = {token: tokenizer.decode([token]) for token in set(ids.tolist())}
        tokens = [words[token] for token in ids.tolist()]
    return Sample(ids, SampleInfo(len(ids), digest, tokens, ids.numpy()))
