"""What `hf-ess analyze` measures on: texts, token ids, or the own texts of a trained checkpoint."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_ess.corpus import read_texts
from hf_ess.errors import InvalidInputError
from hf_ess.report.text import counted
from hf_ess.shipped import trained_folder

STDIN = Path("-")
# Of a trained checkpoint's own texts, unless told otherwise.
SAMPLES = 8


@dataclass(frozen=True)
class DatasetOptions:
    """The options that name files of many texts, as the user gave them."""

    files: list[Path] | None = None
    column: str | None = None
    shuffle: int | None = None

    def check(self) -> None:
        """Refuses options of a dataset without one.

        Raises:
            InvalidInputError: one was given, and --dataset was not.
        """
        if not self.files and self != DatasetOptions(self.files):
            raise InvalidInputError(
                "--column and --shuffle are for the texts of --dataset, which was not given.",
                fix="Add --dataset FILE, or leave them out.",
            )


@dataclass(frozen=True)
class TextOptions:
    """The options that name what is measured on, as the user gave them."""

    text: list[str] | None
    file: list[Path] | None
    ids: Path | None
    samples: int | None
    dataset: DatasetOptions = DatasetOptions()

    def check(self) -> None:
        """Refuses options that exclude each other.

        Raises:
            InvalidInputError: texts, ids, samples and datasets are given together.
        """
        self.dataset.check()
        given = {
            "--text or --file": bool(self.text or self.file),
            "--ids": self.ids is not None,
            "--samples": self.samples is not None and not self.dataset.files,
            "--dataset": bool(self.dataset.files),
        }
        chosen = [name for name, is_given in given.items() if is_given]
        if len(chosen) > 1:
            raise InvalidInputError(f"Give {' or '.join(chosen)}, not {len(chosen)} of them.")


@dataclass(frozen=True)
class AnalysedInputs:
    """What is measured on.

    Attributes:
        inputs: for `hf_ess.analyze`.
        texts: the same as texts, empty where there are none.
        note: what the user should know of it.
        facts: what the report should keep of it, besides the inputs.
    """

    inputs: Any
    texts: list[str] = field(default_factory=list)
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def analysed_inputs(model: str, options: TextOptions, *, stdin_allowed: bool) -> AnalysedInputs:
    """The texts of the options; without any, those of a trained checkpoint's task, or stdin.

    Raises:
        InvalidInputError: nothing to measure on, a file that cannot be read, or texts for a
            checkpoint that knows no words.
    """
    options.check()
    if options.ids is not None:
        return AnalysedInputs({"input_ids": _ids(options.ids, stdin_allowed)})
    if options.dataset.files:
        return _of_dataset(model, options.dataset, options.samples)
    nothing_given = not (options.text or options.file)
    if options.samples is not None or nothing_given:
        own = _own_texts(model, options.samples)
        if own is not None:
            return own
    if not nothing_given:
        _check_knows_words(model)
    texts = _texts(options, stdin_allowed)
    return AnalysedInputs(texts, texts)


def _of_dataset(model: str, options: DatasetOptions, samples: int | None) -> AnalysedInputs:
    _check_knows_words(model)
    files = options.files or []
    texts = read_texts(files, column=options.column, samples=samples, shuffle=options.shuffle)
    facts = {
        "files": [str(path) for path in files],
        "column": options.column,
        "samples": samples,
        "shuffle": options.shuffle,
    }
    said = {name: value for name, value in facts.items() if value is not None}
    names = ", ".join(path.name for path in files)
    note = f"{counted(len(texts), 'text')} of {names}"
    return AnalysedInputs(texts, list(texts), note, {"dataset": said})


def _own_texts(model: str, samples: int | None) -> AnalysedInputs | None:
    """The first test texts of a trained checkpoint, None for another model."""
    if trained_folder(model) is None:
        if samples is None:
            return None
        raise InvalidInputError(
            f"{model} has no texts of its own.",
            causes=["it is no synthetic model that `hf-ess lab train` made"],
            fix="Give --text, --file or --ids instead of --samples.",
        )
    from hf_ess.synthetics import TrainedCheckpoint

    checkpoint = TrainedCheckpoint.read(model)
    count = min(SAMPLES, checkpoint.test_samples) if samples is None else samples
    ids, _ = checkpoint.texts(count)
    arguments = ", ".join(f"{name} {value}" for name, value in checkpoint.task.arguments.items())
    note = (
        f"measured on the first {counted(count, 'text')} of the test set of "
        f"{checkpoint.task.name} ({arguments})"
    )
    return AnalysedInputs(ids, note=note, facts={"samples_of_own_task": count})


def _check_knows_words(model: str) -> None:
    if trained_folder(model) is not None:
        raise InvalidInputError(
            f"{model} was trained on numbers, not on words: it has no tokenizer.",
            fix="Leave the text out, and it is measured on texts of its task (--samples says how "
            "many); or give token ids with --ids.",
        )


def _texts(options: TextOptions, stdin_allowed: bool) -> list[str]:
    chosen = list(options.text or [])
    files = options.file or []
    if not (chosen or files) or STDIN in files:
        _check_stdin(stdin_allowed, "--text or --file")
    chosen += [_read(path) for path in files]
    if chosen:
        return chosen
    if sys.stdin.isatty():
        raise InvalidInputError(
            "There is no text to analyse.",
            fix="Give --text, --file, or pipe a text into the command.",
        )
    return [_read(STDIN)]


def _check_stdin(allowed: bool, instead: str) -> None:
    if not allowed:
        raise InvalidInputError("Several processes cannot read one stdin.", fix=f"Give {instead}.")


def _ids(path: Path, stdin_allowed: bool) -> list[list[int]]:
    """Token ids, one text a line, separated by blanks or commas."""
    if path == STDIN:
        _check_stdin(stdin_allowed, "a file to --ids")
    rows = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        words = line.replace(",", " ").split()
        wrong = next((word for word in words if not word.isdecimal()), None)
        if wrong is not None:
            raise InvalidInputError(
                f"Line {number} of the token ids holds {wrong[:20]!r}, which is no token id.",
                causes=["the file holds a text"],
                fix="Write whole numbers, one text a line; a text goes to --file.",
            )
        if words:
            rows.append([int(word) for word in words])
    if not rows:
        raise InvalidInputError("There are no token ids.", fix="Write them one text a line.")
    return rows


def _read(path: Path) -> str:
    name = "stdin" if path == STDIN else str(path)
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{name} is not UTF-8 text: {error.reason} at byte {error.start}.",
            causes=["it is no text file", "it is in another encoding"],
            fix="Convert it, for example with: iconv -f LATIN1 -t UTF-8",
        ) from error
    except OSError as error:
        raise InvalidInputError(f"{name} cannot be read: {error.strerror}.") from error
