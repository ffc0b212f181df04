"""What the page says while something happens, and when it did not."""

from __future__ import annotations

import html

from hf_ess.errors import HfEssError
from hf_ess.space.catalog import CatalogModel
from hf_ess.space.jobs import Waiting
from hf_ess.space.limits import Limits
from hf_ess.space.measuring import Step


def waiting_words(place: Waiting) -> str:
    """Where a measurement stands in the queue, in one line.

    Example:
        >>> waiting_words(Waiting(ahead=2, seconds=14.2))
        'Waiting: 2 measurements come first, about 14 s'
    """
    first = "1 measurement comes" if place.ahead == 1 else f"{place.ahead} measurements come"
    return f"Waiting: {first} first{_about(place.seconds)}"


def step_words(step: Step) -> str:
    """How far a measurement is, in one line.

    Example:
        >>> step_words(Step("measuring", done=12, total=30, remaining=8.3))
        'Layer 12 of 30, about 8 s left'
    """
    if step.stage == "loading":
        return "Loading the model"
    if not step.done:
        return "Running the model"
    left = f"{_about(step.remaining)} left" if step.remaining else ""
    return f"Layer {step.done} of {step.total}{left}"


def _about(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds >= 90:
        return f", about {seconds / 60:.0f} min"
    return f", about {max(round(seconds), 1)} s"


def problem(error: HfEssError) -> str:
    """An error as HTML that shows everything in it as text.

    Example:
        >>> from hf_ess import InvalidInputError
        >>> problem(InvalidInputError("No <b>.", fix="Write one."))
        '<p class="hfess-problem" role="alert"><strong>No &lt;b&gt;.</strong> Write one.</p>'
    """
    causes = "".join(f" Maybe {html.escape(cause)}." for cause in error.causes)
    fix = f" {html.escape(error.fix)}" if error.fix else ""
    what = html.escape(error.what)
    return f'<p class="hfess-problem" role="alert"><strong>{what}</strong>{causes}{fix}</p>'


def news_note(words: str, done: int, total: int) -> str:
    """How far a measurement is, as HTML with a bar."""
    bar = (
        f'<progress max="{total}" value="{done}"></progress>' if total else "<progress></progress>"
    )
    return f'<p class="hfess-note" role="status">{html.escape(words)} {bar}</p>'


def note(text: str) -> str:
    """A line as HTML that shows everything in it as text."""
    return f'<p class="hfess-note" role="status">{html.escape(text)}</p>'


def model_words(model: CatalogModel) -> str:
    """What is written on a model that can be chosen.

    Example:
        >>> model_words(CatalogModel("org/model", "org/model", parameters=134_515_008))
        'org/model · 135 M'
    """
    return f"{model.name} · {model.parameters / 1e6:,.0f} M" if model.parameters else model.name


def limits_words(limits: Limits, keeps_texts: bool) -> str:
    """What a visitor has to know before writing a text."""
    kept = (
        "The text is kept here with its result, for the link."
        if keeps_texts
        else "The text is not kept."
    )
    return (
        f"Up to {limits.tokens:,} tokens; every position up to {limits.every_position:,}, then "
        f"evenly spread ones. {kept}"
    )
