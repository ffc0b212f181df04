"""Watching functions that mixers call: replaced while recordings run, put back afterwards.

Several recordings may watch the same function at once, each from its own thread: the function is
replaced once, when the first comes, and put back when the last has gone.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from model_adapters.recorder import Recorder

# Gets the original function, the recorder of the calling thread, and the arguments.
Observer = Callable[..., Any]


@dataclass
class _Patch:
    """One replaced name: what was there, and who watches."""

    original: Any
    watchers: list[tuple[Recorder, Observer]] = field(default_factory=list)

    def watcher_here(self) -> tuple[Recorder, Observer] | None:
        """The latest watcher whose model runs in this thread, unless in a mixer that is watched."""
        for recorder, observer in reversed(self.watchers):
            if recorder.here and recorder.running is not None:
                return None if recorder.in_mixer else (recorder, observer)
        return None


@contextmanager
def switched_off(owner: Any, name: str) -> Iterator[None]:
    """A true attribute is false until the last of several contexts has gone; others stay."""
    key = id(owner), name
    with _lock:
        ours = key in _off or getattr(owner, name, None) is True
        if ours:
            _off[key] += 1
            setattr(owner, name, False)
    try:
        yield
    finally:
        if ours:
            with _lock:
                _off[key] -= 1
                if not _off[key]:
                    del _off[key]
                    setattr(owner, name, True)


_lock = threading.Lock()
_off: Counter[tuple[int, str]] = Counter()
_patches: dict[tuple[int, str], _Patch] = {}


@contextmanager
def observed_calls(owner: Any, name: str, recorder: Recorder, observer: Observer) -> Iterator[None]:
    """Sends calls of `owner.name` (or `owner[name]` of a namespace) through an observer.

    The observer is called as `observer(original, recorder, *args, **kwargs)` in the thread that
    is recorded, and returns what the caller gets.
    """
    key = id(owner), name
    watcher = recorder, observer
    with _lock:
        patch = _patches.get(key)
        if patch is None:
            patch = _patches[key] = _Patch(_read(owner, name))
            _write(owner, name, _replacement(patch))
        patch.watchers.append(watcher)
    try:
        yield
    finally:
        with _lock:
            patch.watchers.remove(watcher)
            if not patch.watchers:
                _write(owner, name, patch.original)
                del _patches[key]


def _replacement(patch: _Patch) -> Callable[..., Any]:
    original = patch.original

    # A kernel that stands for the function is an object; functions keep their name and signature.
    @wraps(original, assigned=("__module__", "__name__", "__qualname__", "__doc__"), updated=())
    def replacement(*args: Any, **kwargs: Any) -> Any:
        watcher = patch.watcher_here()
        if watcher is None:
            return original(*args, **kwargs)
        recorder, observer = watcher
        return observer(original, recorder, *args, **kwargs)

    return replacement


def _read(owner: Any, name: str) -> Any:
    return owner[name] if isinstance(owner, dict) else getattr(owner, name)


def _write(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)
