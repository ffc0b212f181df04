"""Who asks, and how they hear of what happens meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import gradio as gr

from hf_ess.space.background import BackgroundWork
from hf_ess.space.jobs import OnWait, Waiting
from hf_ess.space.measuring import OnStep, Step
from hf_ess.space.wording import step_words, waiting_words

Result = TypeVar("Result")
# Between two news: more often than this nobody reads them.
PAUSE_SECONDS = 0.15


@dataclass(frozen=True)
class News:
    """What is heard of a measurement: words, and how many of its layers are done."""

    words: str
    done: int = 0
    total: int = 0


Tell = Callable[[News], None]


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What work came to."""

    result: Result


def user_of(request: gr.Request | None) -> str:
    """Who asks: a login, or one open page; a stranger each time where that is not known."""
    if request is not None and by_mcp(request):
        # All that comes by MCP has one session of Gradio.
        name = request.headers.get("mcp-session-id")
    else:
        name = getattr(request, "username", None) or getattr(request, "session_hash", None)
    return str(name or uuid.uuid4().hex)


def by_mcp(request: gr.Request | None) -> bool:
    """Whether Gradio's MCP server passes the request on."""
    return request is not None and request.headers.get("x-gradio-user") == "mcp"


def listeners(tell: Tell) -> tuple[OnStep, OnWait]:
    """What a measurement calls as it goes on, and while it waits."""

    def on_step(step: Step) -> None:
        tell(News(step_words(step), step.done, step.total))

    def on_wait(place: Waiting) -> None:
        tell(News(waiting_words(place)))

    return on_step, on_wait


def progress_listeners() -> tuple[OnStep, OnWait]:
    """The same for programs, which hear it as progress of Gradio's queue."""
    bar: Any = gr.Progress()

    def tell(news: News) -> None:
        bar((news.done, news.total or None), desc=news.words, unit="layers")

    return listeners(tell)


def followed(work: Callable[[Tell], Result]) -> Iterator[News | Done[Result]]:
    """Does work in a thread, and yields the latest news of it, then what it came to.

    The work sees the context of the caller, in which Gradio keeps the request.

    Raises:
        Exception: what the work raises.

    Example:
        >>> def count(tell):
        ...     tell(News("one"))
        ...     return 2
        >>> [*followed(count)][-1]
        Done(result=2)
    """
    told: BackgroundWork[News, Result] = BackgroundWork(
        work, name="hf_ess visitor", only_latest=True
    )
    yield from told.news(pause=PAUSE_SECONDS)
    yield Done(told.result())
