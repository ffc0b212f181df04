"""Passages with a separator between them, as tokens, and where the separators are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.report.text import counted
from model_adapters.tokenizing import encoded

EOS, PERIOD, NEWLINE, NONE, CLOSING = "eos", "period", "newline", "none", "closing"
SEPARATOR_NAMES = (EOS, PERIOD, NEWLINE, NONE, CLOSING)
# A token by its text, for models whose end-of-text token is another than the one that they were
# trained with: tokenizers of chat models name the end of a turn.
TOKEN = "token:"
FEWEST_PASSAGES = 2


@dataclass(frozen=True)
class SeparatedText:
    """A text as tokens.

    Attributes:
        name: of the text.
        separator: what is between its passages.
        ids: token ids, L of them.
        spans: first token of each separator and the one after its last; both the same where
            passages meet without any.
    """

    name: str
    separator: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def shortest_passage(self) -> int:
        """Tokens of the shortest passage."""
        starts = [0, *(stop for _, stop in self.spans)]
        stops = [*(start for start, _ in self.spans), len(self.ids)]
        return min(stop - start for start, stop in zip(starts, stops, strict=True))


def check_separators(separators: Sequence[str]) -> tuple[str, ...]:
    """The names of separators, if they are some and each is known.

    Raises:
        InvalidTypeError: it is one word rather than a sequence.
        InvalidInputError: none, one twice, or an unknown one.

    Example:
        >>> check_separators(["eos", "token:<|endoftext|>"])
        ('eos', 'token:<|endoftext|>')
    """
    if isinstance(separators, str):
        raise InvalidTypeError(
            f"separators must be a sequence, got {separators!r}.", fix=f"Pass ({separators!r},)."
        )
    unknown = [name for name in separators if not _is_known(name)]
    if unknown:
        raise InvalidInputError(
            f"Unknown separator {unknown[0]!r}.",
            fix=f"Choose among {', '.join(SEPARATOR_NAMES)}, or {TOKEN}<text of a token>.",
        )
    if not separators or len(set(separators)) < len(separators):
        raise InvalidInputError(f"Name at least one separator, and each once, got {separators!r}.")
    return tuple(separators)


def separated(name: str, passages: Sequence[str], separator: str, tokenizer: Any) -> SeparatedText:
    """The passages as tokens, with a separator between each two.

    A full stop at the end of a passage is taken away, except for "closing", where the last
    character of each passage is the separator (the `}` of a function). For "none" there is a
    space between passages. After a full stop or a closing character there is one, too, or a line
    break if a passage has lines.

    Args:
        name: of the text.
        passages: at least two.
        separator: one of `SEPARATOR_NAMES`, or `token:` and the text of a token.
        tokenizer: a fast one, which knows where its tokens are in the text.

    Raises:
        InvalidInputError: fewer than two passages, an empty one, no such token, or a token of
            that text in a passage.
        InvalidTypeError: the tokenizer is not a fast one.
    """
    pieces = _pieces(name, passages, separator)
    joint = "\n" if any("\n" in piece for piece in pieces) else " "
    shown, after = _written(separator, joint, tokenizer)
    text, marks = pieces[0], []
    for piece in pieces[1:]:
        begin = len(text) - 1 if separator == CLOSING else len(text)
        marks.append((begin, len(text) + len(shown)))
        text += shown + after + piece
    if not getattr(tokenizer, "is_fast", False):
        raise InvalidTypeError(
            "Separators are found by a fast tokenizer, which knows where its tokens are.",
            causes=["there is no tokenizer", "the tokenizer is written in Python"],
            fix="Pass tokenizer=AutoTokenizer.from_pretrained(..., use_fast=True).",
        )
    split = encoded(tokenizer, text, return_offsets_mapping=True)
    ids, offsets = list(split["input_ids"]), list(split["offset_mapping"])
    spans = tuple(_span(offsets, begin, end) for begin, end in marks)
    if _is_token(separator):
        _check_token_spans(spans, ids, shown, tokenizer)
    return SeparatedText(name, separator, tuple(ids), spans)


def _is_known(name: object) -> bool:
    return name in SEPARATOR_NAMES or (
        isinstance(name, str) and name.startswith(TOKEN) and name != TOKEN
    )


def _is_token(separator: str) -> bool:
    return separator == EOS or separator.startswith(TOKEN)


def _pieces(name: str, passages: Sequence[str], separator: str) -> list[str]:
    pieces = [passage.strip() for passage in passages]
    if separator != CLOSING:
        pieces = [piece.removesuffix(".").rstrip() for piece in pieces]
    if len(pieces) < FEWEST_PASSAGES or not all(pieces):
        raise InvalidInputError(
            f"Text {name!r} has {counted(sum(map(bool, pieces)), 'passage')} with words in it.",
            fix="Give at least two passages, of which none is empty.",
        )
    return pieces


def _written(separator: str, joint: str, tokenizer: Any) -> tuple[str, str]:
    """What is counted as the separator, and what comes between it and the next passage."""
    if separator == NONE:
        return "", " "
    if separator == CLOSING:
        return "", joint
    if separator == PERIOD:
        return ".", joint
    if separator == NEWLINE:
        return "\n", ""
    return _eos_token(tokenizer) if separator == EOS else separator.removeprefix(TOKEN), ""


def _eos_token(tokenizer: Any) -> str:
    token = getattr(tokenizer, "eos_token", None)
    if not token:
        raise InvalidInputError(
            "The tokenizer has no end-of-text token.",
            fix=f"Leave eos out of the separators, or name a token: {TOKEN}</s>.",
        )
    return str(token)


def _span(offsets: Sequence[tuple[int, int]], begin: int, end: int) -> tuple[int, int]:
    """Tokens that lie in these characters, or where the next token begins."""
    inside = [i for i, (left, right) in enumerate(offsets) if left < end and right > begin]
    if inside:
        return inside[0], inside[-1] + 1
    following = next(i for i, (_, right) in enumerate(offsets) if right > begin)
    return following, following


def _check_token_spans(
    spans: Sequence[tuple[int, int]], ids: Sequence[int], token: str, tokenizer: Any
) -> None:
    number = tokenizer.convert_tokens_to_ids(token)
    found = [start for start, stop in spans if stop - start == 1 and ids[start] == number]
    is_known = tokenizer.convert_ids_to_tokens(number) == token
    if len(found) < len(spans) or not is_known:
        raise InvalidInputError(
            f"The tokenizer does not take {token!r} for one token.",
            causes=["it has no such token", "it splits special tokens"],
            fix="Name a token of this tokenizer, or another separator.",
        )
    # Some tokenizers begin or end every text with the token that separates texts.
    if list(ids[1:-1]).count(number) > len(spans):
        raise InvalidInputError(
            f"{token!r} occurs in a passage, too.", fix="Take it out of the passages."
        )
