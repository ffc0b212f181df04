"""Who measures and who waits: one after the other, each user with one job at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hf_ess.errors import CancelledError, LimitError
from hf_ess.space.limits import Limits

REMEMBERED = 20
TELLS_EVERY = 1.0


@dataclass(frozen=True)
class Waiting:
    """Where a job stands in the queue.

    Attributes:
        ahead: jobs that come before it, the running one among them; 0 if it is its turn.
        seconds: that they will take, as far as earlier jobs tell; None if there was none.
    """

    ahead: int
    seconds: float | None


OnWait = Callable[[Waiting], None]


@dataclass(eq=False)
class Job:
    """One measurement of one user, from the moment it is asked for until it ends.

    Attributes:
        user: who asked.
        cancel: set it to end the job, whether it waits or runs.
        began: when its turn came, None while it waits.
    """

    user: str
    cancel: threading.Event = field(default_factory=threading.Event)
    began: float | None = None


class Jobs:
    """The queue of a server. Threads share it.

    Args:
        limits: `queue` jobs wait besides the one that runs; `jobs_per_user` are of one user.

    Example:
        >>> jobs = Jobs(Limits())
        >>> with jobs.entered("somebody") as job:
        ...     jobs.waiting(job).ahead
        0
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._jobs: list[Job] = []
        self._durations: deque[float] = deque(maxlen=REMEMBERED)
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    @contextmanager
    def entered(
        self,
        user: str,
        on_wait: OnWait | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Job]:
        """A job of a user, from its turn on; the queue goes on when the context is left.

        Args:
            user: whatever tells users apart.
            on_wait: called while the job waits, at once and then about every second.
            cancel: set it to end the job; noticed within a second while it waits.

        Raises:
            LimitError: the user has a job already, or the queue is full.
            CancelledError: the job was cancelled while it waited.
        """
        job = self._enter(Job(user, cancel or threading.Event()))
        try:
            self._await_turn(job, on_wait)
            yield job
        finally:
            self._leave(job)

    def waiting(self, job: Job) -> Waiting:
        """Where a job stands now."""
        with self._changed:
            return self._waiting(job)

    def cancel(self, user: str | None) -> int:
        """Ends every job of a user, or of everybody (None); returns how many there were."""
        with self._changed:
            found = [job for job in self._jobs if user is None or job.user == user]
            for job in found:
                job.cancel.set()
            self._changed.notify_all()
        return len(found)

    def _enter(self, job: Job) -> Job:
        with self._changed:
            own = sum(other.user == job.user for other in self._jobs)
            if own >= self._limits.jobs_per_user:
                raise LimitError(
                    f"You have {own} measurement(s) here already; this server does "
                    f"{self._limits.jobs_per_user} at a time for each of its users.",
                    fix="Wait until it is done, or cancel it.",
                )
            if len(self._jobs) > self._limits.queue:
                raise LimitError(
                    f"{len(self._jobs)} measurements run or wait; this server lets "
                    f"{self._limits.queue} wait.",
                    fix="Try again in a few minutes, or measure with hf_ess on your own machine.",
                )
            self._jobs.append(job)
            return job

    def _await_turn(self, job: Job, on_wait: OnWait | None) -> None:
        while True:
            with self._changed:
                place = self._waiting(job)
                if job.cancel.is_set():
                    raise CancelledError(
                        "The measurement was cancelled while it waited.",
                        fix="It can be started again.",
                    )
                if not place.ahead:
                    job.began = time.monotonic()
                    return
            if on_wait is not None:
                on_wait(place)
            with self._changed:
                if not job.cancel.is_set() and self._jobs[0] is not job:
                    self._changed.wait(TELLS_EVERY)

    def _leave(self, job: Job) -> None:
        with self._changed:
            self._jobs.remove(job)
            if job.began is not None and not job.cancel.is_set():
                self._durations.append(time.monotonic() - job.began)
            self._changed.notify_all()

    def _waiting(self, job: Job) -> Waiting:
        ahead = self._jobs.index(job)
        if not self._durations:
            return Waiting(ahead, 0.0 if not ahead else None)
        usual = sum(self._durations) / len(self._durations)
        running = self._jobs[0].began
        spent = 0.0 if running is None else min(time.monotonic() - running, usual)
        return Waiting(ahead, max(ahead * usual - spent, 0.0) if ahead else 0.0)
