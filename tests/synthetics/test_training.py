"""The Trainer of transformers takes models and tasks as they are."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from hf_ess.synthetics import SyntheticConfig, accuracy, build_model, multi_query_recall

SIZES = {"length": 8, "pairs": 1, "vocabulary": 8}


class Recall(Dataset):
    def __init__(self, samples: int) -> None:
        self.texts = multi_query_recall(samples, **SIZES, seed=1)

    def __len__(self) -> int:
        return len(self.texts.input_ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: value[index] for name, value in self.texts._asdict().items()}


def test_the_trainer_of_transformers_trains_them(tmp_path) -> None:
    config = SyntheticConfig(
        ["Mamba", "SA"], vocab_size=8, hidden_size=16, num_attention_heads=2, state_size=4
    )
    model = build_model(config)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=32,
        learning_rate=5e-3,
        max_steps=100,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, arguments, train_dataset=Recall(32 * 100), eval_dataset=Recall(64))
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.3
    test = multi_query_recall(200, **SIZES, seed=2)
    with torch.no_grad():
        assert accuracy(model.eval()(input_ids=test.input_ids).logits, test.labels) > 0.9
