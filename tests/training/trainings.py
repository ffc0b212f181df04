"""Short trainings by the Trainer of transformers, on random texts."""

from __future__ import annotations

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

VOCABULARY, LENGTH = 32, 24


def texts(count=16, *, length=LENGTH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (count, length), generator=generator)


def trainer_for(model, folder, *callbacks, data=None, **arguments):
    """A Trainer that says nothing and writes only what it is asked to."""
    rows = texts() if data is None else data
    options = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "max_steps": 4,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }
    trainer = Trainer(
        model,
        TrainingArguments(output_dir=str(folder), **{**options, **arguments}),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        eval_dataset=[{"input_ids": row, "labels": row} for row in rows[:4]],
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def logged(trainer, name):
    """Step and value of each entry of the history that has a value of that name."""
    history = trainer.state.log_history
    return [(entry["step"], entry[name]) for entry in history if name in entry]
