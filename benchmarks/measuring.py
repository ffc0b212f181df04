"""Time and memory of a piece of work, for the benchmarks of this folder."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

SAMPLED_EVERY = 0.002


class PeakMemory:
    """Growth of the resident memory of this process while the block runs, sampled each 2 ms."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self.before = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLED_EVERY):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        """Growth during the block."""
        return round((self.peak - self.before) / 2**20, 1)


@dataclass(frozen=True)
class Cost:
    """Wall time, and time on all processors, which a busy machine changes far less."""

    seconds: float
    processor_seconds: float


def cost_of(*works: Callable[[], object], repetitions: int) -> list[Cost]:
    """Medians for each piece of work; the pieces alternate, so that all meet the same machine."""
    costs: list[list[tuple[float, float]]] = [[] for _ in works]
    for _ in range(repetitions):
        for work, spent in zip(works, costs, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            work()
            spent.append((time.perf_counter() - wall, time.process_time() - processor))
    return [
        Cost(*(statistics.median(times) for times in zip(*spent, strict=True))) for spent in costs
    ]


def evenly_spread(length: int, count: int = 63) -> list[int]:
    """Positions as far from each other as can be."""
    return [round((k + 1) * length / (count + 1)) for k in range(count)]
