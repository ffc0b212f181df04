"""The command that measures again what a report holds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from hf_ess.report import ESSReport
from hf_ess.report.conditions import Conditions
from hf_ess.report.publication import is_local, published

PLACEHOLDER = "MODEL"
DTYPES = ("float64", "float32", "bfloat16", "float16")
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?")
# What could be more than a name in a shell, on a terminal or in Markdown is not written out.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. +-]*")
_LAYER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ENDING = re.compile(r"\.(?:jsonl|txt|parquet)(?:\.gz)?$", re.IGNORECASE)
_DEVICE = re.compile(r"([a-z]+)(?::\d+)?")


def repeat_command(report: ESSReport, *, repo_id: str | None = None) -> str:
    """A line for a shell that measures the same, given the texts in files.

    Positions, tolerances and the dtype are written out, so that later defaults change nothing. A
    comment gives the SHA-256 by which the text is known, since a report may come without it.

    Args:
        report: what was measured; nothing of it but its settings and the model enters the line.
        repo_id: where the model is on the Hub, if it was measured from a local folder.

    Example:
        >>> import numpy as np
        >>> from hf_ess.report import ESSReport, SampleInfo
        >>> report = ESSReport(
        ...     layers=[], positions=np.arange(4, 16, 4), tolerances=(0.1,),
        ...     samples=[SampleInfo(length=16)], provenance={"model": "org/model"},
        ... )
        >>> print(repeat_command(report).partition("  #")[0])
        hf-ess analyze org/model --file text.txt --positions 4 --tolerance 0.1
    """
    shown = published(report)
    words = ["hf-ess", "analyze", _model(shown, repo_id), *_files(shown), *_options(shown)]
    return f"{shlex.join(words)}  # {_about_the_texts(shown)}"


def settings_of(report: ESSReport) -> dict[str, Any]:
    """What the report knows of the arguments of the analysis, empty if nothing."""
    settings = report.provenance.get("settings")
    return settings if isinstance(settings, dict) else {}


def hub_id_of(report: ESSReport) -> str | None:
    """The id on the Hub from which the model was loaded, None if there was none."""
    model = report.provenance.get("model")
    named = isinstance(model, str) and HUB_ID.fullmatch(model) is not None
    if not named or is_local(report) or model == report.provenance.get("model_class"):
        return None
    return str(model)


def _model(report: ESSReport, repo_id: str | None) -> str:
    known = hub_id_of(report)
    if known is not None:
        return known
    model = report.provenance.get("model")
    is_file = isinstance(model, str) and model.lower().endswith(".gguf")
    if is_file and _FILE_NAME.fullmatch(str(model)):
        return str(model)
    return repo_id if repo_id is not None and HUB_ID.fullmatch(repo_id) else PLACEHOLDER


def own_texts_of(report: ESSReport) -> int | None:
    """How many texts were of the model's own task, None where others were given."""
    samples = report.provenance.get("samples_of_own_task")
    is_number = isinstance(samples, int) and not isinstance(samples, bool)
    return samples if is_number and samples == len(report.samples) else None


def _files(report: ESSReport) -> Iterator[str]:
    own = own_texts_of(report)
    if own is not None:
        yield from ("--samples", str(own))
        return
    dataset = report.provenance.get("dataset")
    if isinstance(dataset, dict):
        yield from _dataset(dataset)
        return
    for number in range(1, len(report.samples) + 1):
        yield from ("--file", "text.txt" if len(report.samples) == 1 else f"text-{number}.txt")


def _dataset(dataset: dict[str, Any]) -> Iterator[str]:
    """The files of a dataset, by names that stand for them, and which of its texts were taken."""
    files = dataset.get("files")
    endings = [_ENDING.search(str(file)) for file in files] if isinstance(files, list) else []
    for number, ending in enumerate(endings, start=1):
        name = "texts" if len(endings) == 1 else f"texts-{number}"
        yield from ("--dataset", f"{name}{ending[0].lower() if ending else '.jsonl'}")
    column = dataset.get("column")
    if isinstance(column, str) and _LAYER_NAME.fullmatch(column):
        yield from ("--column", column)
    for option in ("samples", "shuffle"):
        value = dataset.get(option)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            yield from (f"--{option}", str(value))


def _options(report: ESSReport) -> Iterator[str]:
    settings = settings_of(report)
    yield from ("--positions", _positions(report))
    for tolerance in report.tolerances:
        yield from ("--tolerance", repr(tolerance))
    if report.relative:
        yield "--relative"
    if report.window:
        yield from ("--window", "{},{}".format(*report.window))
    if layers := _layers(report, settings.get("layers")):
        yield from ("--layers", layers)
    if report.scope == "mixer":
        yield from ("--scope", "mixer")
    method = settings.get("method", "auto")
    if method != "auto" and isinstance(method, str) and _LAYER_NAME.fullmatch(method):
        yield from ("--method", method)
    # Where singular values are kept, every block is decomposed.
    if settings.get("accuracy") == "exact" or settings.get("keep_singular_values") is True:
        yield from ("--accuracy", "exact")
    yield from _handling_options(report, settings)
    yield from _loading_options(report)


def _handling_options(report: ESSReport, settings: dict[str, Any]) -> Iterator[str]:
    for option in ("batch_size", "max_length"):
        number = settings.get(option)
        if isinstance(number, int) and number > 1:
            yield from (f"--{option.replace('_', '-')}", str(number))
    if report.provenance.get("left_out"):
        yield "--leave-out-failing"


def _loading_options(report: ESSReport) -> Iterator[str]:
    known = report.provenance
    # A quantized model has the dtypes of its checkpoint, and cannot be asked for others.
    if known.get("dtype") in DTYPES and not known.get("quantization"):
        yield from ("--dtype", str(known["dtype"]))
    device = str(known.get("device") or "cpu")
    alone = _DEVICE.fullmatch(device)
    if alone is None:
        yield from ("--device-map", "auto")
    elif alone[1] != "cpu":
        yield from ("--device", alone[1])
    revision = known.get("revision")
    if hub_id_of(report) and isinstance(revision, str) and HUB_ID.fullmatch(revision):
        yield from ("--revision", revision)
    if known.get("remote_code") is True:
        yield "--trust-remote-code"


def _positions(report: ESSReport) -> str:
    stride = Conditions.of(report).stride
    if stride == 1:
        return "all"
    if stride is not None:
        return str(stride)
    listed = ",".join(map(str, report.positions.tolist()))
    return listed if "," in listed else f"{listed},"


def _layers(report: ESSReport, asked: Any) -> str:
    """The layers that were asked for; by number, where a name cannot be written as an option."""
    if not isinstance(asked, list):
        return ""
    if not all(map(_can_be_written, asked)):
        asked = sorted({layer.index for layer in report.layers if layer.index >= 0})
    return ",".join(map(str, asked))


def _can_be_written(layer: Any) -> bool:
    if isinstance(layer, str):
        return _LAYER_NAME.fullmatch(layer) is not None
    return isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0


def _about_the_texts(report: ESSReport) -> str:
    known = [sample.text_sha256 for sample in report.samples]
    if own_texts_of(report) is not None:
        return "on texts of the model's own task"
    if not known or None in known:
        return "token ids were measured; a text that gives the same ones repeats it"
    if len(known) == 1:
        return f"SHA-256 of text.txt: {known[0]}"
    return "SHA-256 of the texts: see report.json"
