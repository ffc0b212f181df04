"""The space of tasks and models of section 4: recall of more pairs by larger states.

Shared by the experiments on correlation, dynamics and collapse, as in the paper.

The small scale has texts of 32 tokens where the paper has 64 to 2048, so that decays of beta = 16
would forget nothing. What a state forgets over a text depends on length / beta alone: beta = 0.25
is the paper's 2048 tokens, beta = 16 its shortest texts.
"""

from __future__ import annotations

from typing import Any

from hf_ess.lab.paper.experiment import Scale, Trainings

RECALL = "multi_query_recall"
# Among hard texts a model finds out from easy ones what is asked.
EASY = (1, 2, 4, 6)
# What is other in `recall_base` at the small scale, in words.
SMALLER = (
    "Models are trained for 1600 steps of 32 texts with a cosine schedule in place of 140000 of "
    "64, on a vocabulary of 18 in place of 8192, and on texts of 1, 2, 4, 6 and 8 pairs in turn, "
    "since such short trainings find out from easy texts what is asked."
)
LENGTHS: dict[Scale, dict[int, int]] = {
    Scale.minute: {2: 16},
    Scale.small: {8: 32},
    Scale.paper: {8: 64, 16: 128, 32: 256, 64: 512, 128: 2048},
}
# Texts of few pairs ask little, and in short trainings on them alone nothing is learned: at the
# small scale every model learns from texts of 1 to 8 pairs, and is measured on each of these too.
OTHER_PAIRS: dict[Scale, tuple[int, ...]] = {
    Scale.minute: (1,),
    Scale.small: (6, 4, 2),
    Scale.paper: (),
}
BETAS: dict[Scale, tuple[float, ...]] = {
    Scale.minute: (0.25,),
    Scale.small: (0.25, 16.0),
    Scale.paper: (16.0,),
}

# A model whose state forgets over a text what the paper's forgets over 2048 tokens.
FORGETFUL: dict[Scale, dict[str, float]] = {
    Scale.minute: {"decay_temperature": 0.25},
    Scale.small: {"decay_temperature": 0.25},
    Scale.paper: {},
}


def recall_grid(scale: Scale) -> tuple[Trainings, ...]:
    """The sweeps of a scale: for each number of pairs those with decays, without, and attention."""
    return tuple(
        Trainings(
            f"recall-{group}-{pairs}",
            recall_base(scale, pairs, length),
            axes,
            {"length": length, "pairs": pairs},
        )
        for pairs, length in LENGTHS[scale].items()
        for group, axes in _axes(scale).items()
    )


def recall_base(scale: Scale, pairs: int, length: int) -> dict[str, Any]:
    """How a model of some scale learns recall."""
    vocabulary = {Scale.minute: 18, Scale.small: 18, Scale.paper: 8192}[scale]
    base: dict[str, Any] = {
        "task": {"name": RECALL, "length": length, "pairs": pairs, "vocabulary": vocabulary}
    }
    if scale is Scale.paper:
        # 70 epochs of 2000 batches of 64 texts.
        return base | {
            "steps": 140_000,
            "batch_size": 64,
            "test_samples": 6400,
            "evaluate_every": 2000,
            "measure_every": 2000,
            "save_every": 2000,
            "gradient_clip": 1.0,
        }
    steps = 1600 if scale is Scale.small else 6
    every = 100 if scale is Scale.small else 2
    return base | {
        "model": {"hidden_size": 32},
        "cycle": {"pairs": [*(easy for easy in EASY if easy < pairs), pairs]},
        "steps": steps,
        "batch_size": 32,
        "schedule": "cosine",
        "warmup_steps": 50 if scale is Scale.small else 0,
        "gradient_clip": 1.0,
        "evaluate_every": every,
        "measure_every": every,
        "save_every": None,
        "device": "cpu",
    }


def _axes(scale: Scale) -> dict[str, dict[str, Any]]:
    """A state has as many numbers as a head has channels, so that heads set its size."""
    if scale is Scale.paper:
        widths, heads = [64, 128, 256, 512], [4, 8]
        shared = {"model.hidden_size": widths, "model.num_attention_heads": heads}
        headed = attention = shared | {"learning_rate": [5e-4, 1e-3, 2e-3, 4e-3], "seed": [0]}
    else:
        few = scale is Scale.minute
        rates = {"learning_rate": [5e-3] if few else [2e-3, 5e-3], "seed": [0]}
        headed = {"model.num_attention_heads": [16, 4] if few else [16, 8, 4, 2], **rates}
        attention = {
            "model.hidden_size": [16, 32],
            "model.num_attention_heads": [2] if few else [2, 4],
            **rates,
        }
    return {
        "decays": {
            "model.mixers": [["GLA", "GLA"], ["WLA", "WLA"]],
            "model.decay_temperature": list(BETAS[scale]),
            **headed,
        },
        "linear": {"model.mixers": [["LA", "LA"]], **headed},
        "attention": {"model.mixers": [["SA", "SA"]], **attention},
    }
