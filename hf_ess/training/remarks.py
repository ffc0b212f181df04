"""Collapse and saturation: what the numbers of a snapshot say, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hf_ess.errors import InvalidInputError
from hf_ess.report import UnsupportedLayer
from hf_ess.training.snapshot import LayerSnapshot, Remark

COLLAPSE, SATURATION, BELOW_FLOOR = "collapse", "saturation", "below floor"
UNVERIFIED, UNSUPPORTED = "unverified", "unsupported"


@dataclass(frozen=True)
class Thresholds:
    """When a state counts as collapsed or saturated.

    Both are shares of a capacity that the tolerance-ESS fills, of layers with a state of fixed
    size. Parnichkun et al., ICML 2025, figure 7, at a tolerance of 0.001: of a state of 128, GLA
    fills 0.2 and WLA 0.1 and both fail, while LA fills 0.7 and succeeds; of a state of 8 all fill
    0.7 to 0.8 and more, and are too small. The defaults lie just beyond these values.
    Entropy-ESS cannot see a collapse, since scaling an operator does not change it.

    Attributes:
        collapse: at or below this share of the attainable size a state is not used.
        saturation: at or above this share of the state size N a state is full. A probe shows
            that only if it is long enough to fill the state at most of its positions.
        tolerance: of the ESS; of those that were measured, the one closest to it counts.

    Raises:
        InvalidInputError: not `0 <= collapse < saturation`, or no positive tolerance.

    Example:
        >>> from hf_ess.training import Thresholds
        >>> Thresholds(collapse=0.1).saturation
        0.75
    """

    collapse: float = 0.25
    saturation: float = 0.75
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if not (0 <= self.collapse < self.saturation and 0 < self.tolerance < math.inf):
            raise InvalidInputError(
                f"{self} has no meaning.",
                fix="Choose 0 <= collapse < saturation, and a positive tolerance; a collapse of "
                "0 and a saturation above 1 say nothing.",
            )


def remarks_on(
    layers: Sequence[LayerSnapshot],
    first: Sequence[LayerSnapshot],
    thresholds: Thresholds,
    unverified: Sequence[UnsupportedLayer],
    unsupported: Sequence[UnsupportedLayer],
) -> tuple[Remark, ...]:
    """Everything to be said of a snapshot, compared with the layers of the first one."""
    before = {layer.key: layer for layer in first}
    found = [
        remark
        for layer in layers
        for remark in _remarks_on_layer(layer, before.get(layer.key), thresholds)
    ]
    for kind, why, others in (
        (UNVERIFIED, "is not verified, and has no numbers", unverified),
        (UNSUPPORTED, "was not measured", unsupported),
    ):
        for other in others:
            words = f"Layer {other.name} ({other.mixer}) {why}: {other.reason}."
            found.append(Remark(other.name, kind, words))
    return tuple(found)


def _remarks_on_layer(
    layer: LayerSnapshot, first: LayerSnapshot | None, thresholds: Thresholds
) -> Iterator[Remark]:
    who = f"Layer {layer.name} ({layer.mixer})"
    if layer.below_floor:
        listed = ", ".join(f"{tau:g}" for tau in layer.below_floor)
        words = f"{who} has no tolerance-ESS({listed}): rounding noise is above the tolerance."
        yield Remark(layer.name, BELOW_FLOOR, words)
    if layer.state_size is None or not layer.tolerance_ess or not layer.attainable > 0:
        return
    tau = min(layer.tolerance_ess, key=lambda t: abs(math.log(t / thresholds.tolerance)))
    ess = layer.tolerance_ess[tau]
    # Not of min(N, i), which short texts fill at their beginning whatever the state is.
    share, filled = ess / layer.attainable, ess / layer.state_size
    if share <= thresholds.collapse:
        yield Remark(
            layer.name,
            COLLAPSE,
            f"{who} looks like a collapse: its tolerance-ESS({tau:g}) is {ess:.2f} of "
            f"{layer.attainable:.4g} attainable ({share:.0%}), {_since(tau, ess, first)}. "
            "The capacity is there and little of it carries anything; what helps are transitions "
            "closer to one (TransitionRegularizer) or a slower decay at the start.",
        )
    elif filled >= thresholds.saturation:
        yield Remark(
            layer.name,
            SATURATION,
            f"{who} is saturated: its tolerance-ESS({tau:g}) fills {filled:.0%} of its state of "
            f"{layer.state_size}. Where the task is not solved, a larger state may be what it "
            "lacks.",
        )


def _since(tau: float, ess: float, first: LayerSnapshot | None) -> str:
    if first is None or tau not in first.tolerance_ess:
        return "with nothing to compare it to"
    before = first.tolerance_ess[tau]
    return f"{'fallen from' if ess < before else 'not below the'} {before:.2f} of the first time"
