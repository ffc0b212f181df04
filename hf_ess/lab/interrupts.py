"""Ctrl-C and SIGTERM that wait until a step is complete."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Wish:
    """Whether somebody wants an end."""

    to_end: bool = False


@contextmanager
def ending_between_steps() -> Iterator[Wish]:
    """Turns the first Ctrl-C (or SIGTERM) into a wish; a second one ends at once.

    Python lets the main thread of a process alone listen to signals; elsewhere nobody wishes.
    What the process was started to ignore (in the background of a shell) stays ignored.

    Example:
        >>> with ending_between_steps() as wish:
        ...     signal.raise_signal(signal.SIGINT)
        >>> wish.to_end
        True
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    former = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    }

    def note(number: int, frame: FrameType | None) -> None:
        if wish.to_end:
            raise KeyboardInterrupt
        wish.to_end = True

    for number in former:
        signal.signal(number, note)
    try:
        yield wish
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
