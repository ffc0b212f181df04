"""One analysis: a trial run, then every batch through the model, then the report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_ess.analysis.batches import BatchRunner, Corpus, KeptTexts, TextsTogether
from hf_ess.analysis.checkpoint import Checkpoint
from hf_ess.analysis.collection import LayerCollection, MeasuredLayer
from hf_ess.analysis.described_work import described_work
from hf_ess.analysis.gathering import Gathering, GroupsMeasurer, MeasuredPart, digest_of
from hf_ess.analysis.measurement import Measurement, OperatorMeasurer
from hf_ess.analysis.model_checks import (
    check_finite_result,
    explained_length,
    explained_shortage,
    forward_options,
    input_device,
    non_finite_error,
)
from hf_ess.analysis.nothing_found import JACOBIAN_HINT, nothing_to_measure
from hf_ess.analysis.one_pass import of_other_shape
from hf_ess.analysis.processes import Alone, Team
from hf_ess.analysis.provenance import library_versions, model_provenance
from hf_ess.analysis.report_size import check_report_fits
from hf_ess.analysis.samples import Sample, equal_length_batches
from hf_ess.analysis.sharding import Share, WholeBatches, share_of
from hf_ess.analysis.spectral import MeasurementSettings
from hf_ess.errors import (
    NonFiniteError,
    NumericalFloorWarning,
    UnsupportedModelError,
    UnverifiedOperatorWarning,
)
from hf_ess.operators import future_share
from hf_ess.progress import LayerDone, OnProgress, layers_done
from hf_ess.report import ESSReport, LayerESS, UnsupportedLayer
from hf_ess.spectra import Positions, resolve_positions
from model_adapters import (
    LayerOperator,
    Recorder,
    RefusedLayer,
    Survey,
    record_operators,
    survey,
)
from model_adapters.layer_choice import names_of_layers
from model_adapters.recorder import CORE, MIXER, Sink

# Long enough for a convolution or a window to show, short enough to cost nothing; a prime is
# never mistaken for a number of heads or channels.
TRIAL_LENGTH = 13
# Before all batches.
TRIAL = -1

# Up to this many tokens "auto" takes every position: a model of 135M parameters then needs about
# twenty times its forward pass on a CPU.
EVERY_POSITION_UP_TO = 1024
# Recurrences have a small spectrum per group and position; this many take some seconds.
CHEAP_SPECTRA = 2**21


class AnalysisRun:
    """Everything that one call of `analyze` does with a checked model and checked arguments."""

    def __init__(
        self,
        model: nn.Module,
        samples: Sequence[Sample],
        positions: Positions,
        settings: MeasurementSettings,
        layers: Sequence[int | str] | None,
        batch_size: int,
        progress: bool,
        scope: str = CORE,
        team: Team | None = None,
        on_progress: OnProgress | None = None,
        corpus: Corpus | None = None,
    ) -> None:
        self.model = model
        self.corpus = corpus or Corpus()
        self.on_progress = on_progress
        self.team: Team = team or Alone()
        self.samples = samples
        self.settings = settings
        self.progress = progress
        self.batch_size = batch_size
        self.layers = layers
        self.scope = scope
        self.positions = positions
        self.collection: LayerCollection
        self._settle_positions(positions)
        self.gathering = Gathering()
        self.left_out: list[dict[str, Any]] = []
        self.warnings: list[str] = []

    def report(self) -> ESSReport:
        """Runs the model on every sample and measures every chosen layer."""
        if self.team.size > 1:
            self.team.agree(self._work())
        found = self._survey()
        chosen = names_of_layers(found.mixers, self.layers)
        if self._every_position_is_cheap(found):
            self._settle_positions("all")
        self._note_short_samples()
        layers = sum(mixer.name in chosen for mixer in found.mixers)
        groups = sum(mixer.groups for mixer in found.mixers if mixer.name in chosen)
        positions, tolerances = len(self.collection.positions), len(self.settings.tolerances)
        check_report_fits(len(self.samples), positions, groups, tolerances)
        costs = [float(len(batch) * self._length(batch) ** 2) for batch in self.batches]
        if self.corpus.by_whole_batches:
            share: Share = WholeBatches(self.team.rank, self.team.size, costs)
        else:
            share = share_of(self.team.rank, self.team.size, costs, layers)
        self._run_share(share, chosen, layers)

        def complete_report(gatherings: list[Gathering]) -> ESSReport:
            self._take(Gathering.of_all(gatherings))
            self.gathering.collect(self.collection)
            self._note_what_is_missing(found, chosen)
            return self._report(complete=True, reason="")

        report = self.team.combined(self.gathering, complete_report)
        # Recorders refer to this run until the garbage collector comes by.
        self.gathering, self.collection = Gathering(), LayerCollection([], ())
        return report

    def _run_share(self, share: Share, chosen: set[str], layers: int) -> None:
        """Everything that this process measures, into the gathering."""
        first, keeps = self.team.rank == 0, self.corpus.checkpoint is not None
        bar, told = self.progress and first, self.on_progress if first else None
        with layers_done(len(share.batches) * layers, told, bar=bar and not keeps) as done:

            def run(texts: TextsTogether) -> None:
                self._run_texts(texts, chosen, share, done)

            runner = BatchRunner(
                self.model, self.batches, run, self.gathering, self.corpus, self.team.check
            )
            if self.corpus.checkpoint is None:
                for batch in share.batches:
                    runner.run_batch(batch)
                return
            work = self._described_work()
            with Checkpoint.opened(self.corpus.checkpoint, work, first=first) as kept:
                runner.run_and_keep(share.batches, kept, bar=bar)

    def _take(self, gathering: Gathering) -> None:
        """What all processes found out; texts that failed are as if they had not been given."""
        texts = KeptTexts.of(self.samples, gathering, self.corpus.left_out)
        self.gathering, self.left_out = texts.gathering, texts.records()
        if len(texts.samples) < len(self.samples):
            self.samples = texts.samples
            longest = max(sample.length for sample in self.samples)
            within = self.collection.positions_within(longest)
            self.collection = LayerCollection([x.length for x in self.samples], within)
        if texts.left_out:
            self.warn(texts.warning())

    def _described_work(self) -> dict[str, Any]:
        settings = self._settings() | {
            "positions": self.collection.positions,
            "tolerances": self.settings.tolerances,
            "relative": self.settings.relative,
            "window": self.settings.window,
            "scope": self.scope,
            "leave_out_failing": self.corpus.leave_out,
        }
        return described_work(self.model, [sample.ids for sample in self.samples], settings)

    def incomplete_report(self, reason: str) -> ESSReport | None:
        """The layers that were measured on every sample, None if there are none.

        Of several processes none knows what the others have.
        """
        if self.team.size > 1:
            return None
        self.gathering.collect(self.collection)
        missing = self.collection.missing_samples()
        complete = [layer for layer in self.collection.layers() if layer.name not in missing]
        return self._report(complete=False, reason=reason, layers=complete) if complete else None

    def warn(self, message: str, category: type[Warning] = UserWarning) -> None:
        """Says something aloud, and in the report."""
        self.warnings.append(message)
        if self.team.rank == 0:
            warnings.warn(message, category, stacklevel=3)

    def _settle_positions(self, positions: Positions) -> None:
        lengths = [sample.length for sample in self.samples]
        self.collection = LayerCollection(lengths, resolve_positions(positions, max(lengths)))
        self.batches = [
            batch
            for batch in equal_length_batches(self.samples, self.batch_size)
            if self.collection.positions_within(self._length(batch))
        ]

    def _every_position_is_cheap(self, found: Survey) -> bool:
        """Whether divide and conquer serves, and recurrences have few spectra of their own."""
        longest = max(sample.length for sample in self.samples)
        recurrent = sum(mixer.groups for mixer in found.mixers if mixer.state_size is not None)
        return (
            isinstance(self.positions, str)
            and self.positions == "auto"
            and self.settings.divides_where_cheap
            and longest <= EVERY_POSITION_UP_TO
            and recurrent * longest <= CHEAP_SPECTRA
        )

    def _work(self) -> str:
        options = (self.settings, self.layers, self.batch_size, self.scope, self.positions)
        handling = (self.corpus.leave_out, self.corpus.checkpoint)
        return digest_of(self.model, [sample.ids for sample in self.samples], (*options, *handling))

    def _length(self, batch: list[int]) -> int:
        return self.samples[batch[0]].length

    def _look(self) -> Survey:
        longest = max(self.samples, key=lambda sample: sample.length)
        ids = longest.ids[:TRIAL_LENGTH][None]
        modules = list(self.model.modules())
        found = survey(self.model, lambda: self._forward(ids), ids.shape[1], future_share)
        if list(self.model.modules()) != modules:
            # A short text makes big_bird exchange its attention modules, for good.
            found = survey(self.model, lambda: self._forward(ids), ids.shape[1], future_share)
        return found

    def _survey(self) -> Survey:
        found = self._look()
        if not found.mixers:
            raise nothing_to_measure(self.model, found)
        if all(mixer.future_share > 0 for mixer in found.mixers):
            raise UnsupportedModelError(
                f"{type(self.model).__name__} is not causal: in all of its "
                f"{len(found.mixers)} mixers earlier tokens see later ones.",
                causes=["it is an encoder (BERT and its kind)", "is_decoder is not set"],
                fix="Pass a causal language model, or load with is_decoder=True.",
            )
        for layer in found.unclaimed:
            self._refuse(replace(layer, reason=f"{layer.reason}; {JACOBIAN_HINT}"), TRIAL)
        return found

    def _forward(self, ids: Tensor) -> Any:
        options = forward_options(self.model, ids.shape[1])
        with explained_length(self.model, ids.shape[1]), explained_shortage(*ids.shape):
            return self.model(input_ids=ids.to(input_device(self.model)), **options)

    def _run_texts(
        self, texts: TextsTogether, chosen: set[str], share: Share, done: LayerDone
    ) -> None:
        batch, numbers = texts.batch, texts.numbers
        ids = torch.stack([self.samples[number].ids for number in numbers])

        def measure(layer: LayerOperator) -> None:
            self.team.check()
            if layer.name not in chosen:
                return
            if (layer.operator.batch, layer.operator.length) != tuple(ids.shape):
                self._refuse(of_other_shape(layer, tuple(ids.shape)), batch)
                return
            if self.scope == MIXER != layer.scope:
                self.gathering.core_only[layer.name] = layer.mixer
            place, groups = (batch, next(texts.turns)), share.groups_of(layer)
            if groups is not None:
                self._measure(layer, groups, place, numbers)
            done(layer.name, numbers[0])

        with self._recording(measure, chosen) as recorder:
            try:
                result = self._forward(ids)
            except NonFiniteError as error:
                raise non_finite_error(self.model, error.what) from error
        check_finite_result(self.model, result)
        for layer in recorder.refused:
            self._refuse(layer, batch)

    def _measure(
        self, layer: LayerOperator, groups: slice, place: tuple[int, int], numbers: list[int]
    ) -> None:
        within = self.collection.positions_within(self._length(numbers))
        if groups == slice(0, layer.operator.groups):
            measurement = self._measurement(layer, within)
        else:
            measurement = GroupsMeasurer(layer, groups, within, self.settings).measure()
        part = MeasuredPart(place, groups.start, MeasuredLayer.of(layer), numbers, measurement)
        self.gathering.parts.append(part)

    def _recording(self, sink: Sink, chosen: set[str]) -> AbstractContextManager[Recorder]:
        return record_operators(self.model, sink, scope=self.scope)

    def _measurement(self, layer: LayerOperator, positions: tuple[int, ...]) -> Measurement:
        return OperatorMeasurer(layer, positions, self.settings).measure()

    def _refuse(self, layer: RefusedLayer, batch: int) -> None:
        self.gathering.refused.append((batch, layer))

    def _note_short_samples(self) -> None:
        short = len(self.samples) - sum(map(len, self.batches))
        if short:
            self.warn(
                f"{short} text(s) are not longer than the first position, "
                f"{self.collection.positions[0]}, and enter no average."
            )

    def _note_what_is_missing(self, found: Survey, chosen: set[str]) -> None:
        measured = self.collection.names()
        refused = {layer.name for layer in self.gathering.unsupported()}
        for mixer in found.mixers:
            if mixer.name in chosen - measured - refused:
                reason = "it ran in a short trial, and not on the text"
                refusal = RefusedLayer(mixer.name, mixer.index, mixer.mixer, reason)
                self._refuse(refusal, len(self.batches))
        if unsupported := self.gathering.unsupported():
            self.warn(
                f"{len(unsupported)} mixer(s) were found and not analysed; "
                "report.unsupported says which and why.",
                UnverifiedOperatorWarning,
            )

    def _report(
        self, *, complete: bool, reason: str, layers: list[LayerESS] | None = None
    ) -> ESSReport:
        layers = self.collection.layers() if layers is None else layers
        self._warn_about(layers)
        return ESSReport(
            layers=layers,
            unsupported=[
                UnsupportedLayer(layer.name, layer.index, layer.mixer, layer.reason)
                for layer in self.gathering.unsupported()
            ],
            positions=np.array(self.collection.positions),
            tolerances=self.settings.tolerances,
            relative=self.settings.relative,
            window=self.settings.window,
            scope=self.scope,
            samples=[sample.info for sample in self.samples],
            complete=complete,
            incomplete_reason=reason,
            provenance=self._provenance(),
            warnings=self.warnings,
        )

    def _warn_about(self, layers: list[LayerESS]) -> None:
        unverified = [layer.name for layer in layers if not layer.verified]
        if unverified:
            self.warn(
                f"{len(unverified)} layer(s) are not verified and enter no average, first "
                f"{unverified[0]}.",
                UnverifiedOperatorWarning,
            )
        core = {layer.name: self.gathering.core_only.get(layer.name) for layer in layers}
        names = [name for name, mixer in core.items() if mixer is not None]
        if names:
            kinds = ", ".join(sorted({mixer for mixer in core.values() if mixer is not None}))
            self.warn(
                f"Scope {MIXER!r}: {len(names)} layer(s) are measured as their core, since no "
                f"convolution or gate around it is known ({kinds}): {', '.join(names)}."
            )
        for tolerance in self.settings.tolerances:
            below = [layer.name for layer in layers if layer.below_floor[tolerance].any()]
            if below:
                self.warn(
                    f"Tolerance {tolerance:g} lies below the rounding floor of the spectra in "
                    f"{len(below)} layer(s): its counts there are noise. Use a larger tolerance.",
                    NumericalFloorWarning,
                )

    def _provenance(self) -> dict[str, Any]:
        return {
            **model_provenance(self.model),
            "versions": library_versions(),
            "settings": self._settings(),
            **({"left_out": self.left_out} if self.left_out else {}),
        }

    def _settings(self) -> dict[str, Any]:
        cut = self.corpus.max_length
        return {
            "method": self.settings.method,
            "accuracy": self.settings.accuracy,
            "keep_singular_values": self.settings.keep_singular_values,
            "memory_budget": self.settings.memory_budget,
            "batch_size": self.batch_size,
            "layers": None if self.layers is None else list(self.layers),
            **({} if cut is None else {"max_length": cut}),
        }
