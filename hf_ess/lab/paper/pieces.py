"""Pieces of work in several processes of our own, each with its cores or its GPU."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import torch

from hf_ess.errors import ProcessFailedError
from hf_ess.lab.workers import places
from hf_ess.launch import launched_processes, without_launcher
from hf_ess.report.records import plain

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

RESULT, SECONDS = "result", "seconds"


def computed(
    function: Callable[..., Any],
    arguments: Mapping[str, Mapping[str, Any]],
    processes: int | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """`function(**arguments)` for each name: names, with results and seconds, as they get done.

    An exception, Ctrl-C among them, ends the processes.

    Args:
        function: of a module; it takes and returns types of JSON.
        arguments: by name.
        processes: how many; None for one for each GPU, or core.

    Raises:
        ProcessFailedError: a process ended without a word.
        Exception: what the function raises.
    """
    if not arguments:
        return
    environments = places("auto", 1, processes)[: len(arguments)]
    if len(environments) == 1 and launched_processes()[1] == 1:
        for name, given in arguments.items():
            yield name, _timed(function, given)
        return
    context = get_context("spawn")  # a fork would share the state of threads and GPUs
    free = context.SimpleQueue()
    for environment in environments:
        free.put(environment)
    others = set(active_children())
    with ProcessPoolExecutor(len(environments), context, _settle, (free,)) as pool:
        begun = {pool.submit(_timed, function, given): name for name, given in arguments.items()}
        # The pool may have begun to wait before it knew of the process that the last submission
        # started, and would not notice its end until another has a result: it looks again here.
        pool.submit(int).cancel()
        try:
            for future in as_completed(begun):
                yield begun[future], future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - others:
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise ProcessFailedError(
                    "A process that measured ended without a word.",
                    causes=[
                        "memory ran out, and it was killed",
                        'the script that began it has no `if __name__ == "__main__":`, which new '
                        "processes need",
                    ],
                    fix="Start the same command again, with fewer processes: what is done is kept.",
                ) from error
            raise


def _settle(free: SimpleQueue[dict[str, str]]) -> None:
    """A new process takes one of the places, and ends with the one that began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C of the terminal is our parent's
    threading.Thread(target=_end_with_parent, daemon=True).start()
    kept = without_launcher() | free.get()
    os.environ.clear()
    os.environ.update(kept)
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """However it ends: a pool would wait for more work for ever."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _timed(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    result = plain(function(**arguments))
    return {RESULT: result, SECONDS: round(time.perf_counter() - began, 3)}
