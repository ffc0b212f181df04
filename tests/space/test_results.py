"""Results outlive a restart, stay below their bytes, and are found by nothing but their key."""

from __future__ import annotations

import os

import pytest
from report.synthetic import make_report
from space.measured import spectral_report

from hf_ess.errors import InvalidInputError, OutputPathError
from hf_ess.space.results import ResultStore, result_key
from hf_ess.space.view import view

KEYS = [character * 32 for character in "abcdef"]


def store_in(folder, bytes_kept=10**9, **options):
    return ResultStore(folder / "results", bytes_kept, **options)


def age(store, key, seconds):
    """Pretends that a result was last used so long ago."""
    path = store.folder / key
    used = path.stat().st_mtime - seconds
    os.utime(path, (used, used))


def test_a_result_is_found_after_a_restart(tmp_path):
    report = spectral_report()
    store_in(tmp_path).put(KEYS[0], report)
    again = store_in(tmp_path).get(KEYS[0])
    assert again.fingerprint() == report.fingerprint()
    assert view(again) == view(report)
    assert store_in(tmp_path).get(KEYS[1]) is None


def test_the_key_is_that_of_what_is_measured():
    one = result_key("org/model", "c0ffee", "text", {"positions": "auto"})
    assert one == result_key("org/model", "c0ffee", "text", {"positions": "auto"})
    others = [
        result_key("org/other", "c0ffee", "text", {"positions": "auto"}),
        result_key("org/model", "c0ffe", "text", {"positions": "auto"}),
        result_key("org/model", "c0ffee", "text ", {"positions": "auto"}),
        result_key("org/model", "c0ffee", "text", {"positions": "all"}),
        result_key("org/model", "c0ffee", "\ud800", {"positions": "auto"}),
    ]
    assert len({one, *others}) == 6


@pytest.mark.parametrize(
    "key",
    ["", ".", "..", "../" + "a" * 29, "/etc/passwd", "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n",
     "a" * 31 + "/", "a" * 31 + "\0", None, 5],
)  # fmt: skip
def test_what_is_no_key_opens_nothing(tmp_path, key):
    store = store_in(tmp_path)
    with pytest.raises(InvalidInputError, match="does not name a result"):
        store.get(key)
    with pytest.raises(InvalidInputError, match="does not name a result"):
        store.put(key, make_report())
    assert list(tmp_path.rglob("*.json")) == []


def test_the_longest_unused_results_go(tmp_path):
    store = store_in(tmp_path)
    store.put(KEYS[0], spectral_report())
    size = sum(file.stat().st_size for file in (store.folder / KEYS[0]).iterdir())
    store.bytes_kept = int(3.5 * size)
    for number, key in enumerate(KEYS[1:3], start=1):
        store.put(key, spectral_report())
        age(store, key, 100 - number)
    age(store, KEYS[0], 100)
    assert store.get(KEYS[0]) is not None
    store.put(KEYS[3], spectral_report())
    assert sorted(store.keys()) == [KEYS[0], KEYS[2], KEYS[3]]
    assert store.get(KEYS[1]) is None
    assert store.keys()[0] in (KEYS[0], KEYS[3])


def test_the_result_of_now_is_kept_however_large(tmp_path):
    store = store_in(tmp_path, bytes_kept=10)
    for key in KEYS[:3]:
        store.put(key, spectral_report())
        assert store.keys() == [key]
        assert store.get(key) is not None


def test_a_damaged_result_is_as_if_it_were_not_there(tmp_path):
    store_in(tmp_path).put(KEYS[0], make_report())
    store = store_in(tmp_path)
    arrays = store.folder / KEYS[0] / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1])
    assert store.get(KEYS[0]) is None
    assert store.keys() == []


def test_a_result_can_be_measured_anew(tmp_path):
    store = store_in(tmp_path)
    store.put(KEYS[0], make_report(2))
    store.put(KEYS[0], make_report(3))
    assert len(store.get(KEYS[0]).layers) == 3
    assert len(store_in(tmp_path).get(KEYS[0]).layers) == 3


def test_texts_are_kept_unless_the_operator_says_otherwise(tmp_path):
    report = spectral_report()
    keeping = store_in(tmp_path / "keeping")
    keeping.put(KEYS[0], report)
    assert store_in(tmp_path / "keeping").get(KEYS[0]).samples[0].tokens is not None
    discreet = store_in(tmp_path / "discreet", keep_texts=False)
    discreet.put(KEYS[0], report)
    for store in (discreet, store_in(tmp_path / "discreet")):
        found = store.get(KEYS[0])
        assert found.samples[0].tokens is None
        assert view(found)["tokens"] is None
    written = b"".join(file.read_bytes() for file in discreet.folder.rglob("*") if file.is_file())
    assert b"word1" not in written
    assert report.samples[0].tokens is not None


def test_what_was_left_half_written_is_removed(tmp_path):
    store = store_in(tmp_path)
    half = store.folder / f".{KEYS[0]}.abc123.tmp"
    half.mkdir()
    (half / "report.json").write_text("{")
    (store.folder / "notes of the operator").mkdir()
    again = store_in(tmp_path)
    assert not half.exists()
    assert again.keys() == []
    assert (store.folder / "notes of the operator").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(OutputPathError, match="results"):
        store_in(tmp_path)
