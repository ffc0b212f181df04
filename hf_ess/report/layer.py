"""What was measured in one run of one mixer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError
from hf_ess.report.names import ENTROPY, Metric, resolve_metric

Floats = NDArray[np.float64]
MOST_CHANNELS = 2**40
GRIDS = (
    "capacity",
    "attainable_by_group",
    "largest_singular_value",
    "error_bound",
    "entropy_half_width",
)
# NaN where a block was measured without singular values.
OF_SINGULAR_VALUES = ("largest_singular_value", "error_bound")


@dataclass(eq=False, kw_only=True)
class LayerESS:
    """Effective state-size of one mixer at every sample, group and position.

    An `ESSReport` holds one for each run of each mixer.

    Letters: B samples, G groups (channels that share one operator), P positions, K singular
    values. Every float array is NaN where a sample is too short for the position; only
    `entropy_ess` needs to say so, the other arrays follow it. Arrays of shape `[B|1, G|1, P]`
    are accepted and broadcast.

    Attributes:
        index: layer number in the model.
        name: dotted name of the module.
        call: which run of that module within one forward pass, counted from 0.
        mixer: what kind of mixer it is.
        groups: G.
        multiplicity: channels per group.
        state_size: N, or None where the state grows with the position (softmax attention).
        verified: whether the rebuilt output agrees with the real one within `residual_bound`.
        residual: `[B]`, largest error of the rebuilt output relative to the largest output.
        residual_bound: what `residual` had to stay below.
        reason: why the layer is not verified, empty if it is.
        method: how the blocks were measured.
        method_reason: why like this.
        positions: int64 `[P]`, each i splits the sequence into `[0, i)` and `[i, L)`.
        entropy_ess: `[B, G, P]`, per channel (equation 3 of Parnichkun et al., ICML 2025).
        tolerance_ess: for each tolerance `[B, G, P]`, per channel, whole numbers (equation 2).
        capacity: `[B, G, P]`, theoretically realizable state-size per channel.
        attainable_by_group: `[B, G, P]`, the largest rank the block can have (ours).
        entropy_half_width: `[B, G, P]`, the true entropy-ESS is within this fraction of the one
            given; 0 where it comes from singular values.
        largest_singular_value: `[B, G, P]`, in units of the operator; NaN where the block was
            measured without singular values.
        error_bound: `[B, G, P]`, absolute error of each singular value; NaN as above.
        undecided: for each tolerance `[B, G, P]`, number of singular values that lie closer to
            the tolerance than their error, so that the count may be off by as many; 0
            everywhere where not given.
        below_floor: for each tolerance bool `[B, G, P]`, whether the tolerance is at or below
            `error_bound`, so that its count is rounding noise; False where not given.
        singular_values: float32 `[B, G, P, K]`, descending, only kept on request.

    Raises:
        InvalidInputError: shapes, signs or tolerances do not fit together.
    """

    index: int
    name: str
    mixer: str
    groups: int
    multiplicity: int
    state_size: int | None
    verified: bool
    residual: Floats
    residual_bound: float
    positions: NDArray[np.int64]
    entropy_ess: Floats
    tolerance_ess: dict[float, Floats]
    capacity: Floats
    attainable_by_group: Floats
    largest_singular_value: Floats
    error_bound: Floats
    undecided: dict[float, Floats] = field(default_factory=dict)
    below_floor: dict[float, NDArray[np.bool_]] = field(default_factory=dict)
    entropy_half_width: Floats = field(default_factory=lambda: np.zeros((1, 1, 1)))
    singular_values: NDArray[np.float32] | None = None
    call: int = 0
    reason: str = ""
    method: str = ""
    method_reason: str = ""

    def __post_init__(self) -> None:
        self.positions = np.asarray(self.positions, dtype=np.int64)
        self.residual = np.atleast_1d(np.asarray(self.residual, dtype=np.float64))
        self.entropy_ess = np.array(self.entropy_ess, dtype=np.float64)
        self.residual_bound = float(self.residual_bound)
        self.verified = bool(self.verified)
        if self.residual.ndim != 1:
            raise self._refuse(f"residual has shape {list(self.residual.shape)}, expected [B].")
        self._check_scalars()
        self._check_shape()
        absent = np.isnan(self.entropy_ess)
        self.entropy_ess = self._grid("entropy_ess", self.entropy_ess, absent)
        for name in GRIDS:
            setattr(self, name, self._grid(name, getattr(self, name), absent))
        self._fit_tolerances(absent)
        self._fit_singular_values(absent)

    @property
    def attainable(self) -> Floats:
        """`[P]`, the largest attainable state size over samples and groups, NaN where none."""
        flat = self.attainable_by_group.reshape(-1, len(self.positions))
        largest = np.where(np.isnan(flat), -np.inf, flat).max(axis=0)
        return np.where(np.isneginf(largest), np.nan, largest)

    @property
    def label(self) -> str:
        """Short name for tables: the index, or the dotted name where there is none."""
        label = str(self.index) if self.index >= 0 else self.name
        return f"{label} (run {self.call + 1})" if self.call else label

    @property
    def samples(self) -> int:
        """B."""
        return int(self.entropy_ess.shape[0])

    @property
    def channels(self) -> int:
        """Channels of the layer: groups times multiplicity."""
        return self.groups * self.multiplicity

    @property
    def tolerances(self) -> tuple[float, ...]:
        """The tolerances that were counted, in their given order."""
        return tuple(self.tolerance_ess)

    def values(self, metric: Metric) -> Floats:
        """`[B, G, P]` of `"entropy"` or of a tolerance.

        Raises:
            InvalidInputError: the layer has no such metric.
        """
        key = resolve_metric(metric, self.tolerances)
        return self.entropy_ess if key == ENTROPY else self.tolerance_ess[float(key)]

    def _refuse(self, message: str) -> InvalidInputError:
        return InvalidInputError(f"LayerESS {self.name!r}: {message}")

    def _check_scalars(self) -> None:
        if self.multiplicity < 1 or self.groups < 1:
            raise self._refuse("groups and multiplicity must be at least 1.")
        if self.channels > MOST_CHANNELS:
            raise self._refuse(f"{self.channels} channels are more than can be meant.")
        if not math.isfinite(self.residual_bound):
            raise self._refuse("residual_bound must be finite.")
        if self.verified == bool(self.reason):
            raise self._refuse("a layer has a reason exactly when it is not verified.")

    def _check_shape(self) -> None:
        expected = (len(self.residual), self.groups, len(self.positions))
        if self.entropy_ess.shape != expected:
            raise self._refuse(
                f"entropy_ess has shape {list(self.entropy_ess.shape)}, residual, groups and "
                f"positions say [B, G, P] = {list(expected)}."
            )
        absent = np.isnan(self.entropy_ess)
        if (absent.any(axis=1) != absent.all(axis=1)).any():
            raise self._refuse("a position of a sample has a value in some groups only.")

    def _grid(self, name: str, values: object, absent: NDArray[np.bool_]) -> Floats:
        """The values as float64 `[B, G, P]`, NaN where there is no entropy-ESS."""
        array = np.asarray(values, dtype=np.float64)
        try:
            grid = np.broadcast_to(array, absent.shape)
        except ValueError:
            raise self._refuse(
                f"{name} has shape {list(array.shape)}, expected {list(absent.shape)}."
            ) from None
        if name not in OF_SINGULAR_VALUES:
            if (np.isnan(grid) & ~absent).any():
                raise self._refuse(f"{name} is NaN where entropy_ess is not.")
            if (grid < 0).any() or np.isinf(grid).any():
                raise self._refuse(f"{name} holds negative or infinite numbers.")
        return np.where(absent, np.nan, grid)

    def _fit_tolerances(self, absent: NDArray[np.bool_]) -> None:
        keys = [float(key) for key in self.tolerance_ess]
        for name in ("undecided", "below_floor"):
            given = {float(key): value for key, value in getattr(self, name).items()}
            if given and set(given) != set(keys):
                raise self._refuse(f"{name} has other tolerances than tolerance_ess.")
            setattr(self, name, {key: given.get(key, 0) for key in keys})
        self.tolerance_ess = {
            float(key): self._grid(f"tolerance_ess[{key:g}]", value, absent)
            for key, value in self.tolerance_ess.items()
        }
        self.undecided = {
            key: self._grid(f"undecided[{key:g}]", value, absent)
            for key, value in self.undecided.items()
        }
        self.below_floor = {
            key: np.broadcast_to(np.asarray(value, dtype=np.bool_), absent.shape) & ~absent
            for key, value in self.below_floor.items()
        }

    def _fit_singular_values(self, absent: NDArray[np.bool_]) -> None:
        if self.singular_values is None:
            return
        values = np.array(self.singular_values, dtype=np.float32)
        if values.ndim != 4 or values.shape[:3] != absent.shape:
            raise self._refuse(
                f"singular_values has shape {list(values.shape)}, expected {[*absent.shape, 'K']}."
            )
        values[absent] = np.nan
        self.singular_values = values
