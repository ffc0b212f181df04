"""Gathers the measurements of all layers and samples into the layers of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_ess.analysis.measurement import LARGEST_FUTURE_SHARE, Measurement
from hf_ess.operators import MimoOperator
from hf_ess.report import LayerESS
from model_adapters import LayerOperator


@dataclass(frozen=True)
class MeasuredLayer:
    """What a report says of one run of one module besides its measurement."""

    index: int
    name: str
    call: int
    mixer: str
    groups: int
    multiplicity: int
    state_size: int | None

    @classmethod
    def of(cls, layer: LayerOperator) -> MeasuredLayer:
        """What is to be said of a recorded operator."""
        return cls(
            index=layer.index,
            name=layer.name,
            call=layer.call,
            mixer=layer.mixer,
            groups=layer.operator.groups,
            multiplicity=_multiplicity(layer),
            state_size=layer.operator.state_size,
        )


@dataclass
class _Mixer:
    """Everything measured of one run of one module."""

    layer: MeasuredLayer
    state_size: int | None
    measured: dict[int, tuple[Measurement, int]] = field(default_factory=dict)


def _bound_of(mixer: _Mixer) -> float:
    """The strictest: outputs of zero alone look as if they were computed in any dtype."""
    return min(measurement.residual_bound for measurement, _ in mixer.measured.values())


def _multiplicity(layer: LayerOperator) -> int:
    """How many channels have one state each; an operator that mixes channels has one for all."""
    return 1 if isinstance(layer.operator, MimoOperator) else layer.inputs.shape[-1]


class LayerCollection:
    """Measurements by module and sample; samples may have different lengths.

    Args:
        lengths: tokens of each sample.
        positions: the positions of the report; a sample has those below its length.
    """

    def __init__(self, lengths: Sequence[int], positions: tuple[int, ...]) -> None:
        self.lengths = tuple(lengths)
        self.positions = positions
        self._mixers: dict[tuple[str, int], _Mixer] = {}

    def __len__(self) -> int:
        return len(self._mixers)

    def positions_within(self, length: int) -> tuple[int, ...]:
        """The positions that split a sample of this length."""
        return tuple(position for position in self.positions if position < length)

    def add(self, layer: MeasuredLayer, samples: Sequence[int], measurement: Measurement) -> None:
        """Adds the measurement of one operator, whose batch axis holds the given samples."""
        mixer = self._mixers.setdefault((layer.name, layer.call), _Mixer(layer, layer.state_size))
        if mixer.state_size is not None:
            size = layer.state_size
            mixer.state_size = None if size is None else max(mixer.state_size, size)
        for row, sample in enumerate(samples):
            mixer.measured[sample] = measurement, row

    def names(self) -> set[str]:
        """Of the modules that were measured on any sample."""
        return {mixer.layer.name for mixer in self._mixers.values()}

    def layers(self) -> list[LayerESS]:
        """One `LayerESS` per module and call, in the order in which they ran."""
        return [self._layer(mixer) for mixer in self._mixers.values()]

    def missing_samples(self) -> dict[str, list[int]]:
        """Names of modules that were not measured on every sample, with the samples."""
        everything = {n for n, length in enumerate(self.lengths) if self.positions_within(length)}
        return {
            mixer.layer.name: sorted(everything - set(mixer.measured))
            for mixer in self._mixers.values()
            if everything - set(mixer.measured)
        }

    def _layer(self, mixer: _Mixer) -> LayerESS:
        first, _ = next(iter(mixer.measured.values()))
        tolerances = first.spectral.counts
        reason = self._reason(mixer)
        return LayerESS(
            index=mixer.layer.index,
            name=mixer.layer.name,
            call=mixer.layer.call,
            mixer=mixer.layer.mixer,
            groups=mixer.layer.groups,
            multiplicity=mixer.layer.multiplicity,
            state_size=mixer.state_size,
            verified=not reason,
            reason=reason,
            residual=self._residuals(mixer),
            residual_bound=_bound_of(mixer),
            positions=np.array(self.positions),
            entropy_ess=self._grid(mixer, lambda m: m.spectral.entropy),
            tolerance_ess={
                t: self._grid(mixer, lambda m, t=t: m.spectral.counts[t]) for t in tolerances
            },
            undecided={
                t: self._grid(mixer, lambda m, t=t: m.spectral.undecided[t]) for t in tolerances
            },
            below_floor={
                t: self._grid(mixer, lambda m, t=t: m.spectral.below_floor[t]) == 1
                for t in tolerances
            },
            capacity=self._grid(mixer, lambda m: m.capacity),
            attainable_by_group=self._grid(mixer, lambda m: m.attainable),
            largest_singular_value=self._grid(mixer, lambda m: m.spectral.largest),
            error_bound=self._grid(mixer, lambda m: m.spectral.error_bound),
            singular_values=self._singular_values(mixer),
            entropy_half_width=self._grid(mixer, lambda m: m.spectral.half_width),
            method=", ".join(dict.fromkeys(m.spectral.method for m, _ in mixer.measured.values())),
            method_reason="; ".join(
                dict.fromkeys(m.spectral.reason for m, _ in mixer.measured.values())
            ),
        )

    def _grid(self, mixer: _Mixer, pick: Any) -> NDArray[np.float64]:
        """`[B, G, P]`, NaN where a sample is too short or was not measured."""
        grid = np.full((len(self.lengths), mixer.layer.groups, len(self.positions)), np.nan)
        for sample, (measurement, row) in mixer.measured.items():
            values = pick(measurement)
            values = np.broadcast_to(values, (max(values.shape[0], row + 1), *values.shape[1:]))
            grid[sample, :, : values.shape[-1]] = values[row]
        return grid

    def _singular_values(self, mixer: _Mixer) -> NDArray[np.float32] | None:
        kept = [(s, m.spectral.singular_values, row) for s, (m, row) in mixer.measured.items()]
        if any(values is None for _, values, _ in kept):
            return None
        widest = max(values.shape[-1] for _, values, _ in kept if values is not None)
        shape = len(self.lengths), mixer.layer.groups, len(self.positions), widest
        grid = np.full(shape, np.nan, np.float32)
        for sample, values, row in kept:
            if values is not None:
                grid[sample, :, : values.shape[2]] = 0.0
                grid[sample, :, : values.shape[2], : values.shape[3]] = values[row]
        return grid

    def _residuals(self, mixer: _Mixer) -> NDArray[np.float64]:
        residuals = np.full(len(self.lengths), np.nan)
        for sample, (measurement, row) in mixer.measured.items():
            residuals[sample] = measurement.residual[row]
        return residuals

    def _reason(self, mixer: _Mixer) -> str:
        """Why the layer cannot be trusted, empty where it can."""
        if mixer.layer.name in self.missing_samples():
            return f"it ran on {len(mixer.measured)} of {len(self.lengths)} texts only"
        measurements = [measurement for measurement, _ in mixer.measured.values()]
        future = max(measurement.future_share for measurement in measurements)
        if future > LARGEST_FUTURE_SHARE:
            return f"not causal: weights on future tokens reach {future:.1e} of the largest weight"
        worst = np.nanmax(self._residuals(mixer))
        bound = _bound_of(mixer)
        if not worst <= bound:
            return f"the rebuilt output differs from the layer's by {worst:.1e}, above {bound:.0e}"
        return ""
