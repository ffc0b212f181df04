"""ESS of every layer at one moment of a training, as plain numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hf_ess.report import LayerESS, UnsupportedLayer
from hf_ess.report.aggregates import largest_half_width, mean_of, utilization
from hf_ess.report.names import ENTROPY, Metric, resolve_metric


@dataclass(frozen=True)
class LayerSnapshot:
    """Effective state-size of one verified layer: means over samples, channels and positions.

    An `ESSSnapshot` holds one for each of them.

    Attributes:
        index: layer number in the model.
        name: dotted name of the module.
        call: which run of that module within one forward pass, counted from 0.
        mixer: what kind of mixer it is.
        state_size: N, or None where the state grows with the position (softmax attention).
        channels: of the layer.
        attainable: the largest rank that the blocks can have, `min(TSS_i, i, L - i)` (ours).
        entropy_ess: per channel (equation 3 of Parnichkun et al., ICML 2025).
        entropy_half_width: the entropy-ESS is within this fraction of the one given.
        tolerance_ess: per channel, for each tolerance that is above the rounding floor
            (equation 2).
        undecided: for the same tolerances, how many singular values per channel are too close to
            them to be counted for certain.
        below_floor: tolerances that have no count, since rounding noise is above them.
        utilization: entropy-ESS / TSS (section 3); NaN for a layer without capacity.
        tolerance_utilization: tolerance-ESS / TSS, for the same tolerances.
        residual: largest error of the rebuilt output, relative to the largest output.
    """

    index: int
    name: str
    call: int
    mixer: str
    state_size: int | None
    channels: int
    attainable: float
    entropy_ess: float
    entropy_half_width: float
    tolerance_ess: dict[float, float]
    undecided: dict[float, float]
    below_floor: tuple[float, ...]
    utilization: float
    tolerance_utilization: dict[float, float]
    residual: float

    @classmethod
    def of(cls, layer: LayerESS) -> LayerSnapshot:
        """The means of a verified layer of a report."""
        below = tuple(tau for tau in layer.tolerances if layer.below_floor[tau].any())
        counted = [tau for tau in layer.tolerances if tau not in below]
        return cls(
            index=layer.index,
            name=layer.name,
            call=layer.call,
            mixer=layer.mixer,
            state_size=layer.state_size,
            channels=layer.channels,
            attainable=mean_of(layer.attainable_by_group),
            entropy_ess=mean_of(layer.entropy_ess),
            entropy_half_width=largest_half_width(layer),
            tolerance_ess={tau: mean_of(layer.tolerance_ess[tau]) for tau in counted},
            undecided={tau: mean_of(layer.undecided[tau]) for tau in counted},
            below_floor=below,
            utilization=utilization([layer], ENTROPY),
            tolerance_utilization={tau: utilization([layer], tau) for tau in counted},
            residual=float(np.nanmax(layer.residual)),
        )

    @property
    def key(self) -> tuple[str, int]:
        """By which the same run of the same module is found in other snapshots."""
        return self.name, self.call

    def ess(self, metric: Metric) -> float:
        """The value of a metric of the snapshot, NaN for a tolerance below the rounding floor."""
        if metric == ENTROPY:
            return self.entropy_ess
        return self.tolerance_ess.get(float(metric), math.nan)


@dataclass(frozen=True)
class Remark:
    """Something that a person who trains the model should know of a layer.

    An `ESSSnapshot` has them.

    Attributes:
        layer: dotted name of the module.
        kind: "collapse", "saturation", "below floor", "unverified" or "unsupported".
        words: the remark itself.
    """

    layer: str
    kind: str
    words: str


@dataclass(frozen=True)
class ESSSnapshot:
    """Effective state-size of a model at one moment of its training.

    `hf_ess.watch_ess`, `ESSWatch` and `ESSCallback` make it.

    Attributes:
        layers: the verified layers, in order. A layer that is not verified has no numbers.
        unverified: layers whose rebuilt output is not the layer's, with the reason.
        unsupported: mixers that were found and not measured, with the reason.
        noted: what is to be known of single layers.
        tolerances: those that were asked for.
        positions: where the texts were split.
    """

    layers: tuple[LayerSnapshot, ...]
    unverified: tuple[UnsupportedLayer, ...]
    unsupported: tuple[UnsupportedLayer, ...]
    noted: tuple[Remark, ...]
    tolerances: tuple[float, ...]
    positions: tuple[int, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be known, in words."""
        return tuple(remark.words for remark in self.noted)

    def average_ess(self, metric: Metric = ENTROPY) -> float:
        """Mean per channel over the layers that have the metric, weighted by channels.

        NaN if none has it.

        Args:
            metric: "entropy" or one of the tolerances.

        Raises:
            InvalidInputError: no such metric.
        """
        metric = resolve_metric(metric, self.tolerances)
        values = [(layer.channels, layer.ess(metric)) for layer in self.layers]
        known = [(channels, value) for channels, value in values if not math.isnan(value)]
        channels = sum(channels for channels, _ in known)
        return sum(weight * value for weight, value in known) / channels if known else math.nan

    def metrics(self, prefix: str = "ess") -> dict[str, float]:
        """Everything as flat names and finite numbers, for loggers.

        Names are `ess/layer_1/entropy`, `ess/layer_1/utilization`, `ess/layer_1/tolerance_0.001`,
        and without a layer the averages over the model. Where two mixers have the same layer
        number, the names of the modules take its place.
        """
        named = [(f"{prefix}/{label}", layer) for label, layer in self._labelled()]
        found = {f"{prefix}/{ENTROPY}": self.average_ess()}
        found |= {f"{prefix}/tolerance_{tau:g}": self.average_ess(tau) for tau in self.tolerances}
        for name, layer in named:
            found[f"{name}/{ENTROPY}"] = layer.entropy_ess
            found[f"{name}/utilization"] = layer.utilization
            found |= {f"{name}/tolerance_{t:g}": count for t, count in layer.tolerance_ess.items()}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _labelled(self) -> Iterator[tuple[str, LayerSnapshot]]:
        modules = {(layer.index, layer.name) for layer in self.layers}
        count = Counter(index for index, _ in modules)
        for layer in self.layers:
            unique = layer.index >= 0 and count[layer.index] == 1
            label = f"layer_{layer.index}" if unique else layer.name
            yield (f"{label}.{layer.call}" if layer.call else label), layer
