"""Work in a thread of its own, whose news are heard while it goes on."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

News = TypeVar("News")
Result = TypeVar("Result")


class BackgroundWork(Generic[News, Result]):
    """Work in a thread of its own, whose news are heard while it goes on.

    It begins at once, and sees the context of the caller, in which Gradio keeps the request.

    Args:
        work: what is called in the thread, with what takes its news.
        name: of the thread.
        only_latest: news that were not heard before the next ones came are dropped.

    Example:
        >>> def count(tell):
        ...     tell("one")
        ...     return 2
        >>> work = BackgroundWork(count, name="counting")
        >>> [*work.news()], work.result()
        (['one'], 2)
    """

    def __init__(
        self,
        work: Callable[[Callable[[News], None]], Result],
        name: str,
        *,
        only_latest: bool = False,
    ) -> None:
        self._only_latest = only_latest
        self._changed = threading.Condition()
        self._unheard: list[News] = []
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._over = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run, work), name=name, daemon=True
        )
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the work has come to its end, a good or a bad one."""
        return self._over

    def news(self, pause: float = 0.0) -> Iterator[News]:
        """What is told, until the work is over; seconds of a pause after each, if it goes on."""
        over = False
        while not over:
            with self._changed:
                self._changed.wait_for(lambda: self._unheard or self._over)
                heard, self._unheard[:] = list(self._unheard), []
                over = self._over
            yield from heard
            with self._changed:
                self._changed.wait_for(lambda: self._over, pause)

    def wait(self) -> None:
        """Waits for the end of the thread."""
        self._thread.join()

    def result(self) -> Result:
        """What the work came to, as soon as it is over.

        Raises:
            BaseException: what the work raised.
        """
        self.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self, work: Callable[[Callable[[News], None]], Result]) -> None:
        try:
            self._results.append(work(self._tell))
        except BaseException as error:
            self._error = error
        with self._changed:
            self._over = True
            self._changed.notify()

    def _tell(self, news: News) -> None:
        with self._changed:
            if self._only_latest:
                self._unheard.clear()
            self._unheard.append(news)
            self._changed.notify()
