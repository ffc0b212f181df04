"""Trainings of a second, and what two of them have in common."""

from __future__ import annotations

import json

from hf_ess.lab import RunConfig
from hf_ess.lab.results import OF_THIS_RUN
from hf_ess.synthetics import Task

TASK = Task("multi_query_recall", {"length": 12, "pairs": 2, "vocabulary": 12})
MODEL = {"mixers": ["GLA", "SA"], "hidden_size": 8, "num_attention_heads": 2}


def small_config(**changes):
    """Twelve steps, with tests, measurements and checkpoints at steps that do not coincide."""
    settings = {
        "steps": 12,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "test_samples": 10,
        "evaluate_every": 4,
        "measure_every": 6,
        "save_every": 5,
        "probe_samples": 2,
        "schedule": "cosine",
        "warmup_steps": 3,
        "gradient_clip": 0.5,
        "device": "cpu",
    }
    return RunConfig(TASK, **{"model": MODEL, **settings, **changes})


def outcome(folder):
    """All that two runs of a configuration have in common, weights and log to the bit."""
    numbers = json.loads((folder / "results.json").read_text())
    return {
        "weights": (folder / "model" / "model.safetensors").read_bytes(),
        "log": (folder / "log.jsonl").read_bytes(),
        "results": {name: numbers[name] for name in numbers if name not in OF_THIS_RUN},
    }
