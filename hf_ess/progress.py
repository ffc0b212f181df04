"""Progress: a bar on stderr, off with the usual Hugging Face switches, and calls of the user."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub.utils import tqdm

# Between two states of a bar where nobody watches it move.
SECONDS_IN_LOGS = 30.0
# tqdm's own setting.
INTERVAL = "TQDM_MININTERVAL"


@dataclass(frozen=True)
class Progress:
    """How far an analysis is, after one more layer.

    Attributes:
        done: layers measured so far; one counts anew for every text.
        total: layers to measure; `done` stays below it where one turns out to be unsupported.
        layer: dotted name of the layer that was just measured.
        text: number of the text, the first of those that run together.
        seconds: since the first layer began.

    Example:
        >>> Progress(done=3, total=12, layer="model.layers.2.self_attn", text=0, seconds=6.0)
        Progress(done=3, total=12, layer='model.layers.2.self_attn', text=0, seconds=6.0)
    """

    done: int
    total: int
    layer: str
    text: int
    seconds: float


OnProgress = Callable[[Progress], None]
LayerDone = Callable[[str, int], None]


class StoppedByCaller(BaseException):
    """Carries an exception of the user past everything that handles exceptions of a model."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def layers_done(total: int, on_progress: OnProgress | None, *, bar: bool) -> Iterator[LayerDone]:
    """Yields what to call with the name and the text of each layer that is done.

    Raises:
        StoppedByCaller: `on_progress` raised an exception; inside of the context.
    """
    began = time.perf_counter()
    done = 0
    with progress_bar(total, "Analysing", enabled=bar, unit="layer") as shown:

        def tell(layer: str, text: int) -> None:
            nonlocal done
            done += 1
            shown.update(1)
            if on_progress is None:
                return
            try:
                on_progress(Progress(done, total, layer, text, time.perf_counter() - began))
            except Exception as error:
                raise StoppedByCaller(error) from error

        yield tell


@contextmanager
def texts_done(total: int, *, bar: bool) -> Iterator[Callable[[int], None]]:
    """Yields what to call with the number of texts that are done, for a bar over many texts.

    Example:
        >>> with texts_done(300, bar=False) as done:
        ...     done(2)
    """
    with progress_bar(total, "Analysing", enabled=bar, unit="text") as shown:
        yield lambda texts: None if not texts else shown.update(texts)


def progress_bar(total: int, description: str, *, enabled: bool, unit: str) -> Any:
    """A bar that `HF_HUB_DISABLE_PROGRESS_BARS`, `disable_progress_bars()` or `enabled` turn off.

    Where stderr is neither a terminal nor a notebook, it is written once in half a minute, so that
    the log of hours stays short; `TQDM_MININTERVAL` gives other seconds. No thread is started.

    Example:
        >>> from hf_ess.progress import progress_bar
        >>> with progress_bar(2, "layers", enabled=False, unit="layer") as bar:
        ...     _ = bar.update(1)
    """
    rarely = {"mininterval": SECONDS_IN_LOGS}
    return _Bar(
        total=total,
        desc=description,
        unit=unit,
        disable=not enabled,
        name="hf_ess",
        leave=False,
        miniters=1,
        **({} if _is_watched() or INTERVAL in os.environ else rarely),
    )


class _Bar(tqdm):  # type: ignore[misc]
    # The thread that tqdm starts with its first bar, even with one that is off, outlives all bars.
    # It only corrects how many updates are skipped; here each one looks at the clock.
    monitor_interval = 0


def _is_watched() -> bool:
    is_widget = any("notebook" in base.__module__ for base in tqdm.__mro__)
    return is_widget or (sys.stderr is not None and sys.stderr.isatty())
