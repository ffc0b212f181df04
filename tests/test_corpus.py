"""Texts of files: the same from every form, and errors that name the file and the place."""

from __future__ import annotations

import gzip
import json
import sys

import pyarrow
import pytest
from pyarrow import parquet

import hf_ess
from hf_ess.corpus import read_texts

TEXTS = ["one two", "drei\nvier", "\u4e94", "w1 w2 w3", "last"]


def write_lines(path, texts, column="text"):
    lines = "".join(json.dumps({"n": n, column: text}) + "\n" for n, text in enumerate(texts))
    path.write_text(lines, encoding="utf-8")
    return path


def write_parquet(path, texts, column="text", rows=2):
    table = pyarrow.table({"n": list(range(len(texts))), column: texts})
    parquet.write_table(table, path, row_group_size=rows)
    return path


@pytest.fixture
def forms(tmp_path):
    """The same texts in every form."""
    lines = write_lines(tmp_path / "a.jsonl", TEXTS)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + lines.read_bytes()))
    plain = "\r\n\r\n\n".join(TEXTS).replace("drei\n", "drei\r\n") + "\n"
    (tmp_path / "a.txt").write_bytes(plain.encode())
    (tmp_path / "a.TXT.gz").write_bytes(gzip.compress(plain.encode()))
    write_parquet(tmp_path / "a.parquet", TEXTS)
    return sorted(tmp_path.iterdir())


def test_every_form_gives_the_same_texts(forms):
    assert len(forms) == 5
    for path in forms:
        assert read_texts(path) == TEXTS


def test_texts_know_where_they_came_from(forms):
    sources = [[text.source for text in read_texts(path)] for path in forms]
    assert [one[2].partition(" of ")[0] for one in sources] == [
        *("paragraph 3", "line 3", "line 3", "row 3", "paragraph 3"),
    ]
    assert all(str(path) in one[0] for one, path in zip(sources, forms, strict=True))


def test_several_files_follow_each_other_and_end_at_samples(forms):
    assert read_texts(forms, samples=7) == (TEXTS * 2)[:7]
    assert read_texts(forms) == TEXTS * 5


def test_what_lies_behind_the_last_sample_is_not_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a b"}\n{"text": "c d"}\nnothing\n')
    assert read_texts(path, samples=2) == ["a b", "c d"]


@pytest.mark.parametrize("samples", [None, 1, 40, 100, 1000])
def test_a_shuffle_draws_each_text_once_and_the_same_ones_again(tmp_path, samples):
    texts = [f"text {number}" for number in range(100)]
    path = write_lines(tmp_path / "a.jsonl", texts)
    drawn = read_texts(path, samples=samples, shuffle=3)
    assert drawn == read_texts(path, samples=samples, shuffle=3)
    assert len(drawn) == len(set(drawn)) == min(samples or 100, 100)
    assert set(drawn) <= set(texts)
    assert drawn != texts[: len(drawn)]
    assert len(drawn) == 1 or drawn != read_texts(path, samples=samples, shuffle=4)


def test_every_text_is_drawn_equally_often(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [str(number) for number in range(6)])
    times = dict.fromkeys(range(6), 0)
    for seed in range(600):
        for text in read_texts(path, samples=2, shuffle=seed):
            times[int(text)] += 1
    # Expected 200 each, with a standard deviation of 11.5; seeds are fixed.
    assert all(abs(count - 200) < 46 for count in times.values())


@pytest.mark.parametrize("write", [write_lines, write_parquet])
def test_columns(tmp_path, write):
    ending = "jsonl" if write is write_lines else "parquet"
    only = write(tmp_path / f"only.{ending}", TEXTS, column="content")
    assert read_texts(only) == read_texts(only, column="content") == TEXTS
    with pytest.raises(hf_ess.InvalidInputError, match=r"no.* 'missing'"):
        read_texts(only, column="missing")


