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
    event that each task gets and should look at between steps.
    """
    threads = torch.get_num_threads()
    workers = min(workers, len(tasks))
    stop = threading.Event()
    if workers <= 1:
        for task in tasks:
            task(stop)
        return
    executor = ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)
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
