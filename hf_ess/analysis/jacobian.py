"""`analyze(..., method="jacobian")`: every mixer by its derivatives, named as what it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from hf_ess.analysis.measurement import Measurement, OperatorMeasurer
from hf_ess.analysis.nothing_found import nothing_to_measure
from hf_ess.analysis.run import AnalysisRun
from hf_ess.analysis.spectral import SpectralMeasurement
from hf_ess.errors import UnsupportedModelError
from hf_ess.operators import JacobianOperator, ResidualMeter
from hf_ess.report import LayerESS
from hf_ess.spectra import operator_block_singular_values
from model_adapters import (
    LayerOperator,
    Recorder,
    RefusedLayer,
    Survey,
    SurveyedMixer,
    record_operators,
)
from model_adapters.jacobian import JacobianAdapter
from model_adapters.recorder import Sink

LARGEST_SHARE_LEFT_OUT = 1e-2


class JacobianMeasurer(OperatorMeasurer):
    """Measures a Jacobian, and proves it by differences instead of by `M u = y`."""

    @property
    def jacobian(self) -> JacobianOperator:
        assert isinstance(self.layer.operator, JacobianOperator)
        return self.layer.operator

    def _shrink(self) -> bool:
        """Fewer products at once; a smaller budget would choose another way to the spectra."""
        return self.jacobian.multiply_fewer_at_once()

    def _measured_once(self) -> Measurement:
        return replace(
            super()._measured_once(),
            residual=self.jacobian.derivative_residual().cpu().numpy(),
            residual_bound=self.jacobian.derivative_bound,
        )

    def _by_structure(self, meter: ResidualMeter) -> list[SpectralMeasurement]:
        """Spectra alone: a Jacobian applied to the input does not give the output."""
        spectra = operator_block_singular_values(
            self.layer.operator, self.request, memory_budget=self.memory_budget
        )
        return [SpectralMeasurement.of(spectra, self.settings)]


class JacobianRun(AnalysisRun):
    """Linearises every mixer where it runs, those included that no adapter knows."""

    def _survey(self) -> Survey:
        found = self._look()
        everything: list[SurveyedMixer | RefusedLayer] = [
            *found.mixers,
            *found.refused,
            *found.unclaimed,
        ]
        if not everything:
            raise nothing_to_measure(self.model, found)
        mixers = {
            layer.name: SurveyedMixer(
                layer.name, layer.index, layer.mixer, call=0, future_share=0.0
            )
            for layer in everything
        }
        return Survey(list(mixers.values()), [], [])

    def _recording(self, sink: Sink, chosen: set[str]) -> AbstractContextManager[Recorder]:
        adapter = JacobianAdapter(chosen, self.settings.memory_budget)
        return record_operators(self.model, sink, adapters=[adapter])

    def _measurement(self, layer: LayerOperator, positions: tuple[int, ...]) -> Measurement:
        return JacobianMeasurer(layer, positions, replace(self.settings, method="auto")).measure()

    def _warn_about(self, layers: list[LayerESS]) -> None:
        super()._warn_about(layers)
        cut = [layer.name for layer in layers if _leaves_out_much(layer)]
        if cut:
            self.warn(
                f"The entropy-ESS of {len(cut)} layer(s) leaves out small singular values, first "
                f"{cut[0]}: their blocks are too large for the memory budget."
            )

    def _note_what_is_missing(self, found: Survey, chosen: set[str]) -> None:
        if not len(self.collection):
            reasons = self.gathering.unsupported()[:5]
            raise UnsupportedModelError(
                f"No mixer of {type(self.model).__name__} has a Jacobian that can be measured.",
                causes=[f"{layer.name} ({layer.mixer}): {layer.reason}" for layer in reasons],
            )
        super()._note_what_is_missing(found, chosen)


def _leaves_out_much(layer: LayerESS) -> bool:
    """Whether what random products have not found may be more than a hundredth of the spectrum."""
    left_out = layer.error_bound * layer.attainable_by_group
    share = left_out > LARGEST_SHARE_LEFT_OUT * layer.largest_singular_value
    return "randomized" in layer.method and bool(share.any())
