"""What to analyse: texts, token ids or encodings become samples of token ids without padding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hf_ess.corpus import SourcedText, sentence_start, source_of
from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.report import SampleInfo
from model_adapters.tokenizing import encoded

SHORTEST = 2


@dataclass(frozen=True)
class Sample:
    """One sequence of tokens, without padding.

    Attributes:
        ids: int64 `[L]`.
        info: what the report says about it.
        source: where it came from, its number if that is not known.
    """

    ids: Tensor
    info: SampleInfo
    source: str

    @property
    def length(self) -> int:
        """L."""
        return int(self.ids.shape[0])


@dataclass(frozen=True)
class LeftOut:
    """A text that cannot be analysed.

    Attributes:
        source: where it came from.
        reason: why it cannot.
    """

    source: str
    reason: str

    @property
    def sentence(self) -> str:
        """Both, the source once."""
        is_named = self.reason.startswith(sentence_start(self.source))
        return self.reason if is_named else f"{self.source}: {self.reason}"


@dataclass(frozen=True)
class _Coming:
    """A sample that is made when it is asked for, so that one that fails does not end all."""

    source: str
    make: Callable[[], Sample]


def samples_from(
    inputs: Any, tokenizer: Any | None, *, max_length: int | None = None
) -> list[Sample]:
    """Samples from what a user passed as `inputs`.

    Padding is removed, so that a sample is analysed exactly as if it had come alone.

    Args:
        inputs: str, list of str, LongTensor `[L]` or `[B, L]`, or a BatchEncoding (its
            `attention_mask` says which tokens are padding).
        tokenizer: needed for text; with token ids it only labels them.
        max_length: tokens of a sample that are kept, the first ones; all by default.

    Raises:
        InvalidTypeError: inputs are of another type, or text comes without a tokenizer.
        InvalidInputError: nothing to analyse, or a sample has fewer than two tokens.
    """
    check_inputs(inputs)
    return [coming.make() for coming in _coming(inputs, tokenizer, max_length)]


def usable_samples(
    inputs: Any, tokenizer: Any | None, max_length: int | None, check: Callable[[Sample], None]
) -> tuple[list[Sample], list[LeftOut]]:
    """The samples that can be analysed, and what is to be said of the others.

    Args:
        inputs: as those of `samples_from`.
        tokenizer: the same.
        max_length: the same.
        check: raises InvalidInputError for a sample that the model cannot read.

    Raises:
        InvalidTypeError: as `samples_from`.
        InvalidInputError: none can be analysed.
    """
    check_inputs(inputs, blank_allowed=True)
    samples, left_out = [], []
    for coming in _coming(inputs, tokenizer, max_length):
        try:
            sample = coming.make()
            check(sample)
        except InvalidInputError as error:
            left_out.append(LeftOut(coming.source, error.what))
        else:
            samples.append(sample)
    if not samples:
        raise nothing_left(left_out)
    return samples, left_out


def nothing_left(left_out: Sequence[LeftOut]) -> InvalidInputError:
    """What is said where not a single text can be analysed."""
    return InvalidInputError(
        f"None of the {len(left_out)} text(s) can be analysed.",
        causes=[one.sentence for one in left_out[:5]],
    )


def check_inputs(inputs: Any, *, blank_allowed: bool = False) -> None:
    """Refuses what can be refused before a model is loaded.

    Args:
        inputs: what a user passed.
        blank_allowed: whether a text may be empty.

    Raises:
        InvalidTypeError: inputs are of a type that cannot be analysed.
        InvalidInputError: there is no text, or one is empty.
    """
    texts = [inputs] if isinstance(inputs, str) else inputs
    if isinstance(texts, Sequence) and all(isinstance(text, str) for text in texts):
        if not texts:
            raise InvalidInputError("There is no text to analyse: the list is empty.")
        for number, text in enumerate(() if blank_allowed else texts):
            alone = len(texts) == 1 and not isinstance(text, SourcedText)
            _check_text(text, "the text" if alone else source_of(text, number))
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


def _check_text(text: str, source: str) -> None:
    if not text.strip():
        raise InvalidInputError(
            f"{sentence_start(source)} is empty.",
            fix="Pass a text of at least two tokens; some hundred show more.",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{sentence_start(source)} is no text that can be written as UTF-8: {error.reason} "
            f"at character {error.start}.",
            causes=["an emoji or a rare character was cut in two"],
        ) from error


def _coming(inputs: Any, tokenizer: Any | None, max_length: int | None) -> list[_Coming]:
    if isinstance(inputs, Tensor):
        return _from_ids(inputs, None, tokenizer, max_length)
    if isinstance(inputs, Sequence):
        texts = [inputs] if isinstance(inputs, str) else inputs
        return _from_texts(texts, tokenizer, max_length)
    mask = inputs.get("attention_mask")
    return _from_ids(inputs["input_ids"], mask, tokenizer, max_length)


def _from_texts(
    texts: Sequence[str], tokenizer: Any | None, max_length: int | None
) -> list[_Coming]:
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
    words: dict[int, str] = {}

    def make(text: str, number: int) -> Sample:
        source = source_of(text, number)
        _check_text(text, source)
        ids = encoded(tokenizer, str(text), return_tensors="pt")["input_ids"][0]
        kept = ids[:max_length]
        # Of a text that is cut, other tokenizers keep another part: its tokens tell which.
        digest = hashlib.sha256(text.encode()).hexdigest() if len(kept) == len(ids) else None
        name = f"sample {number}" if source == source_of("", number) else source
        return _sample(name, kept, tokenizer, digest, words)

    return [
        _Coming(source_of(text, number), partial(make, text, number))
        for number, text in enumerate(texts)
    ]


def _from_ids(
    ids: Any, attention_mask: Any | None, tokenizer: Any | None, max_length: int | None
) -> list[_Coming]:
    rows = _rows(ids)
    shown = [torch.ones_like(row) for row in rows]
    masks = shown if attention_mask is None else _rows(attention_mask)
    if [mask.shape for mask in masks] != [row.shape for row in rows]:
        raise InvalidInputError(
            f"attention_mask does not fit input_ids: rows of {[len(mask) for mask in masks]} and "
            f"{[len(row) for row in rows]} tokens."
        )
    words: dict[int, str] = {}

    def make(number: int) -> Sample:
        kept = rows[number][_kept(number, masks[number].bool())][:max_length]
        return _sample(f"sample {number}", kept, tokenizer, None, words)

    return [_Coming(f"sample {number}", partial(make, number)) for number in range(len(rows))]


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


def _sample(
    source: str, ids: Tensor, tokenizer: Any | None, digest: str | None, words: dict[int, str]
) -> Sample:
    """A sample; `words` remembers what each token id stands for."""
    if ids.is_floating_point() or ids.dtype == torch.bool or ids.is_complex():
        raise InvalidTypeError(f"Token ids must be integers, got {ids.dtype}.")
    ids = ids.detach().to(device="cpu", dtype=torch.int64)
    name = sentence_start(source)
    if len(ids) < SHORTEST:
        raise InvalidInputError(
            f"{name} has {len(ids)} token(s); a state needs a past and a future.",
            fix="Pass at least two tokens; some hundred show more.",
        )
    if bool((ids < 0).any()):
        raise InvalidInputError(f"{name} holds the negative token id {int(ids.min())}.")
    tokens = None
    if tokenizer is not None:
        numbers = ids.tolist()
        for token in set(numbers).difference(words):
            words[token] = tokenizer.decode([token])
        tokens = [words[token] for token in numbers]
    return Sample(ids, SampleInfo(len(ids), digest, tokens, ids.numpy()), source)
