"""Initialization: a larger state is of use only where decays at the start let it be."""

from __future__ import annotations

from typing import Any

from hf_ess.lab.paper.experiment import Scale, Trainings
from hf_ess.lab.paper.recall_grid import recall_base

MIXERS, STATES, ALPHA = "model.mixers", "model.state_sizes", "model.alpha"
# Pairs and tokens.
TASKS = {Scale.minute: (2, 16), Scale.small: (8, 32), Scale.paper: (128, 2048)}
# What a state forgets over a text depends on length times dt: 64 times the steps of Mamba are over
# 32 tokens what those are over 2048.
STEPS: dict[Scale, dict[str, float]] = {
    Scale.minute: {"smallest_step": 0.064, "largest_step": 6.4},
    Scale.small: {"smallest_step": 0.064, "largest_step": 6.4},
    Scale.paper: {},
}
SIZES: dict[Scale, dict[str, int]] = {
    Scale.minute: {"hidden_size": 32, "num_attention_heads": 1},
    Scale.small: {"hidden_size": 32, "num_attention_heads": 1},
    Scale.paper: {"hidden_size": 128, "num_attention_heads": 8},
}
TRAINED_STATES: dict[Scale, tuple[int, ...]] = {
    Scale.minute: (4, 8),
    Scale.small: (16, 64),
    Scale.paper: (16, 64, 256),
}
TRAINED_ALPHAS: dict[Scale, tuple[float, ...]] = {
    Scale.minute: (1.0, 1024.0),
    Scale.small: (1.0, 32.0, 1024.0),
    Scale.paper: (1.0, 2.0**10, 2.0**12, 2.0**14),
}
RATES: dict[Scale, tuple[float, ...]] = {
    Scale.minute: (5e-3,),
    Scale.small: (2e-3, 5e-3),
    Scale.paper: (5e-4, 1e-3, 2e-3, 4e-3),
}


def initialization_trainings(scale: Scale) -> Trainings:
    """S6 and GLA-S6 on recall, by state size and alpha."""
    base = recall_base(scale, *TASKS[scale])
    axes: dict[str, list[Any]] = {
        MIXERS: [["S6", "S6"], ["GLA-S6", "GLA-S6"]],
        STATES: [[state, state] for state in TRAINED_STATES[scale]],
        ALPHA: list(TRAINED_ALPHAS[scale]),
        "learning_rate": list(RATES[scale]),
        "seed": [0],
    }
    model = {**base.get("model", {}), **SIZES[scale], **STEPS[scale]}
    # Measuring S6 takes as long as some steps of so small a model.
    seldom = {} if scale is Scale.paper else {"measure_every": None}
    return Trainings("initialization", {**base, "model": model, **seldom}, axes)
