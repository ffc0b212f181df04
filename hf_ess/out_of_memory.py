"""How a lack of memory looks, on every device; and what is done to have some back."""

from __future__ import annotations

import gc
import sys

from hf_ess.errors import HfEssError

# What torch says where it raises a plain RuntimeError: its allocator on a CPU (Linux, Windows),
# the libraries of a GPU, and other devices.
WORDS = (
    "can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "Cannot allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device has no memory left.

    A budget that is too small is none of them: nobody tried to allocate anything.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."))
        True
        >>> is_out_of_memory(RuntimeError("shapes differ")), is_out_of_memory(MemoryError())
        (False, True)
    """
    if isinstance(error, HfEssError):
        return False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def shortage_of(error: BaseException) -> str:
    """What an exception says of a lack of memory, in a line.

    Example:
        >>> shortage_of(MemoryError())
        'MemoryError'
    """
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def give_memory_back() -> None:
    """Lets go of what torch keeps on GPUs, and of what hangs together there and nobody uses."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
