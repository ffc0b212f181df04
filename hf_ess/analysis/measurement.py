"""One operator in, its effective state-size out: formed in chunks, proved, measured, freed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_ess.analysis.smaller_pieces import in_smaller_pieces
from hf_ess.analysis.spectral import MeasurementSettings, SpectralMeasurement
from hf_ess.analysis.streaming import streamed_spectra
from hf_ess.errors import NonFiniteError
from hf_ess.operators import (
    LinearOperator,
    MimoOperator,
    ResidualMeter,
    future_share,
    residual_bound_of,
)
from hf_ess.operators.linear_operator import EVERYTHING, FLOAT64_BYTES
from hf_ess.operators.recurrent import APPLIED_AT_ONCE
from hf_ess.spectra import (
    Request,
    certified_metrics,
    dense_block_singular_values,
    has_own_route,
    operator_block_singular_values,
)
from hf_ess.spectra.routes import DIVIDE_AND_CONQUER
from hf_ess.spectra.windowed import streams
from model_adapters import LayerOperator

# Softmax weights on masked keys are zero to the last bit; structured operators round.
LARGEST_FUTURE_SHARE = 1e-9


@dataclass(frozen=True)
class Measurement:
    """ESS of one operator at the positions that its length allows; arrays are `[B, G, P]`."""

    spectral: SpectralMeasurement
    capacity: NDArray[np.float64]
    attainable: NDArray[np.float64]
    residual: NDArray[np.float64]
    residual_bound: float
    future_share: float


def _largest_rank(operator: LinearOperator, window: tuple[int, int]) -> int:
    future, past = window
    if isinstance(operator, MimoOperator):
        return min(operator.channels_out * future, operator.channels_in * past)
    return min(future, past)


class OperatorMeasurer:
    """Measures one operator, a chunk of its groups at a time."""

    def __init__(
        self, layer: LayerOperator, positions: tuple[int, ...], settings: MeasurementSettings
    ) -> None:
        self.layer = layer
        self.settings = settings
        self.memory_budget = settings.memory_budget
        self.route = settings.dense_route(layer.operator.length, positions)
        self.request = Request(positions, settings.window, settings.spectral_method, settings.floor)

    def measure(self) -> Measurement:
        """The measurement of all groups, in smaller pieces where memory runs out.

        Raises:
            NonFiniteError: features or outputs of the layer are NaN or infinite.
            MemoryBudgetError: one group does not fit into the memory budget.
            OutOfMemoryError: memory ran out, also for the smallest pieces.
        """
        self._check_finite("inputs", self.layer.inputs)
        self._check_finite("outputs", self.layer.outputs)
        return in_smaller_pieces(self._measured_once, self._shrink, self.layer.name, self.settings)

    def _shrink(self) -> bool:
        """Takes smaller pieces from now on; False if there are none."""
        self.memory_budget //= 2
        return self.memory_budget > 0

    def _measured_once(self) -> Measurement:
        operator = self.layer.operator
        meter = self._meter()
        try:
            if has_own_route(operator) and not self.settings.divides:
                parts, future = self._by_structure(meter), 0.0
            else:
                parts, future = self._by_dense_chunks(meter)
        except NonFiniteError as error:
            raise self._non_finite("operator") from error
        return self._joined(operator, parts, meter, future)

    def _meter(self) -> ResidualMeter:
        return ResidualMeter(self.layer.operator.batch)

    def _by_structure(self, meter: ResidualMeter) -> list[SpectralMeasurement]:
        """Spectra without forming M; such operators are causal by construction."""
        operator = self.layer.operator
        # What `apply` holds: features, and stretches of the vectors of the state.
        stretch = operator.batch * APPLIED_AT_ONCE * (operator.state_size or 0)
        bytes_per_group = 8 * (self.layer.inputs[:, :1].numel() + stretch) * FLOAT64_BYTES
        step = max(1, self.memory_budget // (4 * bytes_per_group))
        for start in range(0, operator.groups, step):
            groups = slice(start, min(start + step, operator.groups))
            self._verify(meter, operator.apply(self.layer.inputs[:, groups], groups), groups)
        spectra = operator_block_singular_values(
            operator, self.request, memory_budget=self.memory_budget
        )
        return [SpectralMeasurement.of(spectra, self.settings)]

    def _by_dense_chunks(self, meter: ResidualMeter) -> tuple[list[SpectralMeasurement], float]:
        if streams(self.layer.operator.length, self.request):
            return self._by_rows(meter)
        parts, future = [], 0.0
        for groups in self.layer.operator.group_chunks(self.memory_budget, share=2):
            dense = self.layer.operator.to_dense(groups)
            self._verify(meter, dense @ self.layer.inputs[:, groups].to(torch.float64), groups)
            future = max(future, future_share(dense))
            parts.append(self._measured(dense))
        return parts, future

    def _measured(self, dense: Tensor) -> SpectralMeasurement:
        """The metrics of formed operators `[B, g, L, L]`."""
        budget = self.memory_budget
        if self.route.method != DIVIDE_AND_CONQUER:
            spectra = dense_block_singular_values(dense, self.request, memory_budget=budget)
            return SpectralMeasurement.of(spectra, self.settings)
        metrics = certified_metrics(
            dense.flatten(0, 1),
            self.request.positions,
            self.settings.tolerances,
            memory_budget=budget,
            workspaces=self.settings.workspaces,
        )
        return SpectralMeasurement.certified(metrics, dense.shape[0], self.route)

    def _by_rows(self, meter: ResidualMeter) -> tuple[list[SpectralMeasurement], float]:
        """Windows and residual without ever holding M."""
        spectra, future = streamed_spectra(
            self.layer, self.request, self.memory_budget, partial(self._verify, meter)
        )
        return [SpectralMeasurement.of(part, self.settings) for part in spectra], future

    def _verify(
        self, meter: ResidualMeter, rebuilt: Tensor, groups: slice, rows: slice = EVERYTHING
    ) -> None:
        gate = self.layer.output_gate
        if gate is not None:
            rebuilt = rebuilt * gate[:, groups, rows].to(torch.float64)
        offset = self.layer.output_offset
        if offset is not None:
            rebuilt = rebuilt + offset[:, groups, rows].to(torch.float64)
        meter.add(rebuilt, self.layer.outputs[:, groups, rows])

    def _joined(
        self,
        operator: LinearOperator,
        parts: list[SpectralMeasurement],
        meter: ResidualMeter,
        future: float,
    ) -> Measurement:
        positions = torch.tensor(self.request.positions)
        window = self.settings.window
        capacity = operator.capacity(positions).cpu()
        attainable = operator.attainable(positions).cpu()
        if window is not None:
            attainable = attainable.clamp(max=_largest_rank(operator, window))
        return Measurement(
            spectral=SpectralMeasurement.joined(parts),
            capacity=capacity.numpy().astype(np.float64),
            attainable=attainable.numpy().astype(np.float64),
            residual=meter.residual().numpy(),
            residual_bound=residual_bound_of(self.layer.outputs),
            future_share=future,
        )

    def _check_finite(self, what: str, tensor: Tensor) -> None:
        if not bool(torch.isfinite(tensor).all()):
            raise self._non_finite(what)

    def _non_finite(self, what: str) -> NonFiniteError:
        return NonFiniteError(f"The {what} of layer {self.layer.name} hold NaN or infinity.")
