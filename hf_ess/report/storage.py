"""Saving a report as `report.json` and `arrays.safetensors`, and loading it.

The JSON file is canonical: sorted keys, ASCII, no NaN. Everything that describes the measurement
is under `content`, which carries its own SHA-256 and that of the array file, so that neither can
be altered or exchanged without notice. The time of the measurement stands beside it, so that two
equal measurements have equal contents.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from hf_ess.errors import HfEssError, OutputPathError, ReportError
from hf_ess.report.arrays import ids_name, layer_arrays, report_arrays
from hf_ess.report.files import replace_together
from hf_ess.report.layer import LayerESS
from hf_ess.report.records import SampleInfo, UnsupportedLayer, plain
from hf_ess.report.schema import check_document

if TYPE_CHECKING:
    from hf_ess.report.report import ESSReport

SCHEMA_VERSION = 3
OLDEST_VERSION = 1
JSON_NAME = "report.json"
ARRAYS_NAME = "arrays.safetensors"
# A thousand times what the tokens of a long text take.
MOST_JSON_BYTES = 2**30
# What numbers and arrays that do not fit together raise.
_CONTRADICTIONS = (
    *(KeyError, IndexError, TypeError, ValueError, ArithmeticError, MemoryError),
    HfEssError,
)
LAYER_FIELDS = (
    "index", "name", "call", "mixer", "groups", "multiplicity", "state_size", "verified",
    "residual_bound", "reason", "method", "method_reason",
)  # fmt: skip
REPORT_FIELDS = (
    "relative", "scope", "complete", "incomplete_reason", "provenance", "warnings",
)  # fmt: skip
SAMPLE_FIELDS = ("length", "text_sha256", "text_withheld", "token_ids_sha256", "tokens")


def save_report(
    report: ESSReport, folder: str | os.PathLike[str], *, overwrite: bool = True
) -> Path:
    """Write the two files of a report, both or neither, and return the folder.

    Raises:
        OutputPathError: the folder cannot be written, its disk is full, or it holds a report
            and `overwrite` is off. An earlier report there is then unharmed.
        ReportError: the report holds something that a saved one cannot.
    """
    target = Path(folder)
    if not overwrite and (target / JSON_NAME).exists():
        raise OutputPathError(
            f"{str(target)!r} holds a report already.",
            fix="Choose another folder, or pass overwrite=True.",
        )
    document, arrays = serialize(report)
    text = json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n"
    replace_together(target, {ARRAYS_NAME: arrays, JSON_NAME: text.encode("ascii")})
    return target


def serialize(report: ESSReport) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the bytes of the array file.

    Raises:
        ReportError: the report holds something that a saved one cannot.
    """
    arrays = safetensors.numpy.save(report_arrays(report.layers, report.samples))
    content: dict[str, Any] = {name: plain(getattr(report, name)) for name in REPORT_FIELDS}
    content |= {
        "arrays": {
            "file": ARRAYS_NAME,
            "bytes": len(arrays),
            "sha256": hashlib.sha256(arrays).hexdigest(),
        },
        "layers": [{name: getattr(x, name) for name in LAYER_FIELDS} for x in report.layers],
        "positions": report.positions.tolist(),
        "samples": [{name: getattr(x, name) for name in SAMPLE_FIELDS} for x in report.samples],
        "tolerances": list(report.tolerances),
        "unsupported": [
            {"name": x.name, "index": x.index, "mixer": x.mixer, "reason": x.reason}
            for x in report.unsupported
        ],
        "window": list(report.window) if report.window else None,
    }
    document = {
        "schema_version": SCHEMA_VERSION,
        "created_at": report.created_at,
        "content": content,
        "content_sha256": content_sha256(content),
    }
    try:
        check_document(document)
    except ValueError as error:
        raise ReportError(
            f"The report cannot be written: {error}.",
            causes=["a field was set to a value of another type"],
            fix="Put it right; docs/schema says what each field holds.",
        ) from error
    return document, arrays


def content_sha256(content: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON form of the content, in hexadecimal."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def load_report(folder: str | os.PathLike[str]) -> ESSReport:
    """Read and check a saved report.

    Raises:
        ReportError: a file is missing, truncated or altered, or of an unknown version.
    """
    source = Path(folder)
    document = _read_document(source / JSON_NAME)
    content = document["content"]
    arrays = _read_arrays(source / ARRAYS_NAME, content["arrays"])
    try:
        with np.errstate(invalid="raise", over="raise"):
            return _build(document["created_at"], content, arrays)
    except _CONTRADICTIONS as error:
        raise ReportError(
            f"The report in {str(source)!r} contradicts itself: {error}",
            causes=["it was written by another program"],
            fix="Analyse again, and save with ESSReport.save.",
        ) from error


def _build(created_at: str, content: dict[str, Any], arrays: dict[str, Any]) -> ESSReport:
    from hf_ess.report.report import ESSReport

    tolerances = tuple(content["tolerances"])
    positions = content["positions"]
    layers = [
        LayerESS(
            positions=positions,
            **{name: record[name] for name in LAYER_FIELDS if name in record},
            **layer_arrays(arrays, number, record["groups"], tolerances),
        )
        for number, record in enumerate(content["layers"])
    ]
    samples = [_sample(number, record, arrays) for number, record in enumerate(content["samples"])]
    return ESSReport(
        layers=layers,
        unsupported=[UnsupportedLayer(**record) for record in content["unsupported"]],
        positions=positions,
        tolerances=tolerances,
        samples=samples,
        window=content["window"],
        created_at=created_at,
        **{name: content[name] for name in REPORT_FIELDS},
    )


def _sample(number: int, record: dict[str, Any], arrays: dict[str, Any]) -> SampleInfo:
    # The first two versions withhold nothing.
    withheld = record.get("text_withheld", False)
    fields = {name: value for name, value in record.items() if name != "text_withheld"}
    return SampleInfo(**fields, token_ids=None if withheld else arrays[ids_name(number)])


def _read_document(path: Path) -> dict[str, Any]:
    data = _read_bytes(path, MOST_JSON_BYTES)
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no valid JSON ({error})") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
        raise ReportError(
            f"{str(path)!r} has schema version {version}; this hf_ess reads up to "
            f"{SCHEMA_VERSION}.",
            causes=["the report was saved by a newer hf_ess"],
            fix="Upgrade with: pip install --upgrade hf-ess",
        )
    if isinstance(version, bool) or version not in range(OLDEST_VERSION, SCHEMA_VERSION + 1):
        raise _damaged(path, f"schema_version is {version!r}")
    try:
        check_document(document)
        found = content_sha256(document["content"])
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if found != document["content_sha256"]:
        raise _damaged(path, "its content does not have the recorded SHA-256")
    return dict(document)


def _read_arrays(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    data = _read_bytes(path, record["bytes"])
    if len(data) != record["bytes"]:
        raise _damaged(path, f"it has {len(data)} bytes instead of {record['bytes']}")
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise _damaged(path, "it does not have the SHA-256 that report.json records")
    try:
        return dict(safetensors.numpy.load(data))
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error)) from error


def _read_bytes(path: Path, most: int) -> bytes:
    """All of a file of at most so many bytes; a pipe or a device, which may have no end, is none.

    Raises:
        ReportError: it is no file, longer than that, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path.name} is no file")
        if status.st_size > most:
            raise _damaged(path, f"it has {status.st_size} bytes instead of at most {most}")
        return path.read_bytes()
    except OSError as error:
        raise ReportError(
            f"Cannot read {str(path)!r}: {error.strerror or error}.",
            causes=["the folder is not that of a saved report", "the report was not completed"],
            fix=f"Pass the folder that holds {JSON_NAME} and {ARRAYS_NAME}.",
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")


def _damaged(path: Path, reason: str) -> ReportError:
    return ReportError(
        f"{str(path)!r} is damaged: {reason}.",
        causes=["the download or copy was cut short", "a file was edited or exchanged"],
        fix="Copy both files again from where they were saved, or analyse again.",
    )
