"""What of a report may be published: the numbers, not the text, nothing of the machine."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

from hf_ess.report.local_paths import HOME, last_component, without_local_paths
from hf_ess.report.records import SampleInfo, UnsupportedLayer
from hf_ess.report.report import ESSReport

LOCAL_MODEL = "local model"
# A folder name that stands for another one says nothing of the model.
_NAMELESS = ("", ".", "..", HOME)
_PATH = re.compile(r"[/~.\\]|[A-Za-z]:[\\/]|file:", re.IGNORECASE)
_LAYER_TEXTS = ("name", "mixer", "reason", "method", "method_reason")

Clean = Callable[[str], str]


def published(report: ESSReport, *, include_text: bool = False) -> ESSReport:
    """A copy without the text and without paths of this machine; it shares the arrays.

    The tokens and token ids of every sample are withheld, their number and the SHA-256 of the
    text and of the ids stay. In every other string, paths are reduced to their last component, a
    model that was loaded from a folder to the name of that folder; `org/name` of the Hub stays.
    Tokens of the Hub and passwords in addresses are taken out. Doing it twice changes nothing more.

    Args:
        report: left as it is.
        include_text: keep tokens and token ids, exactly as they are.

    Example:
        >>> import numpy as np
        >>> from hf_ess.report import ESSReport, SampleInfo
        >>> report = ESSReport(
        ...     layers=[], positions=np.array([1]), tolerances=(0.1,),
        ...     samples=[SampleInfo(length=2, tokens=["my", " secret"], token_ids=[3, 4])],
        ...     provenance={"model": "/home/jane/llama", "model_is_local": True},
        ... )
        >>> shown = published(report)
        >>> shown.samples[0].tokens, shown.samples[0].length, shown.provenance["model"]
        (None, 2, 'llama')
    """
    clean = _cleaner(report)
    shown = copy.copy(report)
    shown.samples = [x if include_text else _withheld(x) for x in report.samples]
    shown.provenance = _cleaned(report.provenance, clean)
    if is_local(report):
        # The name alone could be one of the Hub.
        shown.provenance |= {"model": clean(_model_name(report)), "model_is_local": True}
    shown.warnings = [clean(warning) for warning in report.warnings]
    shown.incomplete_reason = clean(report.incomplete_reason)
    shown.scope = clean(report.scope)
    shown.unsupported = [
        UnsupportedLayer(clean(x.name), x.index, clean(x.mixer), clean(x.reason))
        for x in report.unsupported
    ]
    shown.layers = [copy.copy(layer) for layer in report.layers]
    for layer in shown.layers:
        for name in _LAYER_TEXTS:
            setattr(layer, name, clean(getattr(layer, name)))
    return shown


def is_local(report: ESSReport) -> bool:
    """Whether the model was loaded from this machine, as far as the report tells."""
    model = report.provenance.get("model")
    if not isinstance(model, str):
        return False
    is_path = _PATH.match(model) is not None or model.count("/") > 1 or "\\" in model
    return report.provenance.get("model_is_local") is True or is_path


def _model_name(report: ESSReport) -> str:
    """The name of a local model."""
    name = last_component(str(report.provenance["model"]))
    return LOCAL_MODEL if name in _NAMELESS else name


def _cleaner(report: ESSReport) -> Clean:
    """What is done to every string: a relative path of the model is replaced by its name first."""
    model = report.provenance.get("model")
    # A lone slash is in too many other words.
    if not is_local(report) or len(re.findall(r"[^/\\]+", str(model))) < 2:
        return without_local_paths
    name = _model_name(report)
    return lambda text: without_local_paths(text.replace(str(model), name))


def _withheld(sample: SampleInfo) -> SampleInfo:
    return SampleInfo(
        length=sample.length,
        text_sha256=sample.text_sha256,
        token_ids_sha256=sample.token_ids_sha256,
    )


def _cleaned(value: Any, clean: Clean) -> Any:
    """The value of JSON with every string in it cleaned, names of objects too."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item, clean) for item in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(item, clean) for key, item in value.items()}
    return value
