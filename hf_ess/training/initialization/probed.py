"""What the probe measured of one mixer: ESS by state size and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_ess.report.names import ENTROPY, Metric, resolve_metric

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbedMixer:
    """Effective state-size of one mixer of models that differ in state size and seed.

    An `InitializationProbe` holds one for each mixer.

    Letters: K state sizes, R seeds. ESS are means over samples, channels and positions.

    Attributes:
        index: layer number in the model.
        name: dotted name of the module.
        call: which run of that module within one forward pass, counted from 0.
        mixer: what kind of mixer it is.
        alpha: what its decay rates were divided by, 1 for the mixer as it was built.
        has_rates: whether it has decay rates that can be divided.
        state_sizes: those that the models were built with.
        capacity: `[K]`, the state that a channel can carry (TSS); where it grows with the
            position, its mean.
        attainable: `[K]`, mean of `min(TSS_i, i, L - i)` over positions (ours).
        entropy_ess: `[K, R]`, per channel (equation 3 of Parnichkun et al., ICML 2025).
        tolerance_ess: for each tolerance `[K, R]`, per channel (equation 2); NaN where the
            tolerance lies below the rounding floor of some block.
    """

    index: int
    name: str
    call: int
    mixer: str
    alpha: float
    has_rates: bool
    state_sizes: tuple[int, ...]
    capacity: Floats
    attainable: Floats
    entropy_ess: Floats
    tolerance_ess: dict[float, Floats]

    @property
    def label(self) -> str:
        """Short name for tables: layer, kind, and alpha where rates were divided."""
        layer = f"layer {self.index}, {self.mixer}" if self.index >= 0 else self.mixer
        run = f" (run {self.call + 1})" if self.call else ""
        return f"{layer}{run}" + (f", alpha {self.alpha:g}" if self.alpha != 1 else "")

    @property
    def follows_state_size(self) -> bool:
        """Whether its capacity changes with the state size."""
        return bool(np.ptp(self.capacity) > 0)

    @property
    def room_varies(self) -> bool:
        """Whether the attainable size changes with the state size."""
        return bool(np.ptp(self.attainable) > 0)

    def values(self, metric: Metric = ENTROPY) -> Floats:
        """`[K, R]` of `"entropy"` or of a tolerance.

        Raises:
            InvalidInputError: there is no such metric.
        """
        key = resolve_metric(metric, tuple(self.tolerance_ess))
        return self.entropy_ess if key == ENTROPY else self.tolerance_ess[float(key)]

    def mean(self, metric: Metric = ENTROPY) -> Floats:
        """`[K]`, over seeds."""
        return np.asarray(self.values(metric).mean(1))

    def standard_error(self, metric: Metric = ENTROPY) -> Floats:
        """`[K]`, of the mean over seeds; NaN for a single seed."""
        return standard_error(self.values(metric))

    def elasticity(self, metric: Metric = ENTROPY) -> tuple[float, float]:
        """`d log ESS / d log attainable` (ours), its mean and standard error over seeds.

        Each seed gives the slope of a straight line (least squares). Over the attainable size
        rather than the capacity, so that a text too short to fill a state does not count against
        the mixer. NaN where the attainable size is always the same, or an ESS is 0 or unknown.
        """
        values, sizes = self.values(metric), np.log(self.attainable)
        if not self.room_varies or not bool((values > 0).all()):
            return math.nan, math.nan
        steps = sizes - sizes.mean()
        slopes = np.asarray(steps @ np.log(values) / (steps @ steps))
        return float(slopes.mean()), float(standard_error(slopes))


def standard_error(values: Floats) -> Floats:
    """Of the mean over the last axis, NaN where it holds a single value.

    Example:
        >>> import numpy as np
        >>> standard_error(np.array([[1.0, 3.0], [2.0, 2.0]])), standard_error(np.ones((1, 1)))
        (array([1., 0.]), array([nan]))
    """
    count = values.shape[-1]
    if count < 2:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray(values.std(-1, ddof=1) / count**0.5)
