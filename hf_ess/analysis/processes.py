"""The processes that share one analysis: who they are, how they end together.

Nothing of `torch.distributed` is imported unless a launcher (torchrun, `accelerate launch`) or the
caller asked for it.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar

from hf_ess.errors import HfEssError, InvalidInputError, ProcessFailedError
from hf_ess.launch import launched_processes

T = TypeVar("T")
R = TypeVar("R")

Distributed = bool | Literal["auto"]

# The longest silence of another process; one whose connection breaks is missed at once.
PATIENCE = timedelta(minutes=5)
BEAT_SECONDS = 0.2
BEAT_NAME = "hf_ess beat"

_started_here = False


class Team(Protocol):
    """The processes that share the work of one analysis.

    Attributes:
        rank: number of this process.
        size: how many there are.
    """

    rank: int
    size: int

    def agree(self, work: str) -> None:
        """Says what this process was given; another one that was given other work is an error."""

    def check(self) -> None:
        """Raises what went wrong in another process, as far as it is known.

        Raises:
            ProcessFailedError: a process failed or is gone.
            InvalidInputError: the processes were given different work.
        """

    def combined(self, mine: T, make: Callable[[list[T]], R]) -> R:
        """What process 0 makes of the results of all, in every process.

        Raises:
            ProcessFailedError: a process failed or is gone.
        """


class Alone:
    """A single process."""

    rank = 0
    size = 1

    def agree(self, work: str) -> None:
        """There is nobody to disagree."""

    def check(self) -> None:
        """There is nobody to fail."""

    def combined(self, mine: T, make: Callable[[list[T]], R]) -> R:
        return make([mine])


@contextmanager
def team_of(distributed: Distributed, *, on_cpu: bool) -> Iterator[Team]:
    """The processes that share an analysis; an exception inside ends all of them.

    Args:
        distributed: False for this process alone; "auto" for all that a launcher started, unless
            the caller uses torch.distributed already; True for all in any case.
        on_cpu: whether the model runs on the CPU.

    Raises:
        InvalidInputError: another value of `distributed`.
        ProcessFailedError: the processes do not find each other within `PATIENCE`.
    """
    if distributed not in (True, False, "auto"):
        raise InvalidInputError(f'distributed must be "auto", True or False, got {distributed!r}.')
    if not _is_shared(distributed):
        yield Alone()
        return
    team = Processes(on_cpu)
    try:
        yield team
    except BaseException as error:
        team.fail(error)
        raise
    finally:
        team.close()


def _is_shared(distributed: Distributed) -> bool:
    if distributed is False:
        return False
    if _is_initialized():
        import torch.distributed as dist

        return (_started_here or distributed is True) and dist.get_world_size() > 1
    return launched_processes()[1] > 1


def _is_initialized() -> bool:
    dist = sys.modules.get("torch.distributed")
    return dist is not None and dist.is_available() and dist.is_initialized()


def _start(on_cpu: bool) -> None:
    """Joins the processes of the launcher, as accelerate does it."""
    global _started_here
    import torch.distributed as dist
    from accelerate import PartialState

    PartialState(cpu=on_cpu, timeout=PATIENCE)
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
    _started_here = True
    # Threads of a group that nobody left may abort the interpreter while it ends.
    atexit.register(_leave)


def _leave() -> None:
    beats = (thread.name == BEAT_NAME for thread in threading.enumerate())
    if _is_initialized() and not any(beats):
        import torch.distributed as dist

        dist.destroy_process_group()


WORKING, FINISHED, FAILED = "working", "finished", "failed"


@dataclass(frozen=True)
class _Status:
    """What a process tells the others with every beat."""

    state: str = WORKING
    error: str = ""
    work: str = ""


@dataclass(frozen=True)
class _Made:
    """What process 0 made, or why it could not."""

    result: Any = None
    error: str | None = None


class Processes:
    """All processes of `torch.distributed`, over a gloo group of their own.

    A thread exchanges a few bytes with the others several times a second, so that a process
    that fails or vanishes is known everywhere while the others still work.
    """

    def __init__(self, on_cpu: bool) -> None:
        import torch.distributed as dist

        try:
            if not _is_initialized():
                _start(on_cpu)
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise _not_met(error) from error
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._dist = dist
        self._status = _Status()
        self._problem: HfEssError | None = None
        self._changed = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._exchange, name=BEAT_NAME, daemon=True)
        self._thread.start()

    def agree(self, work: str) -> None:
        self._tell(replace(self._status, work=work))

    def check(self) -> None:
        if self._problem is not None:
            raise self._problem

    def combined(self, mine: T, make: Callable[[list[T]], R]) -> R:
        self._tell(replace(self._status, state=FINISHED))
        self._over.wait()
        self.check()
        try:
            made, failure = self._exchanged(mine, make)
        except RuntimeError as error:
            raise self._gone(error) from error
        if failure is not None:
            raise failure
        if made.error is not None:
            raise _failed(0, self.size, made.error)
        result: R = made.result
        return result

    def fail(self, error: BaseException) -> None:
        """Tells the others that this process cannot go on, and why."""
        self._tell(replace(self._status, state=FAILED, error=_named(error)))
        # Enough for a few beats; whoever does not answer by then is gone itself.
        self._over.wait(25 * BEAT_SECONDS)

    def close(self) -> None:
        """Leaves the group."""
        if self._over.is_set():
            # A thread that still runs would find the group gone.
            self._thread.join()
            self._dist.destroy_process_group(self._group)

    def _tell(self, status: _Status) -> None:
        self._status = status
        self._changed.set()

    def _exchange(self) -> None:
        try:
            while self._goes_on():
                self._changed.wait(BEAT_SECONDS)
                self._changed.clear()
        finally:
            self._over.set()

    def _goes_on(self) -> bool:
        heard: list[Any] = [None] * self.size
        try:
            self._dist.all_gather_object(heard, self._status, group=self._group)
        except Exception as error:
            self._problem = self._gone(error)
            return False
        self._problem = _problem(heard)
        return self._problem is None and any(status.state != FINISHED for status in heard)

    def _exchanged(self, mine: T, make: Callable[[list[T]], R]) -> tuple[_Made, Exception | None]:
        """What process 0 made; there, also the exception that it could not make it for."""
        everything: list[Any] | None = [None] * self.size if self.rank == 0 else None
        self._dist.gather_object(mine, everything, dst=0, group=self._group)
        failure: Exception | None = None
        sent: list[Any] = [None]
        if everything is not None:
            try:
                sent = [_Made(make(everything))]
            except Exception as error:
                failure, sent = error, [_Made(error=_named(error))]
        self._dist.broadcast_object_list(sent, src=0, group=self._group)
        return sent[0], failure

    def _gone(self, error: Exception) -> ProcessFailedError:
        return ProcessFailedError(
            f"A process is gone: process {self.rank} of {self.size} cannot reach the others.",
            causes=[
                "it was killed, for example because memory ran out",
                "its machine or the network between the machines is down",
                f"torch says: {str(error).splitlines()[0]}",
            ],
            fix="Look at the messages of the other processes, and start all of them again.",
        )


def _problem(heard: list[_Status]) -> HfEssError | None:
    """What is wrong with the processes that sent these."""
    for rank, status in enumerate(heard):
        if status.state == FAILED:
            return _failed(rank, len(heard), status.error)
    work = {status.work for status in heard if status.work}
    if len(work) > 1:
        return InvalidInputError(
            f"The {len(heard)} processes were given different work.",
            causes=[
                "each of them read another part of a data set",
                "a model with random weights was built without the same seed in each",
                "their options differ",
            ],
            fix="Give all of them the same model, inputs and options, since the work is shared out "
            "among them; or pass distributed=False to let each do its own.",
        )
    return None


def _failed(rank: int, size: int, error: str) -> ProcessFailedError:
    return ProcessFailedError(f"Process {rank} of {size} failed: {error}")


def _named(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    return f"{type(error).__name__}: {error}"


def _not_met(error: Exception) -> ProcessFailedError:
    return ProcessFailedError(
        "The processes of this run did not find each other.",
        causes=[
            f"not all of them came to analyze within {PATIENCE.total_seconds():.0f} seconds",
            "one of them failed before",
            f"torch says: {str(error).splitlines()[0]}",
        ],
        fix="Call analyze in every process, or pass distributed=False to let one do it alone.",
    )
