"""Views made up from random singular values, and what must be read from them, both in NumPy."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np

THRESHOLDS = np.array([10.0 ** (1 - k / 10) for k in range(71)])
UNVERIFIED = "residual 3.0e-01 above 1.0e-04"
TOKENS = (
    "<script>window.hacked = 1</script>", " the", " cat", ".", "\n", "   ",
    "\u05e9\u05dc\u05d5\u05dd", "\U0001f469\u200d\U0001f52c", "&amp;", "<|endoftext|>", "", "\tx",
)  # fmt: skip


@dataclass
class MadeView:
    """A view, and the singular values `[layer, position, group, value]` that it was made from."""

    view: dict[str, Any]
    spectra: np.ndarray
    channels: int
    unverified: frozenset[int] = frozenset()
    capacity: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def per_channel(self, threshold: float | None) -> np.ndarray:
        """`[layer, position]`: counts above a threshold, or entropy-ESS; NaN if not verified."""
        if threshold is None:
            values = _entropy(self.spectra).mean(axis=2)
        else:
            values = (self.spectra > threshold).sum(axis=3).mean(axis=2).astype(float)
        values[list(self.unverified)] = np.nan
        return values

    def total(self, threshold: float | None) -> np.ndarray:
        """`[position]`: summed over channels, mean over verified layers."""
        return np.nanmean(self.per_channel(threshold) * self.channels, axis=0)

    def utilization(self, threshold: float | None) -> float:
        return float(np.nanmean(self.per_channel(threshold) / self.capacity))

    def cell(self, layer: int, position: int) -> dict[str, Any]:
        block = self.spectra[layer, self.view["positions"].index(position)]
        groups = [
            {
                "group": group,
                "values": values[values > 0].tolist(),
                "entropy": float(_entropy(values)),
                "errorBound": 1e-5,
            }
            for group, values in enumerate(block)
        ]
        return {"layer": layer, "position": position, "groups": groups}


def make_view(
    layers: int = 4,
    length: int = 12,
    *,
    positions: list[int] | None = None,
    groups: int = 2,
    values: int = 6,
    unverified: tuple[int, ...] = (),
    thresholds: np.ndarray = THRESHOLDS,
    seed: int = 0,
    **changes: Any,
) -> MadeView:
    """A view of the contract's form; `changes` replace its entries."""
    random = np.random.default_rng(seed)
    positions = positions or list(range(1, length))
    spectra = -np.sort(-(10.0 ** random.uniform(-8, 2, (layers, len(positions), groups, values))))
    # Not monotone in position, as a state that is let go.
    spectra *= (1 + np.sin(np.array(positions)))[:, None, None] + 0.01
    capacity = np.array(positions, dtype=float)
    made = MadeView({}, spectra, groups * 4, frozenset(unverified), capacity)
    tokens = [*TOKENS, *(f" word{i}" for i in range(length))][:length]
    made.view = {
        "version": 1,
        "key": f"key{seed:08d}",
        "title": "test/<b>model</b>",
        "model": {
            "name": "test/model", "revision": "", "type": "llama", "parameters": 134515008,
            "dtype": "float32",
        },
        "scope": "core",
        "relative": False,
        "window": None,
        "complete": True,
        "notes": [],
        "length": length,
        "samples": 1,
        "tokens": tokens,
        "separators": [3, 9],
        "positions": positions,
        "thresholds": thresholds.tolist(),
        "spectra": True,
        "tolerances": [0.1, 0.001, 1e-5],
        "metrics": ["entropy", "tolerance"],
        "layers": [_layer(made, number, positions, thresholds) for number in range(layers)],
        "unsupported": [],
        "words": [],
        "proof": {
            "verified": layers - len(unverified), "layers": layers,
            "largestResidual": 1e-6 * layers,
        },
    } | changes  # fmt: skip
    return made


def _layer(
    made: MadeView, number: int, positions: list[int], thresholds: np.ndarray
) -> dict[str, Any]:
    spectra = made.spectra[number]
    verified = number not in made.unverified
    counts = (spectra[..., None] > thresholds).sum(axis=(1, 2)).astype("<u4")
    absent: list[float | None] = [None] * len(positions)
    return {
        "index": number,
        "name": f"model.layers.{number}.self_attn",
        "label": str(number),
        "mixer": "softmax attention",
        "groups": spectra.shape[1],
        "channels": made.channels,
        "stateSize": None,
        "verified": verified,
        "residual": 1e-6 * (number + 1) if verified else 0.3,
        "residualBound": 1e-4,
        "reason": "" if verified else UNVERIFIED,
        "method": "gram",
        "halfWidth": 0.0,
        "entropy": _entropy(spectra).mean(axis=1).tolist() if verified else absent,
        "counts": base64.b64encode(counts.tobytes()).decode(),
        "countsType": "u4",
        "floor": [1e-5 * (p % 2) for p in positions] if verified else absent,
        "capacity": [float(p) for p in positions] if verified else absent,
        "attainable": [float(spectra.shape[2])] * len(positions) if verified else absent,
        "groupEntropy": _entropy(spectra).mean(axis=0).tolist(),
        "verdict": "",
    }


def _entropy(values: np.ndarray) -> np.ndarray:
    shares = values / values.sum(axis=-1, keepdims=True)
    return np.exp(-(shares * np.log(shares)).sum(axis=-1))
