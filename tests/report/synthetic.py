"""Made-up reports for tests: cheap, and shaped like real ones."""

from __future__ import annotations

import numpy as np

from hf_ess.report import ESSReport, LayerESS, SampleInfo, UnsupportedLayer

TOLERANCES = (1e-1, 1e-3, 1e-5)


def make_layer(index=0, *, lengths=(12,), positions=(2, 5, 9), groups=2, seed=0, **changes):
    """One verified layer with plausible random values, NaN beyond the end of each sample."""
    random = np.random.default_rng([seed, abs(index)])
    positions = np.asarray(positions)
    spans = np.asarray(lengths)[:, None, None]
    state_size = changes.get("state_size")
    capacity = np.minimum(positions, state_size or np.inf)
    attainable = np.minimum(capacity, np.maximum(spans - positions, 1))
    shape = (len(lengths), groups, len(positions))
    entropy = 1 + (attainable - 1) * random.uniform(0.05, 0.6, shape)
    entropy = np.where(positions < spans, entropy, np.nan)
    counts = {tau: np.ceil(entropy * (1 + k)).clip(max=99) for k, tau in enumerate(TOLERANCES)}
    fields = {
        "index": index,
        "name": f"model.layers.{index}.self_attn",
        "mixer": "softmax attention",
        "groups": groups,
        "multiplicity": 4,
        "state_size": None,
        "verified": True,
        "residual": random.uniform(1e-8, 1e-6, len(lengths)),
        "residual_bound": 1e-4,
        "method": "gram",
        "positions": positions,
        "entropy_ess": entropy,
        "tolerance_ess": counts,
        "capacity": capacity,
        "attainable_by_group": attainable,
        "largest_singular_value": random.uniform(0.5, 2.0, shape),
        "error_bound": np.full(shape, 1e-13),
    }
    return LayerESS(**(fields | changes))


def make_report(layers=3, *, lengths=(12,), positions=(2, 5, 9), groups=2, seed=0, **changes):
    """A report of that many layers; `changes` are keyword arguments of ESSReport."""
    if isinstance(layers, int):
        layers = [
            make_layer(i, lengths=lengths, positions=positions, groups=groups, seed=seed)
            for i in range(layers)
        ]
    samples = [
        SampleInfo(
            length=length,
            text_sha256="0" * 64,
            tokens=[f" word{i}" for i in range(length)],
            token_ids=np.arange(length),
        )
        for length in lengths
    ]
    fields = {
        "layers": layers,
        "positions": positions,
        "tolerances": TOLERANCES,
        "samples": samples,
        "provenance": {"model": "test/model", "versions": {"torch": "2"}},
    }
    return ESSReport(**(fields | changes))


def unverified(layer_fields=None):
    """The changes that make a layer unverified."""
    return {"verified": False, "reason": "residual 3.0e-01 above 1.0e-04"} | (layer_fields or {})


UNSUPPORTED = UnsupportedLayer("model.layers.9.mlstm", 9, "mlstm", "no adapter knows it")
