"""`hf-ess` in processes of its own that can be stopped at a certain file: imports are paid once.

    with Commands() as commands:
        run = commands.start(["analyze", ...], pause_at="batch-000002", renamed=True)
        run.paused()
        run.end(signal.SIGKILL)

The server imports everything and forks for each command. A command that is to pause does so for
ever when it replaces a file of that name, before or after the rename, and says so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PAUSED = "paused"


@dataclass
class Run:
    """A command in a process of its own."""

    commands: Commands
    number: int
    messages: Path

    def paused(self) -> None:
        """Waits until it has come to the file."""
        assert self.commands.said() == PAUSED, self.messages.read_text()

    def ended(self) -> int:
        """Waits for its exit status; negative for a signal."""
        return int(self.commands.said())

    def end(self, number: int) -> int:
        """Sends a signal, and waits for the exit status."""
        os.kill(self.number, number)
        return self.ended()


class Commands:
    """The server."""

    def __enter__(self) -> Commands:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        # Also a command that still pauses, because its test has failed.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def said(self) -> str:
        return self.process.stdout.readline().strip()

    def start(self, arguments, folder: Path, pause_at: str = "", *, renamed: bool = True) -> Run:
        """Starts `hf-ess`; stdout and stderr go to files in the folder."""
        request = {
            "arguments": [str(word) for word in arguments],
            "folder": str(folder),
            "pause_at": pause_at,
            "renamed": renamed,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Run(self, int(self.said()), folder / "stderr")


def _pause_at(name: str, renamed: bool) -> None:
    replace, tell = os.replace, os.dup(1)

    def replaced(source, target):
        meant = name in os.path.basename(target)
        if renamed or not meant:
            replace(source, target)
        if meant:
            os.write(tell, f"{PAUSED}\n".encode())
            while True:
                signal.pause()

    os.replace = replaced


def _run(request) -> None:
    from hf_ess.cli import main

    if request["pause_at"]:
        _pause_at(request["pause_at"], request["renamed"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(
            os.open(f"{request['folder']}/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number
        )
    sys.argv = ["hf-ess", *request["arguments"]]
    main()


def serve() -> None:
    """Forks for every line of stdin."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    import hf_ess.cli.app

    assert all([AutoTokenizer, LlamaForCausalLM, hf_ess.cli.app, hf_ess.analyze])
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            status = 1
            try:
                _run(json.loads(line))
                status = 0
            except SystemExit as ended:
                status = int(ended.code or 0)
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.write(1, f"{number}\n".encode())
        _, status = os.waitpid(number, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    serve()
