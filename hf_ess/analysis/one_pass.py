"""One forward pass of a model, measured: for loops that are no analysis of texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from hf_ess.analysis.collection import LayerCollection, MeasuredLayer
from hf_ess.analysis.measurement import OperatorMeasurer
from hf_ess.analysis.model_checks import (
    check_finite_result,
    explained_shortage,
    non_finite_error,
)
from hf_ess.analysis.spectral import MeasurementSettings
from hf_ess.errors import NonFiniteError
from hf_ess.report import LayerESS
from model_adapters import LayerOperator, RefusedLayer, record_operators


@dataclass(frozen=True)
class PassMeasurement:
    """What one forward pass showed.

    Attributes:
        layers: every measured run of a mixer, in order, verified or not.
        refused: mixers whose operator could not be had, with reasons.
    """

    layers: list[LayerESS]
    refused: list[RefusedLayer]


def measured_pass(
    model: nn.Module,
    run: Callable[[], object],
    shape: tuple[int, int],
    positions: tuple[int, ...],
    settings: MeasurementSettings,
) -> PassMeasurement:
    """Runs a model once and measures the operator of every mixer while it runs.

    Args:
        model: in evaluation mode; gradients are best switched off around the call.
        run: runs the model once and returns its output.
        shape: samples and tokens `(B, L)` of that run.
        positions: within `1..L-1`.
        settings: of the spectra.

    Raises:
        NonFiniteError: NaN or infinity; names the weights or the layer.
        MemoryBudgetError: an operator does not fit into the memory budget.
        OutOfMemoryError: the device has no memory left.
    """
    samples, length = shape
    collection = LayerCollection([length] * samples, positions)
    refused: list[RefusedLayer] = []

    def measure(layer: LayerOperator) -> None:
        if (layer.operator.batch, layer.operator.length) != shape:
            refused.append(of_other_shape(layer, shape))
            return
        measurement = OperatorMeasurer(layer, positions, settings).measure()
        collection.add(MeasuredLayer.of(layer), range(samples), measurement)

    with record_operators(model, measure) as recorder:
        try:
            with explained_shortage(*shape):
                result = run()
        except NonFiniteError as error:
            raise non_finite_error(model, error.what) from error
    check_finite_result(model, result)
    return PassMeasurement(collection.layers(), [*refused, *recorder.refused])


def of_other_shape(layer: LayerOperator, shape: tuple[int, ...]) -> RefusedLayer:
    """Refuses an operator that mixes other positions than those of the text."""
    operator = layer.operator
    return RefusedLayer(
        layer.name,
        layer.index,
        layer.mixer,
        f"it mixes {operator.batch} x {operator.length} positions, the text has "
        f"{shape[0]} x {shape[1]} tokens",
    )
