"""Threads that analyse one model take turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

_guard = threading.Lock()
_turns: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()


@contextmanager
def turn_with(model: nn.Module) -> Iterator[None]:
    """Waits until no other thread has its turn with the model; the same thread never waits.

    An analysis sets the mode of a model (evaluation) and its switches: the end of one would
    change what another one measures.

    Example:
        >>> from hf_ess.analysis.turns import turn_with
        >>> model = nn.Identity()
        >>> with turn_with(model), turn_with(model):
        ...     pass
    """
    with _guard:
        turn = _turns.setdefault(getattr(model, "_orig_mod", model), threading.RLock())
    with turn:
        yield
