"""What a launcher of processes (torchrun, `accelerate launch`) says in the environment."""

from __future__ import annotations

import os

LOCAL_RANK, LOCAL_SIZE = "LOCAL_RANK", "LOCAL_WORLD_SIZE"
OF_LAUNCHERS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", LOCAL_RANK, LOCAL_SIZE)
MORE_OF_LAUNCHERS = ("TORCHELASTIC_", "GROUP_", "ROLE_")


def launched_processes() -> tuple[int, int]:
    """Number of this process and how many there are; 0 and 1 without a launcher.

    Example:
        >>> from hf_ess.launch import launched_processes
        >>> launched_processes()
        (0, 1)
    """
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
    return (rank, size) if size > 1 and "MASTER_ADDR" in os.environ else (0, 1)


def on_this_machine() -> tuple[int, int]:
    """The same among the processes of this machine.

    Example:
        >>> from hf_ess.launch import on_this_machine
        >>> on_this_machine()
        (0, 1)
    """
    if launched_processes()[1] == 1:
        return 0, 1
    return int(os.environ.get(LOCAL_RANK, "0")), int(os.environ.get(LOCAL_SIZE, "1"))


def without_launcher() -> dict[str, str]:
    """The environment for a process of our own, which is none of those that were launched.

    Example:
        >>> from hf_ess.launch import without_launcher
        >>> "RANK" in without_launcher()
        False
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in OF_LAUNCHERS and not name.startswith(MORE_OF_LAUNCHERS)
    }
