"""Which layers are full and which stand empty, in words, by rules that can be looked up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_ess.plain_text import printable
from hf_ess.report import ESSReport, LayerESS
from hf_ess.report.aggregates import mean_of
from hf_ess.report.tables import number, share

# A layer is saturated if its entropy-ESS, averaged over heads, positions and texts, is at least
# this share of what is attainable there.
SATURATED_SHARE = 0.9
# A layer is collapsed if its average entropy-ESS is at most this: one direction carries all.
COLLAPSED_ENTROPY = 1.1
# Where no more than this is attainable, one direction is all there can be.
LEAST_ATTAINABLE = 2.0

SATURATED, COLLAPSED = "saturated", "collapsed"


def verdict(layer: LayerESS) -> str:
    """What is remarkable about a layer, in one sentence; empty if nothing is.

    * saturated: average entropy-ESS at least `SATURATED_SHARE` of the average attainable rank.
    * collapsed: average entropy-ESS at most `COLLAPSED_ENTROPY`, or no singular value above the
      smallest tolerance that rounding allows.

    Neither is said of entropy where no more than `LEAST_ATTAINABLE` dimensions are attainable on
    average, and nothing of a layer that is not verified.
    """
    if not layer.verified or np.isnan(layer.entropy_ess).all():
        return ""
    empty_at = _empty_at(layer)
    if empty_at is not None:
        return (
            f"Collapsed: no singular value of any head is above {empty_at:g}; what the layer "
            "carries from the past is smaller than that."
        )
    entropy = mean_of(layer.entropy_ess)
    attainable = mean_of(layer.attainable_by_group)
    if attainable <= LEAST_ATTAINABLE:
        return ""
    if entropy >= SATURATED_SHARE * attainable:
        return _saturated(layer, entropy, attainable)
    if entropy <= COLLAPSED_ENTROPY:
        return (
            f"Collapsed: entropy-ESS is {number(entropy)} on average, so that one direction "
            f"carries nearly everything, where {number(attainable)} are attainable."
        )
    return ""


def kind_of(sentence: str) -> str:
    """`"saturated"`, `"collapsed"`, or empty, of a sentence from `verdict`.

    Example:
        >>> kind_of("Collapsed: no singular value of any head is above 1e-05.")
        'collapsed'
    """
    word = sentence.partition(":")[0].lower()
    return word if word in (SATURATED, COLLAPSED) else ""


def findings(report: ESSReport) -> list[str]:
    """The proof, the saturated and the collapsed layers of a report, a sentence each."""
    verified = sum(layer.verified for layer in report.layers)
    labelled = zip(layer_labels(report), report.layers, strict=True)
    named = [(label, kind_of(verdict(layer))) for label, layer in labelled]
    sentences = [_proved(report, verified)]
    for kind in (SATURATED, COLLAPSED):
        labels = [label for label, found in named if found == kind]
        if labels:
            noun = "Layers" if len(labels) > 1 else "Layer"
            verb = "are" if len(labels) > 1 else "is"
            sentences.append(f"{noun} {_listed(labels)} {verb} {kind}.")
    if verified and not any(found for _, found in named):
        sentences.append("No layer is saturated or collapsed.")
    return sentences


def layer_labels(report: ESSReport) -> list[str]:
    """A short name for every layer: its number, and what mixes where a layer holds several."""
    labels = [layer.label for layer in report.layers]
    return [
        printable(label if labels.count(label) == 1 else f"{label} {layer.mixer}")
        for label, layer in zip(labels, report.layers, strict=True)
    ]


def _proved(report: ESSReport, verified: int) -> str:
    found = len(report.layers)
    left_out = len(report.unsupported)
    more = f" {left_out} more could not be measured." if left_out else ""
    if not verified:
        return f"None of the {found} measured layers is verified, so no number is shown.{more}"
    return (
        f"{verified} of {found} measured layers are verified: their operators rebuild what the "
        f"layers computed.{more}"
    )


def _saturated(layer: LayerESS, entropy: float, attainable: float) -> str:
    part = share(entropy / attainable)
    if layer.state_size is None:
        return f"Saturated: entropy-ESS is {part} of what is attainable; nearly every token counts."
    return (
        f"Saturated: entropy-ESS is {part} of what a state of {layer.state_size} can hold here; a "
        "larger state might hold more."
    )


def _empty_at(layer: LayerESS) -> float | None:
    """The smallest tolerance that says something, if no count at it is above zero."""
    sound = [t for t in layer.tolerances if not layer.below_floor[t].any()]
    if not sound:
        return None
    smallest = min(sound)
    return smallest if np.nanmax(layer.tolerance_ess[smallest]) == 0 else None


def _listed(labels: Sequence[str]) -> str:
    if len(labels) < 2:
        return "".join(labels)
    return f"{', '.join(labels[:-1])} and {labels[-1]}"
