"""What was found out about some texts, as one file without anything pickled, and back.

Numbers come back to the last bit: arrays as safetensors, packed as those of a report are, and the
rest as JSON in its header, together with the SHA-256 of all of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from hf_ess.analysis.collection import MeasuredLayer
from hf_ess.analysis.gathering import Gathering, MeasuredPart
from hf_ess.analysis.measurement import Measurement
from hf_ess.analysis.spectral import SpectralMeasurement
from hf_ess.errors import ReportError
from hf_ess.report.arrays import pack, unpack
from model_adapters import RefusedLayer

Arrays = dict[str, NDArray[Any]]
RECORD, CHECKSUM = "record", "sha256"
SPECTRAL = ("entropy", "half_width", "largest", "error_bound")
BY_TOLERANCE = ("counts", "undecided", "below_floor")
OF_WHOLE = ("capacity", "attainable")


def piece_bytes(gathering: Gathering, work: str) -> bytes:
    """The file of a gathering.

    Args:
        gathering: of one batch, with everything that has to be remembered.
        work: digest of the work that it is a piece of.
    """
    arrays: Arrays = {}
    parts = []
    for number, part in enumerate(gathering.parts):
        arrays |= {f"{number}.{name}": value for name, value in _arrays(part.measurement).items()}
        parts.append(_part_record(part))
    record = {
        "work": work,
        "parts": parts,
        "refused": [[batch, asdict(layer)] for batch, layer in gathering.refused],
        "core_only": gathering.core_only,
        "failed": gathering.failed,
    }
    text = json.dumps(record, sort_keys=True)
    header = {RECORD: text, CHECKSUM: _checksum(arrays, text)}
    return bytes(safetensors.numpy.save(arrays, header))


def read_piece(path: Path, work: str) -> Gathering:
    """The gathering of a file that `piece_bytes` made for the same work.

    Raises:
        ReportError: the file cannot be read, is damaged, or is of other work.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        text = header[RECORD]
        if header[CHECKSUM] != _checksum(arrays, text):
            raise ReportError("its content does not have the SHA-256 that it records")
        record = json.loads(text)
        if record["work"] != work:
            raise ReportError("it is of other work")
        return _gathering(record, arrays)
    except ReportError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ReportError(f"it cannot be read ({type(error).__name__}: {error})") from error


def _arrays(measurement: Measurement) -> Arrays:
    spectral = measurement.spectral
    arrays = {name: pack(getattr(spectral, name)) for name in SPECTRAL}
    arrays |= {name: pack(getattr(measurement, name)) for name in OF_WHOLE}
    for name in BY_TOLERANCE:
        for rank, values in enumerate(getattr(spectral, name).values()):
            arrays[f"{name}.{rank}"] = pack(values)
    arrays["residual"] = np.ascontiguousarray(measurement.residual)
    if spectral.singular_values is not None:
        arrays["singular_values"] = np.ascontiguousarray(spectral.singular_values)
    return arrays


def _part_record(part: MeasuredPart) -> dict[str, Any]:
    measurement, spectral = part.measurement, part.measurement.spectral
    groups = {name: getattr(spectral, name).shape[1] for name in SPECTRAL}
    groups |= {name: getattr(measurement, name).shape[1] for name in OF_WHOLE}
    return {
        "place": list(part.place),
        "first_group": part.first_group,
        "layer": asdict(part.layer),
        "samples": list(part.samples),
        "groups": groups,
        "tolerances": list(spectral.counts),
        "method": spectral.method,
        "reason": spectral.reason,
        "residual_bound": measurement.residual_bound,
        "future_share": measurement.future_share,
    }


def _gathering(record: dict[str, Any], arrays: Arrays) -> Gathering:
    return Gathering(
        parts=[
            _part(one, {name.partition(".")[2]: arrays[name] for name in names})
            for one, names in zip(record["parts"], _by_part(record, arrays), strict=True)
        ],
        refused=[(batch, RefusedLayer(**layer)) for batch, layer in record["refused"]],
        core_only=record["core_only"],
        failed=[(number, reason) for number, reason in record["failed"]],
    )


def _by_part(record: dict[str, Any], arrays: Arrays) -> list[list[str]]:
    names: list[list[str]] = [[] for _ in record["parts"]]
    for name in arrays:
        names[int(name.partition(".")[0])].append(name)
    return names


def _part(record: dict[str, Any], arrays: Arrays) -> MeasuredPart:
    groups, tolerances = record["groups"], record["tolerances"]

    def grid(name: str, of: str) -> NDArray[Any]:
        return unpack(arrays[name], groups[of])

    fields: dict[str, Any] = {name: grid(name, name) for name in SPECTRAL}
    for name in BY_TOLERANCE:
        fields[name] = {
            tau: grid(f"{name}.{rank}", "entropy") for rank, tau in enumerate(tolerances)
        }
    spectral = SpectralMeasurement(
        **fields,
        singular_values=arrays.get("singular_values"),
        method=record["method"],
        reason=record["reason"],
    )
    measurement = Measurement(
        spectral=spectral,
        capacity=grid("capacity", "capacity"),
        attainable=grid("attainable", "attainable"),
        residual=arrays["residual"],
        residual_bound=record["residual_bound"],
        future_share=record["future_share"],
    )
    first_batch, turn = record["place"]
    layer = MeasuredLayer(**record["layer"])
    place = (first_batch, turn)
    return MeasuredPart(place, record["first_group"], layer, record["samples"], measurement)


def _checksum(arrays: Arrays, text: str) -> str:
    digest = hashlib.sha256(text.encode("ascii"))
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.data if values.size else b"")
    return digest.hexdigest()
