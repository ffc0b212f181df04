"""A process that trains what it is told: folders on stdin, one answer for each on stdout.

Both are a line of JSON each. It ends when stdin does, in the middle of a training too: then
whoever asked is gone. Started by `hf_ess.lab.workers`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

from hf_ess.errors import HfEssError
from hf_ess.lab.run_config import RunConfig
from hf_ess.lab.train import TrainingInterrupted, train
from hf_ess.shipped import RUN_WRITTEN

ERROR, INTERRUPTED = "error", "interrupted"


def main() -> None:
    """Answers until there are no more folders."""
    answers = _own_stdout()
    folders: SimpleQueue[str | None] = SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(folders, busy), daemon=True).start()
    for folder in iter(folders.get, None):
        busy.set()
        answer = trained(Path(folder))
        busy.clear()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def trained(folder: Path) -> dict[str, str]:
    """Trains what the configuration in a folder says; empty if that went well."""
    try:
        train(RunConfig.read(folder / RUN_WRITTEN), folder, progress=False)
    except TrainingInterrupted as interruption:
        return {INTERRUPTED: str(interruption)}
    except HfEssError as error:
        return {ERROR: str(error)}
    except Exception as error:
        traceback.print_exc()
        return {ERROR: f"{type(error).__name__}: {error}"}
    return {}


def _listen(folders: SimpleQueue[str | None], busy: threading.Event) -> None:
    for line in sys.stdin:
        folders.put(json.loads(line))
    folders.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _own_stdout() -> TextIO:
    """Stdout for the answers; whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers
