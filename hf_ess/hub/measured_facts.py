"""How a report was measured, as rows of a table: a name and what it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from hf_ess.hub.repeat_command import own_texts_of, settings_of
from hf_ess.report import ESSReport, LayerESS, SampleInfo
from hf_ess.report.conditions import Conditions
from hf_ess.report.publication import is_local
from hf_ess.report.text import counted

MOST_HASHES = 8
VERSIONS = ("hf-ess", "torch", "transformers")
SCOPES = {
    "core": "core: what the mixing function applies",
    "mixer": "mixer: with the convolution and gates around it",
    "jacobian": "jacobian: the derivative of the layer at this text",
}


def measured_facts(report: ESSReport) -> list[tuple[str, str]]:
    """What was measured, where, with what; not yet made safe for Markdown."""
    return [(name, value) for name, value in _facts(report) if value]


def texts_in_words(report: ESSReport) -> str:
    """How many texts, of how many tokens.

    Example:
        `"1 text of 507 tokens"`
    """
    return f"{counted(len(report.samples), 'text')} of {Conditions.of(report).tokens_in_words()}"


def _facts(report: ESSReport) -> Iterator[tuple[str, str]]:
    conditions = Conditions.of(report)
    known = report.provenance
    yield "model", _model(report)
    yield "revision", _word(known.get("revision"))
    yield "class", _word(known.get("model_class"))
    yield "texts", texts_in_words(report)
    yield "source of the texts", "the model's own task" if own_texts_of(report) else ""
    yield "SHA-256", _hashes(report)
    yield "positions", conditions.positions_in_words()
    yield "tolerances", _tolerances(report)
    yield "window", _window(report)
    yield "scope", SCOPES.get(report.scope, report.scope)
    yield "layers", _layers(report)
    yield "method", _methods(report)
    yield "largest residual", _largest_residual(report)
    yield "dtype", _word(known.get("dtype"))
    yield "quantization", _quantization(report)
    yield "attention implementation", _word(known.get("attention_implementation"))
    yield "device", _word(known.get("device"))
    yield "code", "that of the checkpoint" if known.get("remote_code") is True else ""
    yield "versions", _versions(report)


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _model(report: ESSReport) -> str:
    name = _word(report.provenance.get("model"))
    return f"{name} (not loaded from the Hub)" if name and is_local(report) else name


def _hashes(report: ESSReport) -> str:
    shown = [_hash(sample) for sample in report.samples[:MOST_HASHES]]
    left = len(report.samples) - len(shown)
    return ", ".join(shown) + (f" and {left} more in report.json" if left else "")


def _hash(sample: SampleInfo) -> str:
    if sample.text_sha256 is not None or sample.token_ids_sha256 is None:
        return sample.text_sha256 or "none"
    return f"{sample.token_ids_sha256} (of the token ids)"


def _tolerances(report: ESSReport) -> str:
    listed = ", ".join(f"{tolerance:g}" for tolerance in report.tolerances)
    if not report.relative:
        return f"{listed} (absolute)"
    return f"{listed} (relative: fractions of the largest singular value of each block)"


def _window(report: ESSReport) -> str:
    if report.window is None:
        return "none: whole blocks"
    future, past = report.window
    return f"{future} tokens from each position on, {past} before it"


def _layers(report: ESSReport) -> str:
    settings = settings_of(report)
    if "layers" not in settings:
        return ""
    asked = settings["layers"]
    return f"only {', '.join(map(str, asked))}" if isinstance(asked, list) else "all"


def _methods(report: ESSReport) -> str:
    used = Counter(layer.method for layer in report.layers if layer.method)
    named = [f"{method} ({counted(number, 'layer')})" for method, number in used.items()]
    asked = settings_of(report).get("accuracy")
    return ", ".join(named) + (f"; accuracy: {asked}" if isinstance(asked, str) else "")


def _largest_residual(report: ESSReport) -> str:
    """Of the verified layer that came closest to its bound."""
    verified = [layer for layer in report.layers if layer.verified]
    if not verified:
        return ""
    layer = max(verified, key=lambda x: _residual(x) / x.residual_bound)
    return f"{_residual(layer):.1e}, bound {layer.residual_bound:.1e}"


def _residual(layer: LayerESS) -> float:
    known = layer.residual[~np.isnan(layer.residual)]
    return float(known.max()) if known.size else 0.0


def _quantization(report: ESSReport) -> str:
    """What an old report does not say is not taken for none."""
    if "quantization" not in report.provenance:
        return ""
    return _word(report.provenance["quantization"]) or "none"


def _versions(report: ESSReport) -> str:
    versions = report.provenance.get("versions")
    if not isinstance(versions, dict):
        return ""
    return ", ".join(f"{name} {versions[name]}" for name in VERSIONS if name in versions)
