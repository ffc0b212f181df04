"""What is kept of an operator's blocks: settings in, metrics out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_ess.metrics import entropy_ess, tolerance_ess
from hf_ess.spectra import CertifiedMetrics, Spectra
from hf_ess.spectra.half import Workspaces
from hf_ess.spectra.routes import DIVIDE_AND_CONQUER, Route, chosen_route


@dataclass(frozen=True)
class MeasurementSettings:
    """How operators are measured.

    Attributes:
        tolerances: thresholds of the tolerance-ESS.
        relative: whether they are fractions of the largest singular value of a block.
        window: `(future, past)` of windowed blocks, None for whole blocks.
        method: how singular values are found.
        accuracy: "exact" for singular values of every block, or "certified" where intervals of
            entropy-ESS may stand for them.
        memory_budget: bytes that dense operators and spectra may take at once.
        keep_singular_values: whether measurements carry the singular values.
        workspaces: buffers that the layers use one after the other.
        shortages: what was said when memory ran out, which is told once.
    """

    tolerances: tuple[float, ...]
    relative: bool
    window: tuple[int, int] | None
    method: str
    accuracy: str
    memory_budget: int
    keep_singular_values: bool
    workspaces: Workspaces = field(default_factory=Workspaces, repr=False, compare=False)
    shortages: list[str] = field(default_factory=list, repr=False, compare=False)

    @property
    def floor(self) -> float | None:
        """Smallest absolute tolerance, which the spectra must resolve."""
        return None if self.relative else min(self.tolerances)

    def check(self) -> None:
        """Refuses what cannot be had together.

        Raises:
            InvalidInputError: divide and conquer where singular values are needed.
        """
        self.dense_route(0, ())

    @property
    def divides(self) -> bool:
        """Whether divide and conquer is asked for by name."""
        return self.method == DIVIDE_AND_CONQUER

    @property
    def divides_where_cheap(self) -> bool:
        """Whether divide and conquer is used for long texts."""
        values = self.keep_singular_values or self.relative or self.window is not None
        return self.divides or (
            self.method == "auto" and self.accuracy == "certified" and not values
        )

    @property
    def spectral_method(self) -> str:
        """The method for blocks that are decomposed."""
        return "auto" if self.divides else self.method

    def dense_route(self, length: int, positions: tuple[int, ...]) -> Route:
        """How operators of a length are measured that are formed."""
        needs_values = {
            "singular values are kept": self.keep_singular_values,
            "relative tolerances need the largest singular value": self.relative,
            "windows are small": self.window is not None,
        }
        return chosen_route(
            length,
            positions,
            len(self.tolerances),
            method=self.method,
            accuracy=self.accuracy,
            needs_values=next((why for why, needed in needs_values.items() if needed), ""),
        )


@dataclass(frozen=True)
class SpectralMeasurement:
    """What is kept of some groups; arrays are `[B, g, P]`.

    Attributes:
        half_width: of the interval of the entropy, relative; 0 where values were computed.
        largest: singular value of each block, NaN where none was computed.
        error_bound: of the singular values, NaN where none was computed.
        singular_values: `[B, g, P, K]`, if they are kept.
        method: how they were measured.
        reason: why like this.
    """

    entropy: NDArray[np.float64]
    half_width: NDArray[np.float64]
    counts: dict[float, NDArray[np.float64]]
    undecided: dict[float, NDArray[np.float64]]
    below_floor: dict[float, NDArray[np.bool_]]
    largest: NDArray[np.float64]
    error_bound: NDArray[np.float64]
    singular_values: NDArray[np.float32] | None
    method: str
    reason: str

    @classmethod
    def of(cls, spectra: Spectra, settings: MeasurementSettings) -> SpectralMeasurement:
        """The metrics of computed spectra."""
        values = spectra.values
        largest = values[..., 0]
        errors = spectra.value_errors()
        counts, undecided, below_floor = {}, {}, {}
        for tau in settings.tolerances:
            threshold = tau * largest if settings.relative else torch.full_like(largest, tau)
            count = tolerance_ess(values, tau, relative=settings.relative)
            counts[tau] = count.cpu().numpy().astype(np.float64)
            near = (values - threshold[..., None]).abs() <= errors
            undecided[tau] = near.sum(-1).cpu().numpy().astype(np.float64)
            below_floor[tau] = (threshold <= spectra.error_bound).cpu().numpy()
        return cls(
            entropy=entropy_ess(values).cpu().numpy(),
            half_width=np.zeros(largest.shape),
            counts=counts,
            undecided=undecided,
            below_floor=below_floor,
            largest=largest.cpu().numpy(),
            error_bound=spectra.error_bound.cpu().numpy(),
            singular_values=(
                values.to(torch.float32).cpu().numpy() if settings.keep_singular_values else None
            ),
            method=spectra.method,
            reason=spectra.reason,
        )

    @classmethod
    def certified(cls, metrics: CertifiedMetrics, batch: int, route: Route) -> SpectralMeasurement:
        """Metrics `[B * g, P]` that came without singular values."""

        def grid(values: Tensor) -> NDArray[Any]:
            return values.reshape(batch, -1, values.shape[-1]).cpu().numpy()

        def counted(values: dict[float, Tensor]) -> dict[float, NDArray[np.float64]]:
            return {tau: grid(value).astype(np.float64) for tau, value in values.items()}

        unknown = np.full(grid(metrics.entropy).shape, np.nan)
        return cls(
            entropy=grid(metrics.entropy),
            half_width=grid(metrics.half_width),
            counts=counted(metrics.counts),
            undecided=counted(metrics.undecided),
            below_floor={tau: grid(value) for tau, value in metrics.below_floor.items()},
            largest=unknown,
            error_bound=unknown,
            singular_values=None,
            method=route.method,
            reason=route.reason,
        )

    @classmethod
    def joined(cls, parts: Sequence[SpectralMeasurement]) -> SpectralMeasurement:
        """The groups of all parts, in order."""
        kept = [part.singular_values for part in parts if part.singular_values is not None]

        def by_tolerance(name: str) -> dict[float, NDArray[Any]]:
            tolerances = getattr(parts[0], name)
            return {tau: _join([getattr(part, name)[tau] for part in parts]) for tau in tolerances}

        return cls(
            entropy=_join([part.entropy for part in parts]),
            half_width=_join([part.half_width for part in parts]),
            counts=by_tolerance("counts"),
            undecided=by_tolerance("undecided"),
            below_floor=by_tolerance("below_floor"),
            largest=_join([part.largest for part in parts]),
            error_bound=_join([part.error_bound for part in parts]),
            singular_values=_join(kept) if kept else None,
            method="+".join(sorted({name for part in parts for name in part.method.split("+")})),
            reason="; ".join(dict.fromkeys(part.reason for part in parts)),
        )


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts, axis=1)
