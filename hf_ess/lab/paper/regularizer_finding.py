"""What the rows on loss terms say: who beats whom, what falls with length, and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hf_ess.lab.paper.experiment import Finding, Verdict
from hf_ess.lab.paper.regularizer_rows import (
    ACCURACY,
    BETA,
    DECAYING,
    KIND,
    LENGTH,
    NONE,
    NORM,
    OURS,
    PAPERS_BETA,
    PER_PAIR,
    TERM,
    TOLERANCE,
    WITHOUT,
    Rows,
)
from hf_ess.lab.paper.runs import RATE
from hf_ess.lab.paper.statistics import Floats, difference_interval, with_error
from hf_ess.lab.paper.verdicts import beyond, failed_in_words, verdict_on

if TYPE_CHECKING:
    import pandas as pd

Parts = dict[str, bool | None]
# A model that is no more than so much above naming any of the values seen has learned nothing,
# and beats no other.
MARGIN = 0.1


def judged(rows: Rows) -> Finding:
    """The verdict of the claim that the term lets GLA and WLA overtake LA, and of its reasons.

    Contradicted if the term lets none of them overtake, whatever else holds.
    """
    overtaking = dict(_overtaking(rows))
    parts = overtaking | dict(_losing(rows)) | dict(_falling(rows))
    words = (
        f"Accuracy at the best of the shared learning rates: {_accuracies(rows)}. "
        f"{_memories(rows)}{failed_in_words(parts)}{rows.left_out}"
    )
    return Finding(_verdict(list(overtaking.values()), list(parts.values())), words, _tables(rows))


def _verdict(overtaking: list[bool | None], parts: list[bool | None]) -> Verdict:
    headline = verdict_on(overtaking)
    if headline in (Verdict.contradicted, Verdict.undecidable):
        return headline
    return verdict_on(parts)


def _overtaking(rows: Rows) -> Iterator[tuple[str, bool | None]]:
    plain = rows.of_term(WITHOUT, NONE)
    for kind in DECAYING:
        with_term = rows.of_term(kind, rows.best_of_paper(kind))
        yield f"with the paper's term {kind} beats LA", _beats(rows, with_term, plain)


def _losing(rows: Rows) -> Iterator[tuple[str, bool | None]]:
    plain = rows.of_term(WITHOUT, NONE)
    for kind in DECAYING:
        yield f"without a term {kind} loses to LA", _beats(rows, plain, rows.of_term(kind, NONE))


def _beats(rows: Rows, ones: Floats, others: Floats) -> bool | None:
    """Whether the first are better by two standard errors; None where neither has learned."""
    learned = any(len(each) and each.mean() > rows.chance + MARGIN for each in (ones, others))
    return beyond(difference_interval(ones, others), 0) if learned else None


def _falling(rows: Rows) -> Iterator[tuple[str, bool | None]]:
    for column, name in ((NORM, "the norm of the product of decays"), (PER_PAIR, "ESS/kv")):
        for kind in DECAYING:
            yield f"{name} falls with length in {kind}", _falls(rows, kind, column)
        yield f"{name} does not in LA", _does_not_fall(rows, WITHOUT, column)


def _falls(rows: Rows, kind: str, column: str) -> bool | None:
    """Whether the longest texts have less than the shortest; None where errors leave it open."""
    short, long = _ends(rows, kind, column)
    return beyond(difference_interval(short, long), 0)


def _does_not_fall(rows: Rows, kind: str, column: str) -> bool | None:
    """Staying the same to the last digit is no fall, and has no interval above 0 either."""
    falls = _falls(rows, kind, column)
    short, long = _ends(rows, kind, column)
    same = len(long) > 0 and np.array_equal(short, long)
    return True if same else None if falls is None else not falls


def _ends(rows: Rows, kind: str, column: str) -> tuple[Floats, Floats]:
    """Values on the shortest and on the longest texts, by seed."""
    ends = (rows.lengths[0], rows.lengths[-1]) if rows.lengths else (0, 0)
    short, long = (rows.at_length(kind, length, column) for length in ends)
    return short, long


def _accuracies(rows: Rows) -> str:
    terms = {kind: [NONE, rows.best_of_paper(kind)] for kind in DECAYING}
    figures = [f"LA {_cell(rows.of_term(WITHOUT, NONE))}"]
    for kind, (none, best) in terms.items():
        figures.append(f"{kind} without a term {_cell(rows.of_term(kind, none))}")
        figures.append(f"with the paper's ({best}) {_cell(rows.of_term(kind, best))}")
    ours = [str(term) for term in rows.compared[TERM].unique() if str(term).startswith(OURS)]
    figures += [f"GLA with ours ({term}) {_cell(rows.of_term('GLA', term))}" for term in ours]
    return ", ".join(figures)


def _memories(rows: Rows) -> str:
    """ESS/kv of untrained mixers on the shortest and the longest texts."""
    if not rows.lengths:
        return "Untrained mixers were not measured."
    ends = rows.lengths[0], rows.lengths[-1]
    figures = [
        f"{kind} from {_cell(rows.at_length(kind, ends[0], PER_PAIR))} to "
        f"{_cell(rows.at_length(kind, ends[1], PER_PAIR))}"
        for kind in (WITHOUT, *DECAYING)
    ]
    return (
        f"From {ends[0]} to {ends[1]} tokens with the same pairs, ESS/kv of untrained mixers with "
        f"beta = {PAPERS_BETA:g} goes in {', in '.join(figures)}."
    )


def _cell(values: Floats) -> str:
    return with_error(values) if len(values) else "not measured"


def _tables(rows: Rows) -> dict[str, pd.DataFrame]:
    import pandas as pd

    trained = rows.trained.groupby([KIND, TERM, RATE], sort=False)
    untrained = rows.untrained.assign(**{BETA: rows.untrained[BETA].map("{:g}".format)})
    return {
        "By loss term and learning rate, ESS of the second mixer": pd.DataFrame(
            {
                "mixers": kind,
                "loss term": term,
                "learning rate": rate,
                "accuracy": with_error(own[ACCURACY]),
                "entropy-ESS / kv": with_error(own[PER_PAIR]),
                "tolerance-ESS(0.1) / kv": with_error(own[TOLERANCE]),
                "seeds": len(own),
            }
            for (kind, term, rate), own in trained
        ),
        "Before training, by the length of texts": pd.DataFrame(
            {
                "mixer": kind,
                "beta": "" if beta == "nan" else beta,
                "tokens": f"{length:g}",
                "log10 of the norm of the product of decays": with_error(own[NORM]),
                "entropy-ESS / kv": with_error(own[PER_PAIR]),
            }
            for (kind, beta, length), own in untrained.groupby([KIND, BETA, LENGTH], sort=False)
        ),
    }
