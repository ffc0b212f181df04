"""The parts of one training: model, optimizer and texts; a step; a test; a record."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from hf_ess.errors import InvalidInputError, NonFiniteError
from hf_ess.lab.batches import training_batch
from hf_ess.lab.probing import Probe
from hf_ess.lab.run_config import RunConfig
from hf_ess.lab.run_log import LAYERS, REMARKS, Record
from hf_ess.lab.testing import tested
from hf_ess.lab.training_state import Counters
from hf_ess.synthetics import build_model


class Training:
    """A model, its optimizer, and what they train on.

    Args:
        config: of the run.

    Raises:
        InvalidInputError: the device does not exist.
        UnsupportedModelError: the model has no mixer that can be measured.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.device = device_named(config.device)
        dtype = getattr(torch, config.dtype)
        model = build_model(config.model_config(), seed=config.seed)
        self.model = model.to(self.device, dtype).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.regularizer = config.build_regularizer(self.model)
        self.tests = config.task.test_texts(config.test_samples)
        self.probe = Probe(self.model, config)
        self.counters = Counters()

    def step(self) -> None:
        """Trains on the next batch.

        Raises:
            NonFiniteError: the loss or a gradient is NaN or infinite; the weights are as before.
        """
        step = self.counters.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step)
        self.optimizer.zero_grad()
        loss, penalty = self._losses(step)
        self._check(loss.item(), "loss")
        if penalty is not None:
            self._check(penalty.item(), "term of the regularizer")
        torch.autograd.backward(loss if penalty is None else loss + penalty)
        self._clip()
        self.optimizer.step()
        self.counters.step += 1
        self.counters.loss_sum += loss.item()
        self.counters.penalty_sum += 0.0 if penalty is None else penalty.item()
        self.counters.loss_count += 1

    def record(self, *, measure: bool) -> Record:
        """Loss since the last record, loss and accuracy on the test set, and ESS if asked for.

        Raises:
            NonFiniteError: the loss on the test set is NaN or infinite.
        """
        count = self.counters.loss_count
        test_loss, right = tested(self.model, self.tests, self.config.batch_size)
        self._check(test_loss, "loss on the test set")
        record: Record = {
            "step": self.counters.step,
            "learning_rate": learning_rate(self.config, max(self.counters.step - 1, 0)),
            "loss": self.counters.loss_sum / count if count else None,
        }
        if self.regularizer is not None:
            record["penalty"] = self.counters.penalty_sum / count if count else None
        record |= {"test_loss": test_loss, "accuracy": right}
        if measure:
            first = not self.counters.step
            snapshot = self.probe.first if first else self.probe.measure()
            record[LAYERS] = self.probe.layers(snapshot)
            record[REMARKS] = list(snapshot.remarks)
        self.counters.loss_sum = self.counters.penalty_sum = 0.0
        self.counters.loss_count = 0
        return record

    def _losses(self, step: int) -> tuple[Tensor, Tensor | None]:
        """Cross entropy of the batch, and what the regularizer adds."""
        texts = training_batch(self.config, step, self.device)

        def loss() -> Tensor:
            found: Tensor = self.model(input_ids=texts.input_ids, labels=texts.labels).loss
            return found

        if self.regularizer is None:
            return loss(), None
        with self.regularizer:
            return loss(), self.regularizer()

    def _clip(self) -> None:
        parameters = [one for one in self.model.parameters() if one.grad is not None]
        norm = get_total_norm([one.grad for one in parameters if one.grad is not None])
        self._check(norm.item(), "norm of the gradient")
        if self.config.gradient_clip is not None:
            clip_grads_with_norm_(parameters, self.config.gradient_clip, norm)

    def _check(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise NonFiniteError(
                f"The {what} is {value}.",
                causes=[
                    f"a learning rate that is too high ({self.config.learning_rate:g})",
                    "a regularizer with too large a weight",
                ],
                fix="Lower the learning rate, warm it up (warmup_steps), or limit the norm of "
                "gradients (gradient_clip: 1.0), in a new folder.",
            )


def learning_rate(config: RunConfig, step: int) -> float:
    """The rate of a step, counted from 0.

    Example:
        >>> from hf_ess.synthetics import Task
        >>> config = RunConfig(Task("compression", {"length": 8}), steps=100,
        ...                    learning_rate=0.1, warmup_steps=10, schedule="cosine")
        >>> [round(learning_rate(config, step), 3) for step in (0, 9, 55, 99)]
        [0.01, 0.1, 0.05, 0.0]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    passed = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return config.learning_rate * (1 + math.cos(math.pi * passed)) / 2


def device_named(name: str) -> torch.device:
    """A device; of "auto" a GPU if there is one.

    Raises:
        InvalidInputError: it cannot be used.

    Example:
        >>> device_named("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    try:
        nn.Parameter(torch.zeros(1)).to(device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidInputError(
            f"The device {name!r} cannot be used: {error}.", fix="Choose auto, or cpu."
        ) from error
    return device
