"""Everything that decides a training: model, task, optimizer, seeds, and what is measured."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import yaml
from torch import nn

from hf_ess.arguments import check_number, check_whole
from hf_ess.errors import HfEssError, InvalidInputError, InvalidTypeError
from hf_ess.lab.values import check_mapping, check_names
from hf_ess.lab.written import read_written
from hf_ess.report.records import plain
from hf_ess.synthetics import SyntheticConfig, Task
from hf_ess.training import (
    ESSRegularizer,
    HankelRegularizer,
    Regularizer,
    TransitionRegularizer,
)
from hf_ess.training.few_positions import training_positions

SCHEDULES = ("constant", "cosine")
DTYPES = ("float32", "float64")
REGULARIZERS: dict[str, type[Regularizer]] = {
    "ess": ESSRegularizer,
    "transition": TransitionRegularizer,
    "hankel": HankelRegularizer,
}
# torch's generator for the CPU reads 32 bits of a seed: so many seeds of so many steps fit in.
MOST_STEPS = 2**20
MOST_SEEDS = 2**12 - 1


@dataclass(frozen=True)
class RunConfig:
    """One training of a synthetic model on a synthetic task.

    Args:
        task: what is trained for.
        model: arguments of `SyntheticConfig`; vocab_size is that of the task.
        cycle: arguments of the task that change from batch to batch of the training, each with
            the values it takes in turn, `{"pairs": [1, 2, 4, 8]}`: easy texts among hard ones
            let recurrent models find out what is asked. Tests and probes are of the task itself.
        steps: number of batches.
        batch_size: texts in a batch, all of them new.
        learning_rate: of AdamW, the highest of the schedule.
        weight_decay: of AdamW.
        betas: of AdamW.
        schedule: "constant", or "cosine": down to 0 at the last step.
        warmup_steps: over which the rate rises evenly from 0.
        gradient_clip: largest norm of the gradient, None for no limit.
        seed: of weights and batches. Batches depend on it and on the step.
        test_samples: texts of the test set, which is the same for every seed.
        evaluate_every: steps between tests; before, and after the last step, in any case. None
            for those two only.
        measure_every: steps between measurements of ESS, as for tests.
        probe_samples: how many of the test set's texts ESS is measured on.
        probe_positions: "few" (four, evenly spread), or as `hf_ess.analyze` takes them.
        tolerances: of the tolerance-ESS.
        save_every: steps between checkpoints; None for none, the run then begins anew if killed.
        regularizer: None, or a mapping with a name ("ess", "transition" or "hankel") and the
            arguments of `ESSRegularizer`, `TransitionRegularizer` or `HankelRegularizer`.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        dtype: "float32" or "float64".
        threads: of torch on the CPU. Another number can change the last bits.

    Raises:
        InvalidInputError: an unknown name, or a value out of range; says which.
        InvalidTypeError: a value of a wrong type.

    Example:
        >>> from hf_ess.lab import RunConfig
        >>> from hf_ess.synthetics import Task
        >>> task = Task("multi_query_recall", {"length": 32, "pairs": 4, "vocabulary": 32})
        >>> config = RunConfig(task, model={"mixers": ["GLA", "SA"]}, steps=500)
        >>> config.model_config().vocab_size
        32
        >>> RunConfig.from_dict(config.to_dict()) == config
        True
    """

    task: Task
    model: Mapping[str, Any] = field(default_factory=dict)
    cycle: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "constant"
    warmup_steps: int = 0
    gradient_clip: float | None = None
    seed: int = 0
    test_samples: int = 512
    evaluate_every: int | None = 100
    measure_every: int | None = None
    probe_samples: int = 8
    probe_positions: str | int | tuple[int, ...] = "few"
    tolerances: tuple[float, ...] = (1e-1, 1e-3, 1e-5)
    save_every: int | None = 100
    regularizer: Mapping[str, Any] | None = None
    device: str = "auto"
    dtype: str = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        _check_task(self.task)
        check_mapping("model", self.model)
        check_mapping("cycle", self.cycle)
        object.__setattr__(self, "model", plain(self.model))
        object.__setattr__(self, "cycle", plain(self.cycle))
        for name in ("betas", "tolerances", "probe_positions"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, tuple(value))
        _check_numbers(self)
        _check_words(self)
        _check_cycle(self)
        training_positions(self.probe_positions, self.task.length)
        self.model_config()
        self.build_regularizer(nn.Identity())

    def task_of_step(self, step: int) -> Task:
        """The task of which the batch of a step is.

        Example:
            >>> from hf_ess.lab import RunConfig
            >>> from hf_ess.synthetics import Task
            >>> task = Task("multi_query_recall", {"length": 16, "pairs": 4, "vocabulary": 16})
            >>> config = RunConfig(task, cycle={"pairs": [1, 4]})
            >>> [config.task_of_step(step).arguments["pairs"] for step in range(3)]
            [1, 4, 1]
        """
        turn = {name: values[step % len(values)] for name, values in self.cycle.items()}
        return Task(self.task.name, {**self.task.arguments, **turn}) if turn else self.task

    def model_config(self) -> SyntheticConfig:
        """The model's configuration, with the vocabulary of the task.

        Raises:
            InvalidInputError, InvalidTypeError: arguments that `SyntheticConfig` refuses.
        """
        known = [
            name
            for name, parameter in inspect.signature(SyntheticConfig.__init__).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
            and name not in ("self", "vocab_size")
        ]
        check_names("argument of the model", self.model, known)
        try:
            return SyntheticConfig(**self.model, vocab_size=self.task.vocabulary)
        except HfEssError:
            raise
        except (TypeError, ValueError) as error:
            raise InvalidTypeError(
                f"The model cannot be configured by {dict(self.model)}: {error}.",
                causes=["a value of a wrong type"],
            ) from error

    def build_regularizer(self, model: nn.Module) -> Regularizer | None:
        """The loss term of the configuration for a model, None without one.

        Raises:
            InvalidInputError, InvalidTypeError: no such term, or arguments that it refuses.
        """
        if self.regularizer is None:
            return None
        check_mapping("regularizer", self.regularizer)
        arguments = {key: self.regularizer[key] for key in self.regularizer if key != "name"}
        name = self.regularizer.get("name")
        check_names("regularizer", [name], REGULARIZERS)
        kind = REGULARIZERS[str(name)]
        known = list(inspect.signature(kind).parameters)[1:]
        check_names(f"argument of the regularizer {name!r}", arguments, known)
        try:
            return kind(model, **arguments)
        except HfEssError:
            raise
        except (TypeError, ValueError) as error:
            raise InvalidTypeError(
                f"The regularizer {name!r} cannot be built from {arguments}: {error}.",
                fix=f"It takes {', '.join(known)}.",
            ) from error

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> RunConfig:
        """A configuration from names and values, as `to_dict` gives them.

        Raises:
            InvalidInputError, InvalidTypeError: as the class.
        """
        check_mapping("A configuration", written)
        check_names("field of a configuration", written, [entry.name for entry in fields(cls)])
        if "task" not in written:
            raise InvalidInputError(
                "The configuration has no task.",
                fix="Add task: {name: multi_query_recall, length: 64, pairs: 8}, for example.",
            )
        return cls(**{**written, "task": Task.from_dict(written["task"])})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> RunConfig:
        """A configuration from a file of YAML or JSON.

        Raises:
            InvalidInputError, InvalidTypeError: the file cannot be read, or as the class.
        """
        return cls.from_dict(read_written(path))

    def to_dict(self) -> dict[str, Any]:
        """All fields, in the types of JSON."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["task"] = self.task.to_dict()
        return {name: plain(value) for name, value in values.items()}

    def to_yaml(self) -> str:
        """All fields as YAML."""
        text: str = yaml.safe_dump(self.to_dict(), sort_keys=False)
        return text


