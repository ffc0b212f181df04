"""ESS of a model in training, on a fixed batch, layer by layer as plain numbers."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from hf_ess.lab.run_config import RunConfig
from hf_ess.report import UnsupportedLayer
from hf_ess.report.names import metric_column
from hf_ess.report.records import plain
from hf_ess.training import ESSSnapshot, ESSWatch, LayerSnapshot

PAIRS = "pairs"


class Probe:
    """ESS of a model on the first texts of its test set; the first measurement is made at once.

    Args:
        model: before its first step: remarks on later measurements compare with this one.
        config: of the run.

    Raises:
        NonFiniteError: NaN or infinity in weights or features.
    """

    def __init__(self, model: nn.Module, config: RunConfig) -> None:
        texts = config.task.test_texts(config.test_samples).input_ids[: config.probe_samples]
        self.config = config
        self.watch = ESSWatch(
            model, texts, positions=config.probe_positions, tolerances=config.tolerances
        )
        self.first = self.watch.measure()

    def measure(self) -> ESSSnapshot:
        """ESS of the model as it is now; it trains on as if nothing had been.

        Raises:
            NonFiniteError: NaN or infinity in weights or features.
        """
        return self.watch.measure()

    def layers(self, snapshot: ESSSnapshot) -> list[dict[str, Any]]:
        """ESS per channel of every layer, None for what could not be verified or counted.

        Each layer has index, mixer, state_size, attainable, entropy_ess, tolerance_ess_TAU,
        utilization (of the entropy-ESS), entropy_ess_per_pair where the task has pairs, verified.
        """
        found = [self._verified(layer) for layer in snapshot.layers]
        found += [_unverified(layer) for layer in snapshot.unverified]
        return sorted(found, key=lambda layer: layer["index"])

    def _verified(self, layer: LayerSnapshot) -> dict[str, Any]:
        found: dict[str, Any] = {
            "index": layer.index,
            "mixer": layer.mixer,
            "state_size": layer.state_size,
            "attainable": layer.attainable,
            "entropy_ess": layer.entropy_ess,
        }
        for tolerance in self.config.tolerances:
            found[metric_column(tolerance, relative=False, window=None)] = layer.tolerance_ess.get(
                tolerance
            )
        found["utilization"] = layer.utilization
        if PAIRS in self.config.task.arguments:
            pairs = self.config.task.arguments[PAIRS]
            found["entropy_ess_per_pair"] = layer.entropy_ess / pairs
        found["verified"] = True
        return {name: _number(value) for name, value in found.items()}


def _unverified(layer: UnsupportedLayer) -> dict[str, Any]:
    return {"index": layer.index, "mixer": layer.mixer, "verified": False}


def _number(value: Any) -> Any:
    """None for NaN, which JSON does not know."""
    return None if isinstance(value, float) and math.isnan(value) else plain(value)
