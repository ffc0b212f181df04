"""One probe: every model built, run and measured; then figures by mixer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor, nn

from hf_ess.analysis.one_pass import PassMeasurement, measured_pass
from hf_ess.analysis.spectral import MeasurementSettings
from hf_ess.errors import InvalidInputError, NonFiniteError, UnsupportedModelError
from hf_ess.operators import future_share
from hf_ess.progress import progress_bar
from hf_ess.report import LayerESS, UnsupportedLayer
from hf_ess.report.aggregates import mean_of
from hf_ess.spectra import DEFAULT_MEMORY_BUDGET, Positions, resolve_positions
from hf_ess.training.decay_rates import (
    DecayRates,
    divided_decay_rates,
    known_decay_rates,
    named_decay_rates,
)
from hf_ess.training.initialization.arguments import whole_numbers
from hf_ess.training.initialization.models import Builder
from hf_ess.training.initialization.probed import ProbedMixer
from hf_ess.training.initialization.result import InitializationProbe
from hf_ess.training.noise import gaussian_noise, run_on, trial_inputs
from hf_ess.training.undisturbed import undisturbed
from model_adapters import RefusedLayer, survey

Case = tuple[int, int]  # state size, seed
Run = tuple[str, int]  # name of the module, which of its runs


@dataclass(frozen=True)
class _Figures:
    """One mixer of one model: means over samples, channels and positions."""

    index: int
    mixer: str
    has_rates: bool
    capacity: float
    attainable: float
    entropy_ess: float
    tolerance_ess: dict[float, float]

    @classmethod
    def of(cls, layer: LayerESS, has_rates: bool) -> _Figures:
        below = {tau for tau in layer.tolerances if layer.below_floor[tau].any()}
        size = layer.state_size
        return cls(
            index=layer.index,
            mixer=layer.mixer,
            has_rates=has_rates,
            capacity=mean_of(layer.capacity) if size is None else float(size),
            attainable=mean_of(layer.attainable_by_group),
            entropy_ess=mean_of(layer.entropy_ess),
            tolerance_ess={
                tau: np.nan if tau in below else mean_of(layer.tolerance_ess[tau])
                for tau in layer.tolerances
            },
        )


class ProbeRun:
    """Everything that one call of `probe_initialization` does.

    Raises:
        InvalidInputError, InvalidTypeError: state sizes, seeds, shape or positions cannot be used.
    """

    def __init__(
        self,
        build: Builder,
        *,
        state_sizes: Sequence[int],
        seeds: Sequence[int],
        shape: tuple[int, int],
        inputs: Tensor | None,
        alphas: tuple[float, ...] | None,
        positions: Positions,
        tolerances: tuple[float, ...],
    ) -> None:
        self.build = build
        self.state_sizes = whole_numbers("state_sizes", state_sizes, least=1)
        if len(self.state_sizes) < 2:
            raise InvalidInputError(
                f"One state size, {self.state_sizes[0]}, does not show how ESS follows capacity.",
                fix="Pass at least two, for example (16, 64).",
            )
        self.seeds = whole_numbers("seeds", seeds, least=0)
        self.shape = shape
        whole_numbers("samples", shape[:1], least=1)
        whole_numbers("length", shape[1:], least=2)
        self.inputs = inputs
        self.alphas = alphas
        self.positions = resolve_positions(positions, shape[1])
        self.settings = MeasurementSettings(
            tolerances=tolerances,
            relative=False,
            window=None,
            method="auto",
            accuracy="exact",
            memory_budget=DEFAULT_MEMORY_BUDGET,
            keep_singular_values=False,
        )
        self._rates: set[str] = set()
        self._found: dict[float, dict[Run, dict[Case, _Figures]]] = {}
        self._refused: dict[str, UnsupportedLayer] = {}

    def probe(self, *, progress: bool) -> InitializationProbe:
        """Measures every model and sorts what was found by mixer."""
        others = tuple(alpha for alpha in self.alphas or () if alpha != 1)
        self._found = {alpha: defaultdict(dict) for alpha in (1.0, *others)}
        cases = list(product(self.state_sizes, self.seeds))
        total = len(cases) * len(self._found)
        with progress_bar(total, "Probing", enabled=progress, unit="pass") as bar:
            for case in cases:
                self._measure(case, bar)
        mixers = self._mixers(1.0, cases)
        self._check(mixers)
        return InitializationProbe(
            mixers=mixers,
            rescaled=[mixer for alpha in others for mixer in self._mixers(alpha, cases)],
            refused=list(self._refused.values()),
            state_sizes=self.state_sizes,
            seeds=self.seeds,
            length=self.shape[1],
            samples=self.shape[0],
            positions=self.positions,
            tolerances=self.settings.tolerances,
        )

    def _measure(self, case: Case, bar: Any) -> None:
        state, seed = case
        model = self.build(state, seed)
        try:
            with undisturbed(model):
                inputs = self.inputs
                if inputs is None:
                    inputs = gaussian_noise(model, *self.shape, seed=seed)
                self._measure_with_alphas(model, inputs, case, bar)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"State size {state}, seed {seed}: {error.what}", causes=error.causes, fix=error.fix
            ) from error

    def _measure_with_alphas(self, model: nn.Module, inputs: Tensor, case: Case, bar: Any) -> None:
        first = not any(self._found[1.0].values())
        rates = list(named_decay_rates(model))
        self._note(1.0, self._pass(model, inputs), case, rates)
        bar.update(1)
        if first:
            self._survey(model)
            if self.alphas is not None:
                self._rates = {one.name for one in known_decay_rates(model, inputs=self._trial())}
        rates = [one for one in rates if one.name in self._rates]
        for alpha in [alpha for alpha in self._found if alpha != 1]:
            with divided_decay_rates(rates, alpha):
                found = self._pass(model, inputs)
            self._note(alpha, found, case, rates)
            bar.update(1)

    def _pass(self, model: nn.Module, inputs: Tensor) -> PassMeasurement:
        return measured_pass(
            model, lambda: run_on(model, inputs), self.shape, self.positions, self.settings
        )

    def _trial(self) -> Tensor | None:
        return None if self.inputs is None else self.inputs[:1]

    def _survey(self, model: nn.Module) -> None:
        """Names the mixers that no adapter knows."""
        given = self._trial()
        trial = trial_inputs(model) if given is None else given
        found = survey(model, lambda: run_on(model, trial), trial.shape[1], future_share)
        for layer in found.unclaimed:
            self._refuse(layer, layer.reason)

    def _note(
        self, alpha: float, found: PassMeasurement, case: Case, rates: Sequence[DecayRates]
    ) -> None:
        """Keeps the figures of a pass; of divided rates, only those of mixers that have some."""
        where = f"(state size {case[0]}, seed {case[1]}" + (
            f", alpha {alpha:g})" if alpha != 1 else ")"
        )
        for refused in found.refused:
            self._refuse(refused, f"{refused.reason} {where}")
        for layer in found.layers:
            if not layer.verified:
                self._refuse(layer, f"{layer.reason} {where}")
            has_rates = any(one.belong_to(layer.name) for one in rates)
            if has_rates or alpha == 1:
                figures = _Figures.of(layer, has_rates)
                self._found[alpha][layer.name, layer.call][case] = figures

    def _refuse(self, layer: RefusedLayer | LayerESS, reason: str) -> None:
        self._refused.setdefault(
            layer.name, UnsupportedLayer(layer.name, layer.index, layer.mixer, reason)
        )

    def _mixers(self, alpha: float, cases: Sequence[Case]) -> list[ProbedMixer]:
        found = self._found[alpha]
        for (name, _), figures in found.items():
            first = next(iter(figures.values()))
            if len(figures) < len(cases):
                reason = f"it is in {len(figures)} of {len(cases)} models only"
                layer = RefusedLayer(name, first.index, first.mixer, reason)
                self._refuse(layer, reason)
        return [
            self._mixer(run, alpha, figures)
            for run, figures in found.items()
            if run[0] not in self._refused
        ]

    def _mixer(self, run: Run, alpha: float, figures: dict[Case, _Figures]) -> ProbedMixer:
        rows = [[figures[state, seed] for seed in self.seeds] for state in self.state_sizes]
        for state, row in zip(self.state_sizes, rows, strict=True):
            if len({(one.capacity, one.attainable) for one in row}) > 1:
                raise InvalidInputError(
                    f"The capacity of {run[0]} at state size {state} depends on the seed.",
                    fix="Let the seed decide the weights alone.",
                )
        first = rows[0][0]

        def grid(values: Iterable[float]) -> Any:
            return np.array(list(values)).reshape(len(self.state_sizes), len(self.seeds))

        return ProbedMixer(
            index=first.index,
            name=run[0],
            call=run[1],
            mixer=first.mixer,
            alpha=alpha,
            has_rates=first.has_rates,
            state_sizes=self.state_sizes,
            capacity=np.array([row[0].capacity for row in rows]),
            attainable=np.array([row[0].attainable for row in rows]),
            entropy_ess=grid(one.entropy_ess for row in rows for one in row),
            tolerance_ess={
                tau: grid(one.tolerance_ess[tau] for row in rows for one in row)
                for tau in self.settings.tolerances
            },
        )

    def _check(self, mixers: Sequence[ProbedMixer]) -> None:
        if not mixers:
            refused = list(self._refused.values())[:5]
            raise UnsupportedModelError(
                "The models have no mixer that can be measured.",
                causes=[f"{x.name} ({x.mixer}): {x.reason}" for x in refused],
                fix="`hf-ess adapters` lists what is supported.",
            )
        if not any(mixer.follows_state_size for mixer in mixers):
            sizes = {mixer.label: f"{mixer.capacity[0]:g}" for mixer in mixers}
            listed = ", ".join(f"{label}: {size}" for label, size in list(sizes.items())[:5])
            raise InvalidInputError(
                f"The state sizes {', '.join(map(str, self.state_sizes))} do not change the "
                f"capacity of any mixer ({listed}).",
                causes=[
                    "build_model does not use its argument",
                    "attention and long convolutions keep the whole text, whatever their sizes",
                ],
                fix="Let build_model set what gives the mixer its state (state_size, head_dim).",
            )
