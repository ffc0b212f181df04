"""Who asks, and how they hear of what happens meanwhile."""

from __future__ import annotations

import uuid
from typing import Any

import gradio as gr

from hf_ess.space.jobs import OnWait, Waiting
from hf_ess.space.measuring import OnStep, Step
from hf_ess.space.wording import step_words, waiting_words


def user_of(request: gr.Request | None) -> str:
    """Who asks: a login, or one open page; a stranger each time where that is not known."""
    name = getattr(request, "username", None) or getattr(request, "session_hash", None)
    return str(name or uuid.uuid4().hex)


def watched(bar: Any) -> tuple[OnStep, OnWait]:
    """What tells a progress of Gradio how a measurement goes on, and how it waits."""

    def on_step(step: Step) -> None:
        bar((step.done, step.total or None), desc=step_words(step), unit="layers")

    def on_wait(place: Waiting) -> None:
        bar(None, desc=waiting_words(place))

    return on_step, on_wait
