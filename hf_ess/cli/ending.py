"""SIGTERM ends a command as Ctrl-C does: what is open is closed, what is complete is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Ending:
    """Whether SIGTERM came."""

    terminated: bool = False


@contextmanager
def orderly_termination() -> Iterator[Ending]:
    """The first SIGTERM raises KeyboardInterrupt in the main thread; a second one ends at once.

    Whoever handles or ignores the signal already goes on doing so.

    Example:
        >>> with orderly_termination() as ending:
        ...     try:
        ...         signal.raise_signal(signal.SIGTERM)
        ...     except KeyboardInterrupt:
        ...         print(ending)
        Ending(terminated=True)
    """
    ending = Ending()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield ending
        return

    def end(number: int, frame: FrameType | None) -> None:
        ending.terminated = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        yield ending
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
