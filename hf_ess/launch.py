"""What a launcher of processes (torchrun, `accelerate launch`) says in the environment."""

from __future__ import annotations

import os


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
