"""ESS of a model in training, on a fixed batch, layer by layer as plain numbers."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.analysis import analyze
from hf_ess.lab.run_config import RunConfig
from hf_ess.report import ESSReport, LayerESS
from hf_ess.report.records import plain
from hf_ess.report.rows import rows
from hf_ess.training.few_positions import training_positions

PAIRS = "pairs"


def measured(
    model: nn.Module, config: RunConfig, probe: Tensor
) -> tuple[list[dict[str, Any]], list[str]]:
    """ESS per channel of every layer on the probe texts `[B, L]`, and what has to be known of it.

    Values of layers that could not be verified are None, as in every report.

    Returns:
        For each layer index, mixer, state_size, attainable, entropy_ess, tolerance_ess_TAU,
        utilization (of the entropy-ESS), entropy_ess_per_pair where the task has pairs, verified;
        and remarks in words.
    """
    positions = training_positions(config.probe_positions, probe.shape[1])
    training = model.training
    model.eval()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # the report has them, and so will the remarks
        try:
            report = analyze(
                model,
                probe,
                positions=positions,
                tolerances=config.tolerances,
                batch_size=len(probe),
                progress=False,
                distributed=False,
            )
        finally:
            model.train(training)
    pairs = config.task.arguments.get(PAIRS)
    found = zip(report.layers, rows(report, "layer"), strict=True)
    return [_layer(report, layer, row, pairs) for layer, row in found], _remarks(report)


def _layer(
    report: ESSReport, layer: LayerESS, row: dict[str, Any], pairs: int | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "index": layer.index,
        "mixer": layer.mixer,
        "state_size": layer.state_size,
        "attainable": row["attainable"],
    }
    for metric in report.metrics:
        name = report.metric_column(metric)
        found[name] = row[f"average_{name}"]
    entropy = report.metric_column("entropy")
    found["utilization"] = row[f"utilization_{entropy}"]
    if pairs is not None:
        found["entropy_ess_per_pair"] = row[f"average_{entropy}"] / pairs
    found["verified"] = layer.verified
    return {name: _number(value) for name, value in found.items()}


def _number(value: Any) -> Any:
    """None for NaN, which JSON does not know."""
    return None if value != value else plain(value)


def _remarks(report: ESSReport) -> list[str]:
    refused = [f"{layer.name}: {layer.reason}" for layer in report.unsupported]
    return [*report.warnings, *refused]
