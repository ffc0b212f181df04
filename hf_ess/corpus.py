"""Texts of files of many: JSON lines, Parquet, or plain text by paragraphs.

Each text remembers its file and its place there, so that an error can name it.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from hf_ess.arguments import check_whole
from hf_ess.errors import InvalidInputError, InvalidTypeError, MissingDependencyError

COLUMN = "text"
JSON_LINES, PARQUET, PLAIN = ".jsonl", ".parquet", ".txt"
COMPRESSED = ".gz"
# Rows of a Parquet file that are in memory at a time.
ROWS_AT_ONCE = 256
# Names of columns in a message.
LISTED = 10


class SourcedText(str):
    """A text that knows where it came from.

    Attributes:
        source: its file and place there.

    Example:
        >>> SourcedText("To be, or not to be", "line 3 of plays.jsonl").source
        'line 3 of plays.jsonl'
    """

    __slots__ = ("source",)
    source: str

    def __new__(cls, text: str, source: str) -> SourcedText:
        """A text with its source."""
        made = super().__new__(cls, text)
        made.source = source
        return made


def source_of(text: str, number: int) -> str:
    """Where a text came from; its number, counted from 0, where it does not say.

    Example:
        >>> source_of("some text", 4)
        'text 4'
    """
    return text.source if isinstance(text, SourcedText) else f"text {number}"


def sentence_start(source: str) -> str:
    """A source at the beginning of a sentence; a path stays as it is.

    Example:
        >>> sentence_start("line 3 of plays.jsonl")
        'Line 3 of plays.jsonl'
    """
    is_word = source.startswith(("line ", "row ", "paragraph ", "sample ", "text ", "the text"))
    return source[0].upper() + source[1:] if is_word else source


def read_texts(
    files: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    column: str | None = None,
    samples: int | None = None,
    shuffle: int | None = None,
) -> list[SourcedText]:
    r"""The texts of some files, in the order of the files, or drawn at random.

    The ending says what a file is: `.jsonl`, an object of JSON on each line; `.txt`, paragraphs
    between blank lines; both also compressed, `.jsonl.gz` and `.txt.gz`; `.parquet`. JSON lines
    and Parquet are read a part at a time, so that `samples` texts are all that is kept in memory.

    Args:
        files: paths.
        column: field of the objects or column of the table that holds the text; by default
            "text", or the only one that holds text.
        samples: the first so many texts; all by default.
        shuffle: a seed: the texts are drawn from all of them, in random order.

    Raises:
        InvalidInputError: a file cannot be read, is damaged, lacks the column, or there is no
            text; the message names the file and the line or row.
        InvalidTypeError: `samples` or `shuffle` is no whole number.
        MissingDependencyError: a Parquet file, and pyarrow is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "two.jsonl")
        ...     _ = path.write_text('{"text": "one"}\n{"text": "two"}\n')
        ...     [str(text) for text in read_texts(path)]
        ['one', 'two']
    """
    paths = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    if samples is not None:
        check_whole("samples", samples, least=1)
    if shuffle is not None:
        check_whole("shuffle", shuffle, least=0)
    every = (text for path in paths for text in _texts(Path(path), column))
    texts = _drawn(every, samples, shuffle)
    if not texts:
        names = ", ".join(map(str, paths)) or "No file"
        raise InvalidInputError(f"{names}: there is no text.")
    return texts


def paragraphs(text: str) -> tuple[str, ...]:
    r"""The parts of a text between blank lines.

    Example:
        >>> paragraphs("one\ntwo\n\n\nthree\n")
        ('one\ntwo', 'three')
    """
    return tuple(part.strip() for part in re.split(r"\n[^\S\n]*\n", text) if part.strip())


def _drawn(
    texts: Iterable[SourcedText], samples: int | None, shuffle: int | None
) -> list[SourcedText]:
    """The first texts, or random ones; only those that are kept are ever held."""
    if shuffle is None:
        return list(islice(texts, samples))
    chance, kept = random.Random(shuffle), list[SourcedText]()
    for number, text in enumerate(texts):
        if samples is None or number < samples:
            kept.append(text)
        elif (place := chance.randrange(number + 1)) < samples:
            kept[place] = text
    chance.shuffle(kept)
    return kept


def _texts(path: Path, column: str | None) -> Iterator[SourcedText]:
    ending = path.name.lower().removesuffix(COMPRESSED)
    with _explained(path):
        if ending.endswith(JSON_LINES):
            yield from _of_json_lines(path, column)
        elif ending.endswith(PLAIN):
            yield from _of_plain_text(path)
        elif path.suffix.lower() == PARQUET:
            yield from _of_parquet(path, column)
        else:
            raise InvalidInputError(
                f"{path} has an ending that is not known.",
                fix=f"Give files that end with {JSON_LINES}, {PLAIN} (both also with {COMPRESSED}) "
                f"or {PARQUET}.",
            )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(
            f"{path} cannot be read: {reason}.",
            causes=["there is no such file", "it is damaged, or its download was cut short"],
        ) from error


def _lines(path: Path) -> Iterator[bytes]:
    compressed = path.name.lower().endswith(COMPRESSED)
    with gzip.open(path, "rb") if compressed else open(path, "rb") as file:
        yield from file


def _of_plain_text(path: Path) -> Iterator[SourcedText]:
    text = "\n".join(
        _decoded(line, f"Line {number} of {path}", first=number == 1).rstrip("\r\n")
        for number, line in enumerate(_lines(path), start=1)
    )
    for number, part in enumerate(paragraphs(text), start=1):
        yield SourcedText(part, f"paragraph {number} of {path}")


def _of_json_lines(path: Path, column: str | None) -> Iterator[SourcedText]:
    for number, line in enumerate(_lines(path), start=1):
        place = f"line {number} of {path}"
        words = _decoded(line, sentence_start(place), first=number == 1)
        if not words.strip():
            continue
        record = _record(words, place)
        column = _text_column(column, record, place)
        if column not in record:
            raise InvalidInputError(
                f"{sentence_start(place)} has no {column!r}: it has {_listed(list(record))}.",
                fix="Put it right, or name the column (--column).",
            )
        yield _checked(record[column], column, place)


def _of_parquet(path: Path, column: str | None) -> Iterator[SourcedText]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is a Parquet file, which needs pyarrow.",
            fix="pip install 'hf-ess[parquet]', or convert it to JSON lines.",
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            column = _parquet_column(column, file.schema_arrow, path)
            rows = (
                value
                for part in file.iter_batches(ROWS_AT_ONCE, columns=[column])
                for value in part.column(0).to_pylist()
            )
            for number, value in enumerate(rows, start=1):
                yield _checked(value, column, f"row {number} of {path}")
    except pyarrow.ArrowException as error:
        raise InvalidInputError(
            f"{path} cannot be read: {str(error).splitlines()[0]}",
            causes=["it is no Parquet file", "it is damaged, or its download was cut short"],
        ) from error


def _parquet_column(column: str | None, schema: Any, path: Path) -> str:
    of_text = ("string", "large_string", "string_view")
    names = [field.name for field in schema if str(field.type) in of_text]
    found = _text_column(column, dict.fromkeys(names, ""), str(path))
    if found not in names:
        raise InvalidInputError(
            f"{path} has no column {found!r} of text: it has {_listed(names)}.",
            fix="Name another column (--column).",
        )
    return found


def _decoded(line: bytes, place: str, *, first: bool) -> str:
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{place} is not UTF-8 text: {error.reason} at byte {error.start} of the line.",
            causes=["the file is in another encoding, or no text"],
            fix="Convert it, for example with: iconv -f LATIN1 -t UTF-8",
        ) from error


def _record(words: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"{sentence_start(place)} is no JSON: {error}.",
            causes=["the file was cut short", "an object goes over several lines"],
            fix='Write an object on each line, as {"text": "..."}.',
        ) from error
    if not isinstance(record, dict):
        raise InvalidInputError(
            f"{sentence_start(place)} is no object of JSON.",
            fix='Write an object on each line, as {"text": "..."}.',
        )
    return record


def _text_column(column: str | None, record: dict[str, Any], place: str) -> str:
    """The column that was named, or the one that must be meant."""
    if column is not None:
        return column
    texts = [name for name, value in record.items() if isinstance(value, str)]
    if COLUMN in record or not texts:
        return COLUMN
    if len(texts) > 1:
        raise InvalidInputError(
            f"{sentence_start(place)} has no {COLUMN!r} and several columns of text: "
            f"{_listed(texts)}.",
            fix="Name one of them (--column).",
        )
    return texts[0]


def _checked(value: Any, column: str, place: str) -> SourcedText:
    """A text; nothing in its place is an empty one, about which the analysis decides."""
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise InvalidTypeError(
            f"{sentence_start(place)} holds no text in {column!r}: {str(value)[:40]!r}."
        )
    return SourcedText(value, place)


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:LISTED])
    return shown + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "") or "none"
