"""Reports whose numbers follow from random singular values, as those of an analysis do."""

from __future__ import annotations

import numpy as np
from report.synthetic import TOLERANCES, make_layer, make_report

from hf_ess.metrics import entropy_ess, tolerance_ess


def spectral_layer(index=0, *, lengths, positions, groups, values=16, relative=False, **changes):
    """A layer with `values` singular values per block, and the counts and entropies of them."""
    random = np.random.default_rng([17, index])
    shape = len(lengths), groups, len(positions), values
    decay = 10.0 ** random.uniform(-8, 2, shape)
    spectra = -np.sort(-decay, axis=-1)
    reached = np.asarray(positions) < np.asarray(lengths)[:, None]
    spectra[..., 1:][..., -2:] = 0
    counts = {
        tau: tolerance_ess(spectra, tau, relative=relative).numpy().astype(float)
        for tau in TOLERANCES
    }
    fields = {
        "entropy_ess": np.where(reached[:, None], entropy_ess(spectra).numpy(), np.nan),
        "tolerance_ess": counts,
        "singular_values": spectra.astype(np.float32),
        "largest_singular_value": spectra[..., 0],
        "attainable_by_group": np.full(shape[:3], float(values)),
        "error_bound": random.uniform(1e-14, 1e-13, shape[:3]),
    }
    return make_layer(
        index, lengths=lengths, positions=positions, groups=groups, **(fields | changes)
    )


def spectral_report(
    layers=3, *, lengths=(40,), positions=(4, 9, 20, 33), groups=3, values=16, relative=False,
    **changes,
):  # fmt: skip
    """A report of such layers; `changes` are keyword arguments of ESSReport."""
    options = {"lengths": lengths, "positions": positions, "groups": groups, "values": values}
    made = [spectral_layer(i, relative=relative, **options) for i in range(layers)]
    return make_report(made, lengths=lengths, positions=positions, relative=relative, **changes)
