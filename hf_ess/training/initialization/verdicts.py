"""Does capacity turn into use? A verdict from the slope of ESS over capacity, and its words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hf_ess.arguments import check_number
from hf_ess.report.names import ENTROPY, Metric, metric_label
from hf_ess.training.initialization.probed import ProbedMixer

USED, UNUSED, UNDECIDED, FIXED = "used", "unused", "undecided", "fixed"
LEAST_ELASTICITY = 0.25
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Criterion:
    """When a mixer counts as one that uses a larger state.

    Attributes:
        metric: "entropy" or a tolerance.
        least: elasticity from which on capacity turns into use.
        standard_errors: how many of them the elasticity must be away from `least`.

    Raises:
        InvalidInputError: a number that is negative or not finite.
    """

    metric: Metric = ENTROPY
    least: float = LEAST_ELASTICITY
    standard_errors: float = STANDARD_ERRORS

    def __post_init__(self) -> None:
        for name, value in (("least", self.least), ("standard_errors", self.standard_errors)):
            check_number(name, value, least=0)

    def kind(self, slope: float, error: float) -> str:
        """The verdict on an elasticity; undecided where it or its error is NaN."""
        if slope - self.standard_errors * error >= self.least:
            return USED
        return UNUSED if slope + self.standard_errors * error < self.least else UNDECIDED


@dataclass(frozen=True)
class Verdict:
    """Whether the capacity of one mixer turns into use.

    Attributes:
        index: number of the mixer's layer, as in `ProbedMixer`.
        name: of the mixer's module.
        mixer: its family.
        alpha: what its decay rates were divided by.
        kind: "used", "unused", "undecided", or "fixed" where the capacity is the same for all
            state sizes.
        elasticity: `d log ESS / d log attainable`: 0 where ESS stays, 1 where it keeps in step.
        standard_error: of the elasticity over seeds, NaN for a single one.
        remedy: smallest tried alpha with which the same mixer uses its capacity, None if none.
        words: all of that in words; also `str(verdict)`.
    """

    index: int
    name: str
    mixer: str
    alpha: float
    kind: str
    elasticity: float
    standard_error: float
    remedy: float | None
    words: str

    def __str__(self) -> str:
        return self.words


def judged(
    mixers: Sequence[ProbedMixer], rescaled: Sequence[ProbedMixer], criterion: Criterion
) -> tuple[Verdict, ...]:
    """A verdict on each mixer as it was built, in order."""
    return tuple(_judged(mixer, _same_as(mixer, rescaled), criterion) for mixer in mixers)


def _same_as(mixer: ProbedMixer, rescaled: Sequence[ProbedMixer]) -> list[ProbedMixer]:
    same = [other for other in rescaled if (other.name, other.call) == (mixer.name, mixer.call)]
    return sorted(same, key=lambda other: other.alpha)


def _judged(mixer: ProbedMixer, tried: list[ProbedMixer], criterion: Criterion) -> Verdict:
    slope, error = mixer.elasticity(criterion.metric)
    kind = criterion.kind(slope, error) if mixer.follows_state_size else FIXED
    helping = [
        other for other in tried if criterion.kind(*other.elasticity(criterion.metric)) == USED
    ]
    words = _words(mixer, kind, slope, error, criterion)
    if kind == UNUSED:
        words += _words_on_remedy(mixer, tried, helping, criterion)
    return Verdict(
        index=mixer.index,
        name=mixer.name,
        mixer=mixer.mixer,
        alpha=mixer.alpha,
        kind=kind,
        elasticity=slope,
        standard_error=error,
        remedy=helping[0].alpha if helping else None,
        words=f"{mixer.label}: {words}.",
    )


def _words(mixer: ProbedMixer, kind: str, slope: float, error: float, criterion: Criterion) -> str:
    if kind == FIXED:
        return "its capacity is the same for every state size"
    name = metric_label(criterion.metric, relative=False, window=None)
    if math.isnan(slope) and not mixer.room_varies:
        return "undecided, the input is too short to fill any of its state sizes"
    if math.isnan(slope):
        return f"undecided, {name} is 0 or unknown for some state size"
    if math.isnan(error):
        return f"undecided, one seed has no standard error ({_figures(slope, error)})"
    if kind == UNDECIDED:
        near = f"within {criterion.standard_errors:g} standard errors of {criterion.least:g}"
        return f"undecided, {_figures(slope, error)} is {near}; more seeds would tell"
    growth = f"twice the attainable size changes {name} by {round(100 * (2**slope - 1)):+d} %"
    relation = f"at least {criterion.least:g}" if kind == USED else f"below {criterion.least:g}"
    turns = "turns" if kind == USED else "does not turn"
    return f"capacity {turns} into use, {growth} ({_figures(slope, error)}, {relation})"


def _words_on_remedy(
    mixer: ProbedMixer,
    tried: list[ProbedMixer],
    helping: list[ProbedMixer],
    criterion: Criterion,
) -> str:
    if helping:
        figures = _figures(*helping[0].elasticity(criterion.metric))
        return f"; with decay rates divided by {helping[0].alpha:g} it does ({figures})"
    if tried:
        alphas = ", ".join(f"{other.alpha:g}" for other in tried)
        return f"; nor with decay rates divided by {alphas}"
    return "; its decay rates can be divided, try `alphas`" if mixer.has_rates else ""


def _figures(slope: float, error: float) -> str:
    # Without the sign of a rounded zero.
    return f"elasticity {round(slope, 2) + 0:.2f}" + (
        "" if math.isnan(error) else f" +- {error:.2f}"
    )
