"""Work spread over threads, each with single-threaded linear algebra inside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch

Task = Callable[[threading.Event], None]


def run_tasks(tasks: Sequence[Task], workers: int) -> None:
    """Runs every task once, on up to `workers` threads; raises what the first failing one raised.

    LAPACK gains little from its own threads on matrices of a few hundred rows: tasks side by side
    with one thread each are about twice as fast on two cores. Torch's number of threads is
    the same afterwards, whatever happens. An interrupt drops what has not begun and sets the
    event that each task gets and should look at between steps. Callers from several threads take
    turns, since the number of threads is one for the whole process.
    """
    workers = min(workers, len(tasks))
    if workers <= 1 or _pool_worker.here:
        stop = threading.Event()
        for task in tasks:
            task(stop)
        return
    with _one_pool:
        _run_in_pool(tasks, workers)


class _PoolWorker(threading.local):
    """Whether a thread is of a pool, where a second one would wait for the first for ever."""

    here = False


_pool_worker = _PoolWorker()
_one_pool = threading.Lock()


def _begin(threads: int) -> None:
    _pool_worker.here = True
    torch.set_num_threads(threads)


def _run_in_pool(tasks: Sequence[Task], workers: int) -> None:
    threads, stop = torch.get_num_threads(), threading.Event()
    executor = ThreadPoolExecutor(
        workers, initializer=_begin, initargs=(max(1, threads // workers),)
    )
    try:
        pending = [executor.submit(task, stop) for task in tasks]
        for future in wait(pending, return_when=FIRST_EXCEPTION).done:
            future.result()
    finally:
        stop.set()
        try:
            executor.shutdown(wait=True, cancel_futures=True)
        finally:
            # A worker's setting is also the default of threads that start later.
            torch.set_num_threads(threads)
