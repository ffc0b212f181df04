"""The conditions under which a report was measured, as far as its numbers depend on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hf_ess.report.report import ESSReport
from hf_ess.report.text import counted

SHORT_HASH = 8


@dataclass(frozen=True)
class Conditions:
    """What has to agree between two reports before their numbers mean the same.

    Attributes:
        settings: for each setting its name and its value in words.
        texts: SHA-256 of every text, sorted; None where one has none.
        tokens: SHA-256 of the token ids of every text, sorted; None where they are not known.
        words: the same of the decoded tokens.
        lengths: tokens of every text, sorted.
        positions: the measured positions.
        complete: whether the analysis came to its end.
        measured: whether any layer is verified.
    """

    settings: tuple[tuple[str, str], ...]
    texts: tuple[str, ...] | None
    tokens: tuple[str, ...] | None
    words: tuple[str, ...] | None
    lengths: tuple[int, ...]
    positions: tuple[int, ...]
    complete: bool
    measured: bool

    @classmethod
    def of(cls, report: ESSReport) -> Conditions:
        """Those of a report."""
        samples = report.samples
        hashes = [sample.text_sha256 for sample in samples]
        words = [sample.tokens for sample in samples]
        return cls(
            settings=_settings(report),
            texts=_all_or_none(hashes),
            tokens=_all_or_none([sample.token_ids_sha256 for sample in samples]),
            words=_all_or_none([None if x is None else _digest(map(repr, x)) for x in words]),
            lengths=tuple(sorted(sample.length for sample in samples)),
            positions=tuple(report.positions.tolist()),
            complete=report.complete,
            measured=any(x.verified and not np.isnan(x.entropy_ess).all() for x in report.layers),
        )

    @property
    def stride(self) -> int | None:
        """The distance of the positions if they are evenly spread over the longest text."""
        first = self.positions[0] if self.positions else 0
        longest = max(self.lengths, default=0)
        # A text may claim any length: the range is compared, not written out.
        evenly = range(first, longest, first) if first > 0 else range(0)
        spread = len(evenly) == len(self.positions) > 0 and self.positions == tuple(evenly)
        return first if spread else None

    @property
    def text_is_known(self) -> bool:
        """Whether there is anything by which the texts can be told from others."""
        return self.texts is not None or self.tokens is not None

    def same_text(self, other: Conditions) -> bool:
        """Whether the texts are known to be the same: by their hashes, else by their tokens."""
        if self.texts is not None and other.texts is not None:
            return self.texts == other.texts
        return self.tokens is not None and other.tokens is not None and self.same_tokens(other)

    def same_tokens(self, other: Conditions) -> bool:
        """Whether equal texts are cut into equal tokens; into equally many, if no more is known."""
        if self.words is not None and other.words is not None and self.words != other.words:
            return False
        if self.tokens is not None and other.tokens is not None:
            return self.tokens == other.tokens
        return self.lengths == other.lengths

    def same_positions(self, other: Conditions) -> bool:
        """Whether the positions are the same, or with other tokens spread in the same way."""
        if self.same_tokens(other):
            return self.positions == other.positions
        own, others = max(self.lengths, default=1), max(other.lengths, default=1)

        def near(one: int, another: int) -> bool:
            # Shares of the texts, no further apart than one token of the shorter one is wide.
            return abs(one * others - another * own) <= max(own, others)

        if self.stride is not None and other.stride is not None:
            all_or_none = (self.stride == 1) == (other.stride == 1)
            if all_or_none and near(self.stride, other.stride):
                return True
        return len(self.positions) == len(other.positions) and all(
            map(near, self.positions, other.positions)
        )

    def text_label(self) -> str:
        """A short name that is equal for equal texts.

        Example:
            `"3a7bd3e2"`, the first digits of the SHA-256 of a text, or of those of all texts;
            `"tokens 9f64a747"` where only token ids are known; `"unknown"`.
        """
        known, kind = (self.tokens, "tokens ") if self.texts is None else (self.texts, "")
        if known is None:
            return "unknown"
        whole = known[0] if len(known) == 1 else _digest(known)
        return kind + whole[:SHORT_HASH]

    def texts_in_words(self) -> str:
        """The texts, and how many tokens they have."""
        return f"{counted(len(self.lengths), 'text')}, {self.text_label()}"

    def tokens_in_words(self) -> str:
        """How long the texts are."""
        if not self.lengths:
            return "0 tokens"
        shortest, longest = self.lengths[0], self.lengths[-1]
        span = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
        return f"{span} tokens"

    def positions_in_words(self) -> str:
        """Which positions were measured."""
        count = len(self.positions)
        if not count:
            return "no position"
        if self.stride == 1:
            return f"every position ({count})"
        if self.stride is not None:
            return f"one in {self.stride} ({count})"
        if count == 1:
            return f"position {self.positions[0]}"
        return f"{count} listed ({min(self.positions)} to {max(self.positions)})"


def _settings(report: ESSReport) -> tuple[tuple[str, str], ...]:
    chosen = report.provenance.get("settings")
    layers = chosen.get("layers") if isinstance(chosen, dict) else None
    return (
        ("scope", report.scope),
        ("tolerances", ", ".join(f"{tau:.6g}" for tau in sorted(report.tolerances, reverse=True))),
        ("kind of tolerances", "relative" if report.relative else "absolute"),
        ("window", "{}x{}".format(*report.window) if report.window else "none"),
        ("chosen layers", "all" if layers is None else ", ".join(map(str, layers))),
    )


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _all_or_none(values: Sequence[str | None]) -> tuple[str, ...] | None:
    known = [value for value in values if value is not None]
    return tuple(sorted(known)) if known and len(known) == len(values) else None
