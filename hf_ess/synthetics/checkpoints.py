"""Small trained models that are shipped with the package, and what is known of each.

A checkpoint is a folder: `config.json` and `model.safetensors` as transformers saves them,
`run.json` (how it was trained) and `results.json` (what came of it). The folder of a finished run
of `hf-ess lab` is taken for one too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_ess.errors import InvalidInputError, ModelLoadError
from hf_ess.shipped import CONFIG, RESULTS, RUN, is_run, trained_folder, weights_folder
from hf_ess.synthetics.modeling import SyntheticForCausalLM
from hf_ess.synthetics.task_choice import Task
from hf_ess.synthetics.tasks import Examples

# In the results of a run.
CONFIG_OF_RUN = "config"


@dataclass(frozen=True)
class TrainedCheckpoint:
    """A trained synthetic model: its task, and what was measured on it.

    Attributes:
        name: of the folder.
        folder: where its files lie.
        run: how it was trained, as `hf-ess lab train` takes it.
        results: what came of it, as `hf-ess lab train` writes it.

    Example:
        >>> from hf_ess.synthetics import TrainedCheckpoint, checkpoint_names
        >>> for name in checkpoint_names():
        ...     checkpoint = TrainedCheckpoint.read(name)
        ...     assert checkpoint.accuracy > 0.5, name
    """

    name: str
    folder: Path
    run: Mapping[str, Any]
    results: Mapping[str, Any]

    @classmethod
    def read(cls, source: str | os.PathLike[str]) -> TrainedCheckpoint:
        """A shipped checkpoint by its name, or one in a folder, which is looked for first.

        Raises:
            InvalidInputError: there is none.
            ModelLoadError: its records are damaged, or its training is not finished.
        """
        folder = trained_folder(source)
        if folder is None:
            raise InvalidInputError(
                f"{source} is no trained synthetic model.",
                causes=[f"there is no such folder, or {CONFIG}, {RUN} or {RESULTS} is not in it"],
                fix="Give such a folder, or one of the names in checkpoint_names().",
            )
        checkpoint = cls(folder.resolve().name, folder, *_records(folder))
        _check(checkpoint)
        return checkpoint

    @property
    def task(self) -> Task:
        """What it was trained on."""
        return Task.from_dict(self.run["task"])

    @property
    def seed(self) -> int:
        """Of its weights before training and of its training texts."""
        return int(self.run["seed"])

    @property
    def test_samples(self) -> int:
        """Texts on which the accuracy was measured."""
        return int(self.run["test_samples"])

    @property
    def accuracy(self) -> float:
        """Share of asked tokens in the test texts that it answered right."""
        return float(self.results["accuracy"])

    @property
    def command(self) -> str:
        """The command that made it."""
        return str(self.results["command"])

    def texts(self, samples: int | None = None) -> Examples:
        """The test texts and their labels, or the first few of them.

        Raises:
            InvalidInputError: more than there are, or none.
        """
        count = self.test_samples if samples is None else samples
        if not 1 <= count <= self.test_samples:
            raise InvalidInputError(
                f"{self.name} has {self.test_samples} test texts, {samples} were asked for."
            )
        ids, labels = self.task.test_texts(self.test_samples)
        return Examples(ids[:count], labels[:count])

    def model(self) -> SyntheticForCausalLM:
        """The model, in evaluation mode."""
        model: SyntheticForCausalLM = SyntheticForCausalLM.from_pretrained(
            weights_folder(self.folder)
        )
        model.eval()
        return model


def _records(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """How it was trained, and what came of it; the folder of a run has both in one file."""
    results = _record(folder / RESULTS)
    if not is_run(folder):
        return _record(folder / RUN), results
    if not isinstance(results.get(CONFIG_OF_RUN), dict):
        raise _damaged(folder / RESULTS, f"{CONFIG_OF_RUN!r} cannot be read")
    return results[CONFIG_OF_RUN], results


def _record(path: Path) -> dict[str, Any]:
    try:
        written = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(written, dict):
        raise _damaged(path, "it holds no object")
    return written


def _check(checkpoint: TrainedCheckpoint) -> None:
    """Reads what the properties promise once, so that a damaged record is named here."""
    names = (
        (RESULTS if is_run(checkpoint.folder) else RUN, ("task", "seed", "test_samples")),
        (RESULTS, ("accuracy", "command")),
    )
    for file, properties in names:
        for name in properties:
            try:
                getattr(checkpoint, name)
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(checkpoint.folder / file, f"{name!r} cannot be read") from error


def _damaged(path: Path, reason: str) -> ModelLoadError:
    return ModelLoadError(
        f"{path.name} of the checkpoint {path.parent.name} cannot be used: {reason}.",
        causes=["the file is damaged, or another program wrote it"],
        fix="Train the model again with `hf-ess lab train`.",
    )
