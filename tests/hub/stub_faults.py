"""What goes wrong at a stub Hub, and when."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

UNREAD, LANDED, ANSWERING = "unread", "landed", "answering"
STATUS_MESSAGES = {
    409: "Conflict: another commit is in progress. Please retry.",
    412: "A commit has happened since. Please refresh and try again.",
    429: "We had to rate limit your IP. To continue using our service, create a HF account.",
    500: "Internal Error - We're working hard to fix this as soon as possible!",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass
class Fault:
    """One thing that goes wrong for the first `times` requests that fit.

    Attributes:
        status: answered instead of doing what was asked.
        drop: when the connection ends: with the request UNREAD, when what was asked has LANDED,
            or while ANSWERING, with half of the answer.
        stall: seconds that the answer takes; `late` ones begin when what was asked has landed.
        action: called before the request is looked at.
        hits: the requests that met it.
    """

    method: str
    path: str
    times: int = 1
    status: int | None = None
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: str | None = None
    stall: float = 0.0
    late: bool = False
    action: Callable[[], object] | None = None
    hits: list = field(default_factory=list)

    def fits(self, request):
        return (
            len(self.hits) < self.times
            and request.method == self.method
            and re.search(self.path, request.target) is not None
        )


class Faults:
    """Mixin: how a test says what goes wrong; each method returns the `Fault`."""

    def __init__(self):
        self.faults = []
        self._meeting = threading.Lock()

    def fail(self, method, path, status, *, times=1, message=None, headers=None):
        message = message or STATUS_MESSAGES.get(status, "Something is wrong")
        return self._add(
            Fault(method, path, times, status=status, message=message, headers=headers or {})
        )

    def drop(self, method, path, when, *, times=1):
        return self._add(Fault(method, path, times, drop=when))

    def stall(self, method, path, seconds, *, late=False, times=1):
        return self._add(Fault(method, path, times, stall=seconds, late=late))

    def before(self, method, path, action, *, times=1):
        return self._add(Fault(method, path, times, action=action))

    def _add(self, fault):
        self.faults.append(fault)
        return fault

    def meet(self, request):
        """Runs the actions that fit, and returns the first other fault that does, or None."""
        with self._meeting:
            fitting = [fault for fault in self.faults if fault.fits(request)]
            actions = [fault for fault in fitting if fault.action is not None]
            others = [fault for fault in fitting if fault.action is None]
            met = others[0] if others else None
            for fault in (*actions, *others[:1]):
                fault.hits.append(request)
        for fault in actions:
            fault.action()
        return met
