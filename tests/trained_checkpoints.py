"""A trained synthetic model in a folder, as those that are shipped, without the training."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from hf_ess.synthetics import SyntheticConfig, Task, accuracy, build_model

TASK = {"name": "multi_query_recall", "length": 16, "pairs": 2, "vocabulary": 16}
TEST_SAMPLES = 12


def save_trained(folder: Path, *mixers: str, seed: int = 3, **config) -> Path:
    """Saves a model of the mixers with the records of a training; returns the folder."""
    task = Task.from_dict(TASK)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "state_size": 4, "conv_kernel": 3}
    configuration = SyntheticConfig(mixers or ("GLA", "SA"), task.vocabulary, **sizes | config)
    model = build_model(configuration, seed=seed)
    ids, labels = task.test_texts(TEST_SAMPLES)
    with torch.no_grad():
        right = accuracy(model(input_ids=ids).logits, labels)
    model.save_pretrained(folder)
    write_record(folder / "run.json", task=task.to_dict(), seed=seed, test_samples=TEST_SAMPLES)
    write_record(folder / "results.json", accuracy=right, command="hf-ess lab train run.yaml")
    return folder


def write_record(path: Path, **values: object) -> None:
    """Writes an object of JSON."""
    path.write_text(json.dumps(values), encoding="utf-8")
