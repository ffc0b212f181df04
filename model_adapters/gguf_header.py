"""The numbers in the header of a GGUF file, read without believing how long it says that it is."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_START = struct.Struct("<4sIQQ")
_LENGTH = struct.Struct("<Q")
_KIND = struct.Struct("<I")
_ARRAY = struct.Struct("<IQ")
_STRING, _LIST = 8, 9
_NUMBERS = {
    kind: struct.Struct(f"<{code}")
    for kind, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip


def header_numbers(path: Path) -> dict[str, float]:
    """Every number that stands alone in the header, by its key; those before a damaged place.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "model.gguf")
        ...     key = b"llama.block_count"
        ...     _ = file.write_bytes(
        ...         struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, len(key)) + key
        ...         + struct.pack("<II", 4, 30)
        ...     )
        ...     header_numbers(file)
        {'llama.block_count': 30}
    """
    found: dict[str, float] = {}
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        suppress(struct.error, OverflowError),  # whoever loads the file says what is wrong with it
    ):
        found.update(_entries(data))
    return found


def _entries(data: mmap.mmap) -> Iterator[tuple[str, float]]:
    _, _, _, entries = _START.unpack_from(data)
    place = _START.size
    # A file cannot hold as many entries as it may claim: reading past its end fails.
    for _ in range(entries):
        start, place = _string(data, place)
        key = data[start:place]
        (kind,) = _KIND.unpack_from(data, place)
        place += _KIND.size
        if kind in _NUMBERS:
            (value,) = _NUMBERS[kind].unpack_from(data, place)
            yield key.decode("utf-8", "replace"), value
        place = _past(data, place, kind)


def _string(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Where a string begins and ends."""
    (length,) = _LENGTH.unpack_from(data, place)
    start = place + _LENGTH.size
    if start + length > len(data):
        raise struct.error("a string ends after the file")
    return start, start + length


def _past(data: mmap.mmap, place: int, kind: int) -> int:
    """Where a value of that kind ends."""
    if kind in _NUMBERS:
        return place + _NUMBERS[kind].size
    if kind == _STRING:
        return _string(data, place)[1]
    if kind != _LIST:
        raise struct.error(f"no kind {kind}")
    inner, length = _ARRAY.unpack_from(data, place)
    place += _ARRAY.size
    if inner in _NUMBERS:
        return int(place + length * _NUMBERS[inner].size)
    if inner != _STRING:
        raise struct.error("lists of lists are in no file of a model")
    for _ in range(length):
        place = _string(data, place)[1]
    return place
