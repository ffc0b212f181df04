"""What each process measured, put together as if one had measured everything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_ess.analysis.collection import LayerCollection, MeasuredLayer
from hf_ess.analysis.measurement import Measurement, OperatorMeasurer
from hf_ess.analysis.spectral import MeasurementSettings, SpectralMeasurement
from hf_ess.operators import LinearOperator, ResidualMeter
from hf_ess.operators.groups import some_groups
from model_adapters import LayerOperator, RefusedLayer

# Groups whose outputs are widened to float64 at a time.
GROUPS_AT_ONCE = 64
SAMPLED_WEIGHTS = 8


@dataclass(frozen=True)
class MeasuredPart:
    """Some groups of one layer on one batch.

    Attributes:
        place: number of the batch, and of the layer among those that ran on it.
        first_group: where the groups begin.
    """

    place: tuple[int, int]
    first_group: int
    layer: MeasuredLayer
    samples: list[int]
    measurement: Measurement


@dataclass
class Gathering:
    """Everything that one process found out.

    Attributes:
        parts: what was measured.
        refused: mixers that were not, each with the number of the batch (-1: the trial).
        core_only: mixers of layers that were measured as their core, by layer.
        failed: numbers of samples that could not be analysed, each with the reason.
    """

    parts: list[MeasuredPart] = field(default_factory=list)
    refused: list[tuple[int, RefusedLayer]] = field(default_factory=list)
    core_only: dict[str, str] = field(default_factory=dict)
    failed: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def of_all(cls, gatherings: Sequence[Gathering]) -> Gathering:
        """What all processes found out, in the order in which a single one would have."""
        parts = [part for one in gatherings for part in one.parts]
        refused = [entry for one in gatherings for entry in one.refused]
        core_only = {name: mixer for one in gatherings for name, mixer in one.core_only.items()}
        return cls(
            sorted(parts, key=lambda part: (part.place, part.first_group)),
            sorted(refused, key=lambda entry: entry[0]),
            core_only,
            sorted({entry for one in gatherings for entry in one.failed}),
        )

    def taken_since(self, parts: int, refused: int) -> Gathering:
        """What came after so many parts and refusals; it is no longer here."""
        taken = Gathering(self.parts[parts:], self.refused[refused:], self.core_only, self.failed)
        del self.parts[parts:], self.refused[refused:]
        self.failed = []
        return taken

    def add(self, other: Gathering) -> None:
        """Puts what another one holds after what is here."""
        self.parts += other.parts
        self.refused += other.refused
        self.core_only |= other.core_only
        self.failed += other.failed

    def renumbered(self, new: Mapping[int, int]) -> Gathering:
        """The same with other numbers of samples, without any that failed."""
        parts = [
            replace(part, samples=[new[number] for number in part.samples]) for part in self.parts
        ]
        return replace(self, parts=parts, failed=[])

    def collect(self, collection: LayerCollection) -> None:
        """Adds what was measured to a collection."""
        for _, parts in groupby(self.parts, key=lambda part: part.place):
            first, *others = parts
            measurement = joined([first.measurement, *(part.measurement for part in others)])
            collection.add(first.layer, first.samples, measurement)

    def unsupported(self) -> list[RefusedLayer]:
        """What was not measured, each reason once."""
        by_reason: dict[tuple[str, str], RefusedLayer] = {}
        for _, layer in self.refused:
            by_reason.setdefault((layer.name, layer.reason), layer)
        return list(by_reason.values())


def joined(parts: Sequence[Measurement]) -> Measurement:
    """The measurement of a layer from those of its groups, in order."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        spectral=SpectralMeasurement.joined([part.spectral for part in parts]),
        residual=np.maximum.reduce([part.residual for part in parts]),
        residual_bound=min(part.residual_bound for part in parts),
        future_share=max(part.future_share for part in parts),
    )


class GroupsMeasurer(OperatorMeasurer):
    """Measures some groups of a layer; all but the spectra is said of the whole layer."""

    def __init__(
        self,
        layer: LayerOperator,
        groups: slice,
        positions: tuple[int, ...],
        settings: MeasurementSettings,
    ) -> None:
        self._whole = layer
        super().__init__(_restricted(layer, groups), positions, settings)

    def _meter(self) -> ResidualMeter:
        """Residuals are relative to the largest output of all groups."""
        meter = super()._meter()
        for outputs in torch.split(self._whole.outputs, GROUPS_AT_ONCE, dim=1):
            meter.add(outputs.to(torch.float64), outputs)
        return meter

    def _joined(
        self,
        operator: LinearOperator,
        parts: list[SpectralMeasurement],
        meter: ResidualMeter,
        future: float,
    ) -> Measurement:
        return super()._joined(self._whole.operator, parts, meter, future)


def _restricted(layer: LayerOperator, groups: slice) -> LayerOperator:
    operator = some_groups(layer.operator, groups.start, groups.stop)
    assert operator is not None, "a share holds groups of separable operators only"
    gate, offset = layer.output_gate, layer.output_offset
    return replace(
        layer,
        operator=operator,
        inputs=layer.inputs[:, groups],
        outputs=layer.outputs[:, groups],
        output_gate=None if gate is None else gate[:, groups],
        output_offset=None if offset is None else offset[:, groups],
    )


def digest_of(model: nn.Module, ids: Iterable[torch.Tensor], options: Sequence[Any]) -> str:
    """A short text that is equal for equal work: token ids, options, and some of the weights."""
    digest = hashlib.sha256(repr((type(model).__name__, *options)).encode())
    for row in ids:
        digest.update(repr(row.tolist()).encode())
    # What was dispatched may lie elsewhere in each process, with its numbers or without them.
    dispatched = hasattr(model, "hf_device_map")
    for name, weight in model.named_parameters():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        if weight.is_floating_point() and not weight.is_meta and not dispatched:
            some = weight.detach().reshape(-1)[:SAMPLED_WEIGHTS].to("cpu", torch.float64)
            digest.update(some.numpy().tobytes())
    return digest.hexdigest()