def test_empty_places_are_empty_texts(tmp_path):
    texts = ["a b", None, ""]
    for path in (
        write_lines(tmp_path / "a.jsonl", texts),
        write_parquet(tmp_path / "a.parquet", texts),
    ):
        assert read_texts(path) == ["a b", "", ""]


def damaged_parquet(folder):
    whole = write_parquet(folder / "whole.parquet", TEXTS).read_bytes()
    (folder / "cut.parquet").write_bytes(whole[:-20])
    (folder / "none.parquet").write_bytes(b"")
    (folder / "text.parquet").write_text("no table at all, but long enough to look into")


@pytest.mark.parametrize("name", ["cut.parquet", "none.parquet", "text.parquet"])
def test_damaged_parquet(tmp_path, name):
    damaged_parquet(tmp_path)
    with pytest.raises(hf_ess.InvalidInputError, match=rf"{name} cannot be read"):
        read_texts(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut', r"Line 2 of .*a\.jsonl is no JSON: "),
        (b"[" * 100_000, r"Line 2 of .*a\.jsonl is no JSON: "),
        (b"7", r"Line 2 of .*a\.jsonl is no object of JSON"),
        (b'["a"]', r"Line 2 of .*a\.jsonl is no object of JSON"),
        (b'{"words": "a b"}', r"Line 2 of .*a\.jsonl has no 'text': it has 'words'"),
        (b"{}", r"Line 2 of .*a\.jsonl has no 'text': it has none"),
        (b'{"text": "\xff"}', r"Line 2 of .*a\.jsonl is not UTF-8 text"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a b"}\n' + line + b"\n")
    with pytest.raises(hf_ess.InvalidInputError, match=message):
        read_texts(path)


def test_what_is_no_text_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"text": 7}\n')
    with pytest.raises(hf_ess.InvalidTypeError, match=r"Line 2 of .* holds no text in 'text': '7'"):
        read_texts(path)
    numbers = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": [1, 2]}), numbers)
    with pytest.raises(hf_ess.InvalidInputError, match="no column 'text' of text: it has none"):
        read_texts(numbers)


def test_two_columns_of_text_are_not_guessed_among(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"title": "a", "body": "b"}\n')
    with pytest.raises(hf_ess.InvalidInputError, match="several columns of text: 'title', 'body'"):
        read_texts(path)
    assert read_texts(path, column="body") == ["b"]


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08\x00", gzip.compress(b"x" * 500)[:-9], b"none"])
def test_damaged_gzip(tmp_path, content):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(content)
    with pytest.raises(hf_ess.InvalidInputError, match=r"a\.txt\.gz cannot be read"):
        read_texts(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.parquet", "a.jsonl.gz"])
def test_missing_files_and_folders(tmp_path, name):
    with pytest.raises(hf_ess.InvalidInputError, match=f"{name} cannot be read"):
        read_texts(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(hf_ess.InvalidInputError, match=f"{name} cannot be read"):
        read_texts(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a", "a.parquet.gz", "jsonl"])
def test_other_endings_are_refused(tmp_path, name):
    (tmp_path / name).write_text("a b c")
    with pytest.raises(hf_ess.InvalidInputError, match="has an ending that is not known"):
        read_texts(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_no_text_at_all(tmp_path, name):
    (tmp_path / name).write_text("\n\n")
    with pytest.raises(hf_ess.InvalidInputError, match=rf"{name}: there is no text"):
        read_texts(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"samples": 0}, hf_ess.InvalidInputError),
        ({"samples": 1.5}, hf_ess.InvalidTypeError),
        ({"shuffle": -1}, hf_ess.InvalidInputError),
        ({"shuffle": True}, hf_ess.InvalidTypeError),
    ],
)
def test_options_are_checked(tmp_path, options, error):
    with pytest.raises(error, match=next(iter(options))):
        read_texts(write_lines(tmp_path / "a.jsonl", TEXTS), **options)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet", TEXTS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(hf_ess.MissingDependencyError, match=r"pip install 'hf-ess\[parquet\]'"):
        read_texts(path)
