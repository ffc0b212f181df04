"""Rows of runs on recall that nobody trained, with every column that experiments read."""

from __future__ import annotations

import pandas as pd

BETAS = {"GLA": 0.25, "WLA": 0.25}


def made_up(points):
    """A row for each mapping with featurizer, tss, pairs and whatever is to be other than here."""
    rows = []
    for point in points:
        kind, beta = point["featurizer"], point.get("beta", BETAS.get(point["featurizer"]))
        own = {name: value for name, value in point.items() if name not in ("tss", "beta")}
        row = {
            "beta": beta,
            "model": kind if beta is None else f"{kind} (beta {beta:g})",
            "width": 32,
            "heads": 32 // point["tss"] if kind != "SA" else 4,
            "length": 32,
            "learning_rate": 2e-3,
            "seed": 0,
            "state_size": float(point["tss"]),
            "attainable": float(point["tss"]),
            "step": 1600,
            "test_loss": 1.0,
            "tolerance_ess_0.1": 1.0,
            "tolerance_ess_0.001": 1.0,
            "tolerance_ess_1e-05": 1.0,
            "entropy_ess": 1.0,
            "verified": True,
        }
        rows.append(row | own)
    return pd.DataFrame(rows)
