"""Regularizer: a loss term on transitions, so that GLA and WLA keep what they would forget."""

from __future__ import annotations

from typing import Any

from hf_ess.lab.paper.experiment import Scale, Trainings
from hf_ess.lab.paper.recall_grid import FORGETFUL, RECALL, recall_base

TERM = "regularizer"
SECOND_MIXER = 1
WEIGHTS: dict[Scale, tuple[float, ...]] = {
    Scale.minute: (8.0,),
    Scale.small: (1.0, 8.0),
    Scale.paper: (2.0**-3, 2.0**-1, 2.0, 2.0**3, 2.0**5),
}
OURS = {"name": "ess", "target": 0.5, "side": "at least", "weight": 1.0, "layers": [SECOND_MIXER]}
SEVERAL_RATES: dict[Scale, tuple[float, ...]] = {
    Scale.minute: (5e-3,),
    Scale.small: (1e-3, 3e-3),
    Scale.paper: (5e-4, 1e-3, 2e-3, 4e-3),
}
SEEDS: dict[Scale, tuple[int, ...]] = {
    Scale.minute: (0, 1),
    Scale.small: (0, 1),
    Scale.paper: (0, 1),
}
# Of GLA, with which our own term is compared.
MORE_RATES = {**SEVERAL_RATES, Scale.small: (1e-3, 3e-3, 1e-2)}
MORE_SEEDS = {**SEEDS, Scale.small: (0, 1, 2)}


def regularizer_trainings(scale: Scale) -> tuple[Trainings, ...]:
    """GLA with each loss term, WLA with those of the paper, and LA with none."""
    transitions = [
        {"name": "transition", "weight": weight, "layers": [SECOND_MIXER]}
        for weight in WEIGHTS[scale]
    ]
    rates, seeds = SEVERAL_RATES[scale], SEEDS[scale]
    gla = _axes([None, *transitions, OURS], MORE_RATES[scale], MORE_SEEDS[scale])
    return (
        Trainings("regularizer", _base(scale, "GLA"), gla),
        Trainings(
            "regularizer-WLA", _base(scale, "WLA"), _axes([None, *transitions], rates, seeds)
        ),
        Trainings("regularizer-LA", _base(scale, "LA"), _axes([None], rates, seeds)),
    )


def _axes(terms: list[Any], rates: tuple[float, ...], seeds: tuple[int, ...]) -> dict[str, Any]:
    return {TERM: terms, "learning_rate": list(rates), "seed": list(seeds)}


def _base(scale: Scale, mixer: str) -> dict[str, Any]:
    mixers = {"mixers": [mixer, mixer], **FORGETFUL[scale]}
    if scale is Scale.paper:
        base = recall_base(scale, 128, 4096)
        return base | {"model": {**mixers, "hidden_size": 128, "num_attention_heads": 8}}
    if scale is Scale.minute:
        base = recall_base(scale, 2, 16)
        return base | {"model": {**base["model"], **mixers, "num_attention_heads": 2}}
    return {
        "task": {"name": RECALL, "length": 32, "pairs": 8, "vocabulary": 32},
        "model": {**mixers, "hidden_size": 64, "num_attention_heads": 2},
        "cycle": {"pairs": [2, 4, 8]},
        "steps": 800,
        "batch_size": 32,
        "schedule": "cosine",
        "warmup_steps": 50,
        "gradient_clip": 1.0,
        "evaluate_every": 100,
        "measure_every": 400,
        "save_every": 400,
        "device": "cpu",
    }
