"""Texts to train on: no two steps share a seed, and none has that of the test texts."""

from __future__ import annotations

import torch

from hf_ess.lab.run_config import MOST_STEPS, RunConfig
from hf_ess.synthetics import Examples


def seed_of_step(seed: int, step: int) -> int:
    """The seed of the batch of a step, another one for every pair of a seed and a step.

    Example:
        >>> seed_of_step(0, 0), seed_of_step(0, 1), seed_of_step(1, 0)
        (0, 1, 1048576)
    """
    return seed * MOST_STEPS + step


def training_batch(config: RunConfig, step: int, device: torch.device) -> Examples:
    """Texts and labels `[batch_size, L]` of a step, on the device."""
    task = config.task_of_step(step)
    examples = task.texts(config.batch_size, seed=seed_of_step(config.seed, step))
    return Examples(*(tensor.to(device) for tensor in examples))
