"""Losses of tokens, put into groups: what the context holds already, and the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_ess.plain_text import printable
from hf_ess.report.tables import ABSENT, Column, fitted_tables, number, plain_text, share
from hf_ess.report.text import counted

# Tokens beside each other are not independent, stretches of this many nearly are.
STRETCH = 32
# Each group ends where the next begins, the last one never.
OCCURRENCES = (1, 2, 3, 5, 9, 17)
DISTANCES = (1, 16, 64, 256, 1024)


@dataclass(frozen=True)
class ScoredTokens:
    """All tokens that were scored, text after text.

    Attributes:
        losses: float64 `[T]`, negative log-probabilities in nats.
        texts: int64 `[T]`, number of the text.
        positions: int64 `[T]`, place in the text.
        occurrences: int64 `[T]`, how often the bigram that ends here occurred before in the
            context; 0 where it holds a special token.
        distances: int64 `[T]`, tokens back to the latest occurrence, 0 without any.
        common: bool `[T]`, the bigram is too common in the corpus to count as recall.
    """

    losses: NDArray[np.float64]
    texts: NDArray[np.int64]
    positions: NDArray[np.int64]
    occurrences: NDArray[np.int64]
    distances: NDArray[np.int64]
    common: NDArray[np.bool_]

    @property
    def recalled(self) -> NDArray[np.bool_]:
        """Which tokens `[T]` are recall tokens."""
        return (self.occurrences > 0) & ~self.common

    @property
    def stretches(self) -> NDArray[np.int64]:
        """The stretch `[T]` of neighbouring tokens to which each belongs."""
        per_text = int(self.positions.max()) // STRETCH + 1
        return np.asarray(self.texts * per_text + self.positions // STRETCH)


@dataclass(frozen=True)
class TokenGroup:
    """Some of the tokens.

    A `RecallPerplexity` has several.

    Attributes:
        name: what they have in common.
        tokens: how many there are.
        loss: mean negative log-probability in nats, NaN without tokens.
        standard_error: of the loss, over stretches of neighbouring tokens; NaN where the tokens
            lie in fewer than two of them.
    """

    name: str
    tokens: int
    loss: float
    standard_error: float

    @classmethod
    def of(cls, name: str, scored: ScoredTokens, chosen: NDArray[np.bool_]) -> TokenGroup:
        """The chosen tokens.

        Args:
            name: what they have in common.
            scored: all T tokens with their losses.
            chosen: bool `[T]`.

        The standard error is that of a ratio of totals over clusters: `sum_c (S_c - m n_c)^2
        C / (C - 1) / n^2`, the root of it, over C stretches with n_c tokens of total loss S_c.
        """
        losses = scored.losses[chosen]
        if not len(losses):
            return cls(name, 0, math.nan, math.nan)
        mean = math.fsum(losses) / len(losses)
        _, stretches = np.unique(scored.stretches[chosen], return_inverse=True)
        deviations = np.bincount(stretches, weights=losses - mean)
        clusters = len(deviations)
        if clusters < 2:
            return cls(name, len(losses), mean, math.nan)
        variance = math.fsum(deviations**2) * clusters / (clusters - 1) / len(losses) ** 2
        return cls(name, len(losses), mean, math.sqrt(variance))

    @property
    def perplexity(self) -> float:
        """`exp(loss)`; infinity beyond the range of float64."""
        return math.exp(self.loss) if not self.loss > 709 else math.inf

    @property
    def perplexity_error(self) -> float:
        """Standard error of the perplexity, to first order: its product with that of the loss."""
        return self.perplexity * self.standard_error

    def to_dict(self) -> dict[str, Any]:
        """Everything, in JSON; None for what does not exist."""
        numbers = {
            "loss": self.loss,
            "loss_standard_error": self.standard_error,
            "perplexity": self.perplexity,
            "perplexity_standard_error": self.perplexity_error,
        }
        finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        return {"tokens": self.name, "count": self.tokens, **finite}


@dataclass(frozen=True)
class RecallPerplexity:
    """Standard perplexity, and that of tokens which the context holds already.

    `hf_ess.recall_perplexity` gives it back.

    Attributes:
        scored: every token with its loss.
        settings: model, windows, and what was left out, as JSON takes it.
        notes: what the reader has to know besides.
    """

    scored: ScoredTokens
    settings: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def all(self) -> TokenGroup:
        """Every token: standard perplexity."""
        return TokenGroup.of("all", self.scored, np.ones(len(self.scored.losses), dtype=bool))

    @property
    def recall(self) -> TokenGroup:
        """The second tokens of bigrams that occurred before in the same context."""
        return TokenGroup.of("recall", self.scored, self.scored.recalled)

    @property
    def others(self) -> TokenGroup:
        """All tokens but those of `recall`."""
        return TokenGroup.of("others", self.scored, ~self.scored.recalled)

    @property
    def by_occurrences(self) -> list[TokenGroup]:
        """Recall tokens by how often the bigram occurred before: 1, 2, 3-4, 5-8, ..."""
        return list(self._divided(self.scored.occurrences, OCCURRENCES, "seen {} before"))

    @property
    def by_distance(self) -> list[TokenGroup]:
        """Recall tokens by how many tokens ago the bigram last occurred: 1-15, 16-63, ..."""
        return list(self._divided(self.scored.distances, DISTANCES, "{} ago"))

    def _divided(
        self, values: NDArray[np.int64], edges: Sequence[int], name: str
    ) -> Iterator[TokenGroup]:
        for first, after in zip(edges, [*edges[1:], None], strict=True):
            chosen = self.scored.recalled & (values >= first)
            if after is not None:
                chosen &= values < after
            group = TokenGroup.of(name.format(_between(first, after)), self.scored, chosen)
            if group.tokens:
                yield group

    def to_dict(self) -> dict[str, Any]:
        """Groups, settings and notes, as JSON takes them; losses of tokens stay in `scored`."""
        return {
            "settings": dict(self.settings),
            "all": self.all.to_dict(),
            "recall": self.recall.to_dict(),
            "others": self.others.to_dict(),
            "by_occurrences": [group.to_dict() for group in self.by_occurrences],
            "by_distance": [group.to_dict() for group in self.by_distance],
            "notes": list(self.notes),
        }

    def summary(self, width: int = 120) -> str:
        """A table and the notes as plain text, at most `width` wide."""
        return plain_text(RecallView(self), width)


class RecallView:
    """The table and notes of a result, to be printed by rich."""

    def __init__(self, result: RecallPerplexity) -> None:
        self.result = result

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        result = self.result
        groups = [result.all, result.recall, result.others]
        groups += [*result.by_occurrences, *result.by_distance]
        whole = result.all.tokens
        columns = [
            Column("count", [str(group.tokens) for group in groups]),
            Column("share", [share(group.tokens / whole) for group in groups]),
            Column("perplexity", [number(group.perplexity) for group in groups]),
            Column("standard\nerror", [_error(group.perplexity_error) for group in groups]),
            Column("loss\n(nats)", [number(group.loss) for group in groups]),
        ]
        settings = result.settings
        title = f"Perplexity of {settings['model']}: {counted(settings['texts'], 'text')}"
        first = Column("tokens", [group.name for group in groups], justify_right=False)
        yield from fitted_tables(title, first, columns, options.max_width)
        yield from (Text(printable(note)) for note in result.notes)


def _between(first: int, after: int | None) -> str:
    if after is None:
        return f"{first} or more"
    return str(first) if after == first + 1 else f"{first}-{after - 1}"


def _error(value: float) -> str:
    return ABSENT if math.isnan(value) else number(value)
