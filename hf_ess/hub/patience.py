"""How long a request may take, and what is tried again: one place waits, so that waits do not add.

huggingface_hub asks without time limits, and repeats some requests by itself, after as long as
the Hub says. Inside of `persistently` no request is silent for longer than agreed, and what the
Hub refuses for the moment comes back at once, to be tried again from the start.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from hf_ess.errors import HubError
from hf_ess.hub.answers import PASSING, RACES, origin, status_of, wanted_pause

Result = TypeVar("Result")


class RaceLostError(HubError):
    """Another writer was faster; what was read is not what is there any more."""


@dataclass(frozen=True)
class Patience:
    """When to try again, and when to give up.

    Attributes:
        races: how often another writer may have been faster.
        troubles: how often the Hub may fail, refuse for the moment, or not answer.
        unreached: how often there may be no connection at all.
        seconds: time after which nothing is tried again.
        first_wait: seconds before the second attempt; then twice as long each time.
        longest_wait: seconds, unless the Hub asks for more.
        silence: seconds for which a connection may say nothing.
    """

    races: int = 30
    troubles: int = 6
    unreached: int = 3
    seconds: float = 300.0
    first_wait: float = 0.5
    longest_wait: float = 15.0
    silence: float = 60.0

    def allows(self, kind: str, failures: int) -> bool:
        """Whether to try again after that many failures of a kind."""
        return failures <= {"race": self.races, "unreached": self.unreached}.get(
            kind, self.troubles
        )

    def wait(self, kind: str, failures: int) -> float:
        """Seconds until the next attempt, at random so that writers part; races are short."""
        slow = 4 if kind == "race" else failures
        longest: float = min(self.first_wait * 2 ** (min(slow, failures) - 1), self.longest_wait)
        return longest * random.uniform(0.5, 1.0)


PATIENCE = Patience()
_silence: ContextVar[float | None] = ContextVar("silence", default=None)


def persistently(attempt: Callable[[], Result], patience: Patience | None = None) -> Result:
    """Calls until there is a result, as long as what fails may pass; then the last error.

    Each call has to begin from the start, with what it reads anew.

    Raises:
        Exception: that of the last attempt.

    Example:
        >>> persistently(lambda: 5)
        5
    """
    agreed = patience or PATIENCE
    end = time.monotonic() + agreed.seconds
    failures: dict[str, int] = {}
    while True:
        try:
            with _impatient(agreed.silence):
                return attempt()
        except Exception as error:
            kind = kind_of_failure(error)
            if kind is None:
                raise
            failures[kind] = failures.get(kind, 0) + 1
            pause = max(wanted_pause(error) or 0.0, agreed.wait(kind, failures[kind]))
            too_late = time.monotonic() + pause > end
            if too_late or not agreed.allows(kind, failures[kind]):
                raise
        time.sleep(pause)


def kind_of_failure(error: BaseException) -> str | None:
    """What may pass by itself: "race", "trouble" or "unreached"; None for everything else."""
    from httpx2 import ConnectError, NetworkError, RemoteProtocolError, TimeoutException

    cause, status = origin(error), status_of(error)
    if isinstance(error, RaceLostError) or status in RACES:
        return "race"
    if status in PASSING:
        return "trouble"
    if isinstance(cause, ConnectError):
        return "unreached"
    # Half of an answer is no JSON.
    lost = (NetworkError, RemoteProtocolError, TimeoutException, json.JSONDecodeError)
    return "trouble" if isinstance(cause, lost) else None


def may_have_landed(error: BaseException) -> bool:
    """Whether what was asked may be done although the answer says otherwise, or is missing."""
    status = status_of(error)
    return kind_of_failure(error) == "trouble" and (status is None or status >= 500)


@contextmanager
def _impatient(silence: float) -> Iterator[None]:
    """Requests of this thread get a time limit, and are not repeated by the client."""
    from huggingface_hub.utils import get_session

    hooks = get_session().event_hooks
    before = _silence.set(silence)
    hooks["request"].append(_limit)
    hooks["response"].append(_refuse_for_now)
    try:
        yield
    finally:
        hooks["request"].remove(_limit)
        hooks["response"].remove(_refuse_for_now)
        _silence.reset(before)


def _limit(request: Any) -> None:
    silence, given = _silence.get(), request.extensions.get("timeout") or {}
    if silence is not None and all(limit is None for limit in given.values()):
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), silence)


def _refuse_for_now(response: Any) -> None:
    from huggingface_hub.utils import hf_raise_for_status

    if _silence.get() is not None and response.status_code in PASSING:
        response.read()
        hf_raise_for_status(response)
