"""Trainings in several processes: one for each core or GPU, each for one training after another.

A training that raises, or takes its process along, costs the others nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

import torch

from hf_ess.lab.interrupts import Wish
from hf_ess.lab.worker import ERROR, INTERRUPTED
from hf_ess.launch import on_this_machine, without_launcher

Answer = dict[str, str]
VISIBLE = "CUDA_VISIBLE_DEVICES"
WORKER = "from hf_ess.lab.worker import main; main()"
# Modules are found where this process finds them, and not in the current folder before all else.
SAME_PATH = "import sys; sys.path[:] = {path!r}; "
# How often somebody's wish to end is looked for, and how long a step and its test may take then.
GLANCE, PATIENCE = 0.1, 60.0


def places(device: str, threads: int, processes: int | None) -> list[dict[str, str]]:
    """What the environment of each process says: its GPU, by turns, unless the device is given.

    Where a launcher started several processes on this machine, they share its cores and GPUs.

    Args:
        device: of the configuration.
        threads: of each process.
        processes: how many; None for one for each GPU, or as many as the cores hold.

    Example:
        >>> places("cpu", threads=1, processes=2)[1]["OMP_NUM_THREADS"]
        '1'
    """
    shared = {"OMP_NUM_THREADS": str(threads)}
    rank, size = on_this_machine()
    if device.startswith("cpu") or not torch.cuda.is_available():
        return [shared] * (processes or max(1, _cores() // threads // size))
    if torch.device("cuda" if device == "auto" else device) != torch.device("cuda"):
        return [shared] * (processes or 1)
    visible = os.environ.get(VISIBLE)
    gpus = visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
    own = gpus[rank::size] or [gpus[rank % len(gpus)]]
    count = processes or len(own)
    return [{**shared, VISIBLE: own[number % len(own)]} for number in range(count)]


def all_trained(
    folders: Sequence[Path],
    environments: Sequence[dict[str, str]],
    messages: Path,
    wish: Wish,
    while_waiting: Callable[[], None],
) -> Iterator[tuple[Path, Answer]]:
    """Trains the runs of folders, and gives each with its answer as soon as it is done.

    Args:
        folders: with the configuration of a run each.
        environments: one for each process, of `places`.
        messages: a file for what processes say on stderr.
        wish: to end; running trainings then leave a checkpoint, and what is left is not begun.
        while_waiting: called again and again between answers.
    """
    waiting: SimpleQueue[Path] = SimpleQueue()
    for folder in folders:
        waiting.put(folder)
    done: SimpleQueue[tuple[Path, Answer]] = SimpleQueue()
    with _Workers(environments[: len(folders)], messages, waiting, done) as workers:
        for _ in folders:
            outcome = None
            while outcome is None:
                with suppress(Empty):
                    outcome = done.get(timeout=GLANCE)
                while_waiting()
                if wish.to_end and outcome is None:
                    workers.end()
                    return
            yield outcome


class _Workers:
    """A thread for each process, which hands it one folder after another."""

    def __init__(
        self,
        environments: Sequence[dict[str, str]],
        messages: Path,
        waiting: SimpleQueue[Path],
        done: SimpleQueue[tuple[Path, Answer]],
    ) -> None:
        self.messages, self.waiting, self.done = messages, waiting, done
        self.ending = False
        self.lock = threading.Lock()
        self.running: set[subprocess.Popen[str]] = set()
        self.threads = [
            threading.Thread(target=self._serve, args=(environment,), daemon=True)
            for environment in environments
        ]

    def __enter__(self) -> _Workers:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ends what runs: gently, and after a while not."""
        with self.lock:
            self.ending = True
            for process in self.running:
                process.terminate()
        for thread in self.threads:
            thread.join(PATIENCE)
        with self.lock:
            for process in self.running:
                process.kill()
        for thread in self.threads:
            thread.join()

    def _serve(self, environment: dict[str, str]) -> None:
        process: subprocess.Popen[str] | None = None
        try:
            while not self.ending:
                try:
                    folder = self.waiting.get_nowait()
                except Empty:
                    return
                if process is None:
                    process = self._started(environment)
                if process is None:
                    return
                answer = _asked(process, folder)
                self.done.put((folder, answer))
                if process.poll() is not None:
                    self._let_go(process)
                    process = None
        finally:
            if process is not None:
                self._let_go(process)

    def _started(self, environment: dict[str, str]) -> subprocess.Popen[str] | None:
        code = SAME_PATH.format(path=sys.path) + WORKER
        with self.lock, open(self.messages, "a") as messages:
            if self.ending:
                return None
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                env={**without_launcher(), **environment},
                start_new_session=True,  # Ctrl-C of the terminal is ours to pass on
            )
            self.running.add(process)
        return process

    def _let_go(self, process: subprocess.Popen[str]) -> None:
        with suppress(OSError):
            _pipe(process.stdin).close()
        process.wait()
        _pipe(process.stdout).close()
        with self.lock:
            self.running.discard(process)


def _asked(process: subprocess.Popen[str], folder: Path) -> Answer:
    """The answer of a process for a folder, or how it ended without one."""
    try:
        _pipe(process.stdin).write(json.dumps(str(folder)) + "\n")
        _pipe(process.stdin).flush()
        line = _pipe(process.stdout).readline()
    except OSError:
        line = ""
    if line:
        answer: Answer = json.loads(line)
        return answer
    status = process.wait()
    if status == -signal.SIGTERM:
        return {INTERRUPTED: "The process was ended."}
    how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    return {ERROR: f"The process of the run ended {how}, without a word; memory may be short."}


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
