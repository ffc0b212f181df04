"""What computes, in a line."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

CPU_FACTS = Path("/proc/cpuinfo")
# What a container may use.
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_name() -> str:
    """GPUs, or the processor and how many of its cores there are; without the name of the host.

    Example:
        >>> "core" in machine_name() or "GPU" in machine_name()
        True
    """
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return f"{torch.cuda.get_device_name(0)}, {count} GPU{'s' * (count > 1)}"
    cores = os.cpu_count() or 1
    return f"{_processor()}, {cores} core{'s' * (cores > 1)}"


def memory_bytes() -> int | None:
    """Memory of this machine, or of the container that this is; None where it cannot be told.

    Example:
        >>> known = memory_bytes()
        >>> known is None or known > 2**20
        True
    """
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        return min(whole, int(MEMORY_LIMIT.read_text("ascii")))
    except (OSError, ValueError):
        return whole


def _processor() -> str:
    if CPU_FACTS.exists():
        for line in CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
