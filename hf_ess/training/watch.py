"""`hf_ess.watch_ess`: ESS of a model in the middle of its training, for any training loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from hf_ess.analysis.analyze import DEFAULT_TOLERANCES, checked_tolerances
from hf_ess.analysis.model_checks import check_model, check_token_ids
from hf_ess.analysis.run import AnalysisRun
from hf_ess.analysis.samples import check_inputs, samples_from
from hf_ess.analysis.spectral import MeasurementSettings
from hf_ess.report import ESSReport, UnsupportedLayer
from hf_ess.spectra import DEFAULT_MEMORY_BUDGET, Positions
from hf_ess.training.few_positions import FEW, training_positions
from hf_ess.training.remarks import Thresholds, remarks_on
from hf_ess.training.snapshot import ESSSnapshot, LayerSnapshot
from hf_ess.training.undisturbed import undisturbed, without_autocast
from hf_ess.training.wrapped import unwrapped
from model_adapters import Recorder, Survey
from model_adapters.layer_choice import Layers, checked_layers, names_of_layers
from model_adapters.recorder import Sink

# Samples that run together; each holds its operators at the same time as the others.
BATCH_SIZE = 8


def watch_ess(
    model: nn.Module,
    inputs: Any,
    tokenizer: Any | None = None,
    *,
    layers: Layers = None,
    positions: Positions = FEW,
    tolerances: Sequence[float] = DEFAULT_TOLERANCES,
    thresholds: Thresholds | None = None,
    first: ESSSnapshot | None = None,
) -> ESSSnapshot:
    """ESS of every layer on some texts, without a trace in the training.

    The model may be in training mode, wrapped (DistributedDataParallel) or compiled; it runs in
    evaluation mode and without gradients. Its mode, its buffers, its gradients and the random
    numbers are afterwards what they were before, so that the training computes the same to the
    bit. Within `torch.autocast` the model runs as it trains there.

    Every call looks first for mixers; `ESSWatch` does that once.

    Args:
        model: a causal language model, as `hf_ess.analyze` takes it.
        inputs: str, list of str, LongTensor `[B, L]`, or a BatchEncoding; the same each time,
            so that the numbers of a training can be compared.
        tokenizer: needed for text.
        layers: indices or names, None for all.
        positions: "few" (four, evenly spread over the shortest text), or as `hf_ess.analyze`
            takes them.
        tolerances: of the tolerance-ESS, absolute.
        thresholds: when a state counts as collapsed or saturated.
        first: what remarks compare with.

    Raises:
        InvalidInputError, InvalidTypeError: an argument cannot be used.
        UnsupportedModelError: the model has no causal mixer that an adapter knows, or its weights
            are spread over processes.
        NonFiniteError: NaN or infinity in weights or features.

    Example:
        >>> import torch, hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["GLA", "SA"], vocab_size=16, hidden_size=16))
        >>> snapshot = hf_ess.watch_ess(model.train(), torch.arange(24)[None] % 16)
        >>> [layer.mixer for layer in snapshot.layers], model.training
        (['gated linear attention', 'softmax attention'], True)
        >>> sorted(snapshot.metrics())[:3]
        ['ess/entropy', 'ess/layer_0/entropy', 'ess/layer_0/tolerance_0.001']
    """
    watch = ESSWatch(
        model,
        inputs,
        tokenizer,
        layers=layers,
        positions=positions,
        tolerances=tolerances,
        thresholds=thresholds,
    )
    return watch.measure(first=first)


class ESSWatch:
    """`watch_ess` for the same model and the same texts again and again.

    Everything is checked, and the model's mixers are looked up, when it is made. Remarks compare
    with the first measurement.

    Args:
        model: as for `watch_ess`, and so is all the rest.
        inputs: texts or token ids.
        tokenizer: for texts.
        layers: indices or names.
        positions: where to measure.
        tolerances: of the tolerance-ESS.
        thresholds: of the remarks.

    Raises:
        HfEssError: what `watch_ess` raises.

    Example:
        >>> import torch
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> from hf_ess.training import ESSWatch
        >>> model = build_model(SyntheticConfig(["GLA"], vocab_size=16, hidden_size=16))
        >>> watch = ESSWatch(model, torch.arange(24)[None] % 16)
        >>> for step in range(20):
        ...     # ... a step of the training ...
        ...     if step % 10 == 0:
        ...         snapshot = watch.measure()
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        tokenizer: Any | None = None,
        *,
        layers: Layers = None,
        positions: Positions = FEW,
        tolerances: Sequence[float] = DEFAULT_TOLERANCES,
        thresholds: Thresholds | None = None,
    ) -> None:
        self.model = unwrapped(model)
        check_model(self.model)
        check_inputs(inputs)
        self.samples = samples_from(inputs, tokenizer)
        check_token_ids(self.model, [sample.ids for sample in self.samples])
        self.layers = checked_layers(layers)
        self.settings = MeasurementSettings(
            tolerances=checked_tolerances(tolerances),
            relative=False,
            window=None,
            method="auto",
            accuracy="certified",
            memory_budget=DEFAULT_MEMORY_BUDGET,
            keep_singular_values=False,
        )
        lengths = [sample.length for sample in self.samples]
        few = isinstance(positions, str) and positions == FEW
        self.positions = training_positions(positions, min(lengths) if few else max(lengths))
        self.thresholds = thresholds or Thresholds()
        self.first: ESSSnapshot | None = None
        with undisturbed(self.model):
            self._found = self._run().surveyed()
        names_of_layers(self._found.mixers, self.layers)

    def measure(self, *, first: ESSSnapshot | None = None) -> ESSSnapshot:
        """The snapshot of now.

        Args:
            first: what remarks compare with, the first measurement by default.

        Raises:
            NonFiniteError: NaN or infinity in weights or features; says where.
        """
        run = self._run(self._found)
        with undisturbed(self.model):
            report = run.report()
        snapshot = self._snapshot(report, first or self.first)
        self.first = self.first or snapshot
        return snapshot

    def _run(self, found: Survey | None = None) -> _WatchRun:
        return _WatchRun(
            self.model,
            self.samples,
            self.positions,
            self.settings,
            self.layers,
            BATCH_SIZE,
            progress=False,
            found=found,
        )

    def _snapshot(self, report: ESSReport, first: ESSSnapshot | None) -> ESSSnapshot:
        layers = tuple(LayerSnapshot.of(layer) for layer in report.layers if layer.verified)
        unverified = tuple(
            UnsupportedLayer(layer.name, layer.index, layer.mixer, layer.reason)
            for layer in report.layers
            if not layer.verified
        )
        unsupported = tuple(report.unsupported)
        compared = first.layers if first is not None else ()
        return ESSSnapshot(
            layers=layers,
            unverified=unverified,
            unsupported=unsupported,
            noted=remarks_on(layers, compared, self.thresholds, unverified, unsupported),
            tolerances=report.tolerances,
            positions=self.positions,
        )


class _WatchRun(AnalysisRun):
    """An analysis whose look at the model is remembered, and that warns nobody by itself."""

    def __init__(self, *arguments: Any, found: Survey | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.found = found

    def surveyed(self) -> Survey:
        """The mixers of the model."""
        return self._survey()

    def warn(self, message: str, category: type[Warning] = UserWarning) -> None:
        self.warnings.append(message)

    def _look(self) -> Survey:
        return super()._look() if self.found is None else self.found

    def _recording(self, sink: Sink, chosen: set[str]) -> AbstractContextManager[Recorder]:
        return super()._recording(without_autocast(sink), chosen)

    def _provenance(self) -> dict[str, Any]:
        """A snapshot is of a model that changes; who measures knows which."""
        return {}
