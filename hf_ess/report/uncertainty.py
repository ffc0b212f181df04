"""How far a number of a report may be off, as far as its blocks were certified.

This is what the numbers themselves are known to; how much another choice of texts would change
them is the standard error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hf_ess.report.layer import LayerESS
from hf_ess.report.names import ENTROPY, Metric, resolve_metric

Floats = NDArray[np.float64]


def half_widths(layer: LayerESS, metric: Metric) -> Floats:
    """`[B, G, P]`, how far each ESS may be from the true one; NaN where there is none.

    Of entropy-ESS, its certified half width in state dimensions; 0 where it comes from singular
    values. Of a tolerance-ESS, the singular values that are too close to the tolerance to be
    counted; below the rounding floor the count may be anything from 0 to what is attainable.

    Example:
        >>> from hf_ess.report import LayerESS
        >>> layer = LayerESS(
        ...     index=0, name="h.0", mixer="softmax attention", groups=1, multiplicity=1,
        ...     state_size=None, verified=True, residual=[0.0], residual_bound=1e-4,
        ...     positions=[4], entropy_ess=[[[2.0]]], tolerance_ess={0.1: [[[3]]]},
        ...     capacity=4, attainable_by_group=4, largest_singular_value=1.0, error_bound=0.0,
        ...     entropy_half_width=0.01, undecided={0.1: [[[1]]]},
        ... )
        >>> half_widths(layer, "entropy"), half_widths(layer, 0.1)
        (array([[[0.02]]]), array([[[1.]]]))
    """
    key = resolve_metric(metric, layer.tolerances)
    if key == ENTROPY:
        return np.asarray(layer.entropy_half_width * layer.entropy_ess)
    tolerance = float(key)
    counts = layer.tolerance_ess[tolerance]
    anything = np.maximum(counts, layer.attainable_by_group - counts)
    return np.where(layer.below_floor[tolerance], anything, layer.undecided[tolerance])