def differences(one: RunConfig, other: RunConfig) -> list[str]:
    """What differs, one line for each field.

    Example:
        >>> task = Task("compression", {"length": 16})
        >>> differences(RunConfig(task, seed=1), RunConfig(task, seed=2))
        ['seed: 1 and 2']
    """
    first, second = one.to_dict(), other.to_dict()
    return [f"{key}: {first[key]} and {second[key]}" for key in first if first[key] != second[key]]


def _check_task(task: object) -> None:
    if not isinstance(task, Task):
        raise InvalidTypeError(
            f"task must be a hf_ess.synthetics.Task, got {task!r}.",
            fix="Write RunConfig(Task(name, arguments), ...), or use RunConfig.from_dict.",
        )


def _check_numbers(config: RunConfig) -> None:
    check_whole("steps", config.steps, 1, MOST_STEPS - 1)
    check_whole("seed", config.seed, 0, MOST_SEEDS - 1)
    check_whole("warmup_steps", config.warmup_steps, 0)
    for name in ("batch_size", "test_samples", "probe_samples", "threads"):
        check_whole(name, getattr(config, name), 1)
    for name in ("evaluate_every", "measure_every", "save_every"):
        if getattr(config, name) is not None:
            check_whole(name, getattr(config, name), 1)
    if config.probe_samples > config.test_samples:
        raise InvalidInputError(
            f"The test set has {config.test_samples} texts, fewer than the "
            f"{config.probe_samples} of probe_samples."
        )
    check_number("learning_rate", config.learning_rate, above=0)
    check_number("weight_decay", config.weight_decay, least=0)
    if config.gradient_clip is not None:
        check_number("gradient_clip", config.gradient_clip, above=0)
    _check_several(config)


def _check_several(config: RunConfig) -> None:
    if not isinstance(config.betas, tuple) or len(config.betas) != 2:
        raise InvalidTypeError(f"betas must be two numbers, got {config.betas!r}.")
    for beta in config.betas:
        check_number("betas", beta, least=0)
        if beta >= 1:
            raise InvalidInputError(f"betas must be below 1, got {beta}.")
    if not isinstance(config.tolerances, tuple) or not config.tolerances:
        raise InvalidTypeError(f"tolerances must be numbers, got {config.tolerances!r}.")
    for tolerance in config.tolerances:
        check_number("tolerances", tolerance, above=0)


def _check_cycle(config: RunConfig) -> None:
    for name, values in config.cycle.items():
        if name in ("length", "vocabulary") or not isinstance(values, list) or not values:
            raise InvalidInputError(
                f"cycle gives {name} the values {values!r}.",
                causes=["no list of values", "length and vocabulary are those of the whole run"],
                fix="Write cycle: {pairs: [1, 2, 4, 8]}, for example.",
            )
        for value in values:
            Task(config.task.name, {**config.task.arguments, name: value})


def _check_words(config: RunConfig) -> None:
    check_names("schedule", [config.schedule], SCHEDULES)
    check_names("dtype", [config.dtype], DTYPES)
    if not isinstance(config.device, str):
        raise InvalidTypeError(f"device must be a word, got {config.device!r}.")
    if config.device == "auto":
        return
    try:
        torch.device(config.device)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(
            f"There is no device {config.device!r}.", fix="Use auto, cpu, cuda, or cuda:1."
        ) from error
