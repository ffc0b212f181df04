"""Files of a saved report that were cut, altered or exchanged: a ReportError, or the same numbers.

What was forged with all checksums right is in `test_hostile_reports`.
"""

from __future__ import annotations

import json
import shutil
import struct

import numpy as np
import pytest
import safetensors.numpy
from report.synthetic import make_layer, make_report

from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.report import ESSReport

JSON, ARRAYS = "report.json", "arrays.safetensors"
FILES = (JSON, ARRAYS)
PLACES = 300


@pytest.fixture
def folder(tmp_path):
    return make_report(2, lengths=(12, 7)).save(tmp_path / "report")


@pytest.fixture
def expected(folder):
    return ESSReport.load(folder).fingerprint()


def _outcome(folder, expected):
    """Whether the report was refused; it is the same one where it was not."""
    try:
        loaded = ESSReport.load(folder)
    except ReportError:
        return True
    assert loaded.fingerprint() == expected
    return False


def _places(data):
    return range(0, len(data), -(-len(data) // PLACES))


@pytest.mark.parametrize("name", FILES)
def test_cut_anywhere(folder, expected, name, tried):
    # Without the line end that nobody misses.
    data = (folder / name).read_bytes().rstrip(b"\n")
    for length in _places(data):
        (folder / name).write_bytes(data[:length])
        assert _outcome(folder, expected)
    tried(
        "Faults",
        "A file of a saved report ends early, at many places",
        "ReportError that names the file",
        times=len(_places(data)),
    )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_one_bit_anywhere(folder, expected, name, mask, tried):
    data = (folder / name).read_bytes()
    refused = 0
    for place in _places(data):
        altered = bytearray(data)
        altered[place] ^= mask
        (folder / name).write_bytes(altered)
        refused += _outcome(folder, expected)
    # The time of the measurement and blanks between words are no part of the content.
    assert refused == len(_places(data)) if name == ARRAYS else refused > len(_places(data)) // 2
    tried(
        "Faults",
        "One bit of a saved report is another, at many places",
        "ReportError, or the same numbers where the bit was no part of the content",
        times=len(_places(data)),
    )


def _with(name, change):
    def spoil(folder):
        arrays = safetensors.numpy.load((folder / ARRAYS).read_bytes())
        first = next(key for key in sorted(arrays) if key.endswith(name))
        arrays[first] = change(arrays[first])
        (folder / ARRAYS).write_bytes(safetensors.numpy.save(arrays))

    return spoil


def _exchanged(folder):
    """Two arrays of the same kind change places: file size and header stay as they were."""
    arrays = safetensors.numpy.load((folder / ARRAYS).read_bytes())
    first, second = (f"layer.0000{number}.entropy_ess" for number in (0, 1))
    arrays[first], arrays[second] = arrays[second], arrays[first]
    (folder / ARRAYS).write_bytes(safetensors.numpy.save(arrays))


def _header_says(**claims):
    """A header that lies about the first array."""

    def spoil(folder):
        data = (folder / ARRAYS).read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        header[next(key for key in sorted(header) if key != "__metadata__")].update(claims)
        text = json.dumps(header).encode()
        (folder / ARRAYS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return spoil


def _of_another_report(name):
    def spoil(folder):
        other = make_report(2, lengths=(12, 7), seed=5).save(folder.parent / "other")
        shutil.copy(other / name, folder / name)

    return spoil


def _text(change):
    def spoil(folder):
        text = (folder / JSON).read_text("ascii")
        changed = change(text)
        assert changed != text
        (folder / JSON).write_text(changed, "ascii")

    return spoil


SPOILED = {
    "another shape": _with("entropy_ess", lambda a: a[:1]),
    "another dtype": _with("entropy_ess", lambda a: a.astype(np.float16)),
    "NaN": _with("entropy_ess", lambda a: np.full_like(a, np.nan)),
    "negative": _with("tolerance_ess.0", np.negative),
    "exchanged arrays": _exchanged,
    "a huge shape": _header_says(shape=[2**40, 2**20]),
    "offsets beyond the end": _header_says(data_offsets=[0, 2**60]),
    "a huge header": lambda f: (f / ARRAYS).write_bytes(struct.pack("<Q", 2**62) + b"{}"),
    "arrays of another report": _of_another_report(ARRAYS),
    "document of another report": _of_another_report(JSON),
    "a list for a number": _text(lambda t: t.replace('"groups": 2', '"groups": [2]', 1)),
    "a text for a number": _text(lambda t: t.replace('"groups": 2', '"groups": "2"', 1)),
    "a count below zero": _text(lambda t: t.replace('"groups": 2', '"groups": -2', 1)),
    "a number of many digits": _text(lambda t: t.replace(': 2,', f": {'9' * 5000},", 1)),
    "a key twice": _text(lambda t: t.replace('"groups": 2', '"groups": 2, "groups": 3', 1)),
    "another version": _text(lambda t: t.replace('"schema_version": 3', '"schema_version": 2')),
}  # fmt: skip


@pytest.mark.parametrize("spoiled", SPOILED)
def test_altered_without_the_checksum(folder, expected, spoiled, tried):
    SPOILED[spoiled](folder)
    assert _outcome(folder, expected)
    tried(
        "Faults",
        "Shapes, types, numbers, keys or whole files of a saved report are altered or exchanged",
        "ReportError that names the file",
    )


@pytest.mark.parametrize("value", [-1.0, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["entropy_ess", "capacity", "attainable_by_group"])
def test_numbers_that_no_layer_has(name, value):
    layer = make_layer()
    values = np.where(np.arange(3) == 1, value, getattr(layer, name))
    with pytest.raises(InvalidInputError, match=f"{name} holds negative or infinite numbers"):
        make_layer(**{name: values})
