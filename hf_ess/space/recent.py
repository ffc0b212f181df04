"""What was used last stays in memory, up to so many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps values by key; the least recently used ones go when there are too many bytes.

    The value that came last stays, however large. Threads may share one.

    Args:
        bytes_kept: of all values together.

    Example:
        >>> kept = Recent(bytes_kept=10)
        >>> kept.put("a", 1, size=6)
        >>> kept.put("b", 2, size=6)
        >>> kept.get("a"), kept.get("b")
        (None, 2)
    """

    def __init__(self, bytes_kept: int) -> None:
        self.bytes_kept = bytes_kept
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> T | None:
        """The value, None if it is not kept any more."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: str, value: T, *, size: int) -> None:
        """Keeps a value of that many bytes, and lets others go."""
        with self._lock:
            self._values[key] = value, size
            self._values.move_to_end(key)
            self._shrink(self.bytes_kept)

    def make_room(self, size: int) -> None:
        """Lets values go until that many bytes are free below the limit, or nothing is left."""
        with self._lock:
            self._shrink(self.bytes_kept - size, least=0)

    def __len__(self) -> int:
        return len(self._values)

    def _shrink(self, bytes_kept: int, least: int = 1) -> None:
        while len(self._values) > least and self._bytes() > bytes_kept:
            self._values.popitem(last=False)

    def _bytes(self) -> int:
        return sum(size for _, size in self._values.values())
