"""What rows of dips and perplexities say of the paper's claims on modulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_ess.lab.paper.experiment import Finding
from hf_ess.lab.paper.modulation_pieces import (
    DEPTHS,
    DIPS,
    FAILURE,
    KIND,
    LEFT_OUT,
    METRICS,
    PERPLEXITY,
    REASON,
)
from hf_ess.lab.paper.statistics import bootstrap_interval, rank_correlation, with_interval
from hf_ess.lab.paper.verdicts import beyond, verdict_on
from hf_ess.modulation.dips import FEWEST_RESAMPLED
from hf_ess.modulation.prompts import EOS, NONE, PERIOD, TOKEN
from hf_ess.report.text import counted

if TYPE_CHECKING:
    import pandas as pd

# The largest tolerance counts what is held with weight; the others are shown.
DECIDING = METRICS[0]
SIGNIFICANT = 0.05
FEWEST_MODELS = 4


@dataclass(frozen=True)
class Comparison:
    """An end-of-text token against a full stop, in one text of one model.

    Attributes:
        model: its name.
        text: its name.
        end: the row of dips of the end-of-text token.
        period: that of the full stop.
        alone: depth where nothing is between the passages; NaN if it was not measured.
        falls: whether the state falls at the token more than elsewhere; None if that is not known.
        difference: of depths, end of text less full stop, mean over separators, with interval.
    """

    model: str
    text: str
    end: pd.Series[Any]
    period: pd.Series[Any]
    alone: float
    falls: bool | None
    difference: tuple[float, tuple[float, float]]

    @property
    def is_deeper(self) -> bool | None:
        """Whether the dip is larger at the end of a text; None if the interval holds 0."""
        return beyond(self.difference[1], 0.0)

    @property
    def words(self) -> str:
        """What was found, in a clause."""
        end = self.end
        return (
            f"{self.model}, {self.text} text: {end['separator']} {end['depth']:.2f} (beyond "
            f"elsewhere {with_interval(end['excess'], (end['low'], end['high']))}, "
            f"p {end['p_value']:.2g}), full stop {self.period['depth']:.2f}, difference "
            f"{with_interval(*self.difference)}, change of subject alone {self.alone:.2f}"
        )


def find(rows: pd.DataFrame) -> Finding:
    """The verdict: dips at end-of-text tokens are beyond those elsewhere, and above full stops'.

    Each text of each model has a part in it, at the largest tolerance.
    """
    compared = list(_comparisons(rows))
    parts = [part for one in compared for part in (one.falls, one.is_deeper)]
    sentences = [
        f"Depths of dips at {DECIDING}: {'; '.join(one.words for one in compared)}.",
        _on_tolerances(rows, compared),
        _on_recall(rows, compared),
        "The order SA > GLA > WLA > LA is one of models of a billion parameters trained alike, "
        "which are not published: not decidable here.",
        *(f"Not measured: {name}." for name in _failures(rows)),
        *_unverified(rows),
    ]
    tables = {
        f"Dips at {DECIDING}": _shown_dips(rows[rows["metric"] == DECIDING]),
        "Dips at end-of-text tokens by tolerance": _shown_by_tolerance(rows),
        "Perplexity": _shown_perplexity(rows),
    }
    return Finding(verdict_on(parts), " ".join(filter(None, sentences)), tables)


def model_names(rows: pd.DataFrame) -> list[str]:
    """The models of which there are dips."""
    return list(dict.fromkeys(rows.loc[rows[KIND] == DIPS, "model"]))


def ends_of_texts(rows: pd.DataFrame) -> dict[str, str]:
    """For each model the separator that ends a text: a token by its name, where there is one."""
    found = {}
    for model in model_names(rows):
        separators = rows.loc[(rows["model"] == model) & (rows[KIND] == DIPS), "separator"]
        named = [name for name in separators if name.startswith(TOKEN)]
        found[model] = named[0] if named else EOS
    return found


def _comparisons(rows: pd.DataFrame) -> Iterator[Comparison]:
    """Of texts that have both separators."""
    deciding = rows[(rows[KIND] == DIPS) & (rows["metric"] == DECIDING)]
    for model, end in ends_of_texts(rows).items():
        own = deciding[deciding["model"] == model]
        for text in own["text"].unique():
            by_separator = {row["separator"]: row for _, row in own[own["text"] == text].iterrows()}
            if end in by_separator and PERIOD in by_separator:
                alone = by_separator[NONE]["depth"] if NONE in by_separator else float("nan")
                pair = by_separator[end], by_separator[PERIOD]
                yield Comparison(model, text, *pair, alone, _falls(pair[0]), _difference(*pair))


def _falls(dips: pd.Series[Any]) -> bool | None:
    """Beyond what is found elsewhere; None where the interval holds 0, or chance explains it."""
    above = beyond((dips["low"], dips["high"]), 0)
    by_chance = not dips["p_value"] < SIGNIFICANT  # or NaN
    return None if above and by_chance else above


def _difference(end: pd.Series[Any], period: pd.Series[Any]) -> tuple[float, tuple[float, float]]:
    """Of the depths between the same passages; passages are resampled."""
    differences = _depths(end) - _depths(period)
    known = differences[np.isfinite(differences)]
    if len(known) < FEWEST_RESAMPLED:
        return float("nan"), (float("nan"), float("nan"))
    return float(known.mean()), bootstrap_interval(np.mean, known)


def _depths(dips: pd.Series[Any]) -> NDArray[np.float64]:
    return np.array(str(dips[DEPTHS]).split(), dtype=np.float64)


def _on_tolerances(rows: pd.DataFrame, compared: Sequence[Comparison]) -> str:
    ends = _at_ends(rows)
    counts = [
        f"{sum(_falls(row) is True for _, row in ends[ends['metric'] == metric].iterrows())} "
        f"({metric})"
        for metric in METRICS
    ]
    return (
        f"Out of {counted(len(compared), 'text')} the fall at the end-of-text token is beyond "
        f"those elsewhere in {', '.join(counts)}."
    )


def _on_recall(rows: pd.DataFrame, compared: Sequence[Comparison]) -> str:
    """Whether models with deeper dips recall better; deeper is lower perplexity."""
    recalled = rows[(rows[KIND] == PERPLEXITY) & (rows["tokens"] == "recall")]
    perplexities = dict(zip(recalled["model"], recalled["perplexity"], strict=True))
    depths: dict[str, list[float]] = {}
    for one in compared:
        depths.setdefault(one.model, []).append(one.end["depth"])
    models = [
        name
        for name in depths
        if np.isfinite([*depths[name], perplexities.get(name, np.nan)]).all()
    ]
    if len(models) < FEWEST_MODELS:
        return (
            f"Whether modulation follows recall perplexity takes {FEWEST_MODELS} models at least: "
            "not decidable here."
        )
    columns = [np.mean(depths[name]) for name in models], [perplexities[name] for name in models]
    interval = bootstrap_interval(rank_correlation, *columns)
    return (
        "Rank correlation of depth and recall perplexity over models, which were not trained "
        f"alike: {with_interval(rank_correlation(*columns), interval)}."
    )


def _failures(rows: pd.DataFrame) -> Iterator[str]:
    failed = rows[rows[KIND] == FAILURE]
    for model, own in failed.groupby("model", sort=False):
        yield f"{model} ({', '.join(own['text'])}: {own[REASON].iloc[0].rstrip('.')})"


def _unverified(rows: pd.DataFrame) -> Iterator[str]:
    """Of models whose sums lack layers."""
    lacking = rows[(rows[KIND] == DIPS) & (rows[LEFT_OUT] > 0)]
    for model, most in lacking.groupby("model", sort=False)[LEFT_OUT].max().items():
        yield f"Sums of {model} are without {counted(int(most), 'unverified layer')}."


def _at_ends(rows: pd.DataFrame) -> pd.DataFrame:
    ends = ends_of_texts(rows)
    return rows[(rows[KIND] == DIPS) & (rows["separator"] == rows["model"].map(ends))]


def _shown_dips(dips: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "model": row["model"],
            "text": row["text"],
            "separator": row["separator"],
            "depth": f"{row['depth']:.2f}",
            "elsewhere": f"{row['expected']:.2f}",
            "excess [95 %]": with_interval(row["excess"], (row["low"], row["high"])),
            "p": f"{row['p_value']:.2g}",
        }
        for _, row in dips.iterrows()
    )


def _shown_by_tolerance(rows: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "model": model,
            "text": text,
            "separator": own["separator"].iloc[0],
            **{
                row["metric"]: (
                    f"{row['depth']:.2f}{'' if pd.isna(row['flags']) else row['flags']} "
                    f"(p {row['p_value']:.2g})"
                )
                for _, row in own.iterrows()
            },
        }
        for (model, text), own in _at_ends(rows).groupby(["model", "text"], sort=False)
    )


def _shown_perplexity(rows: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    perplexities = rows[rows[KIND] == PERPLEXITY]
    return pd.DataFrame(
        {
            "model": model,
            **{
                f"{row['tokens']} tokens": (
                    f"{row['perplexity']:.1f} ± {row['standard_error']:.1f} ({row['count']:.0f})"
                )
                for _, row in own.iterrows()
            },
        }
        for model, own in perplexities.groupby("model", sort=False)
    )
