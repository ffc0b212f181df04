"""`hf_ess.lab.train`: one training, from wherever its folder says that it is."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from hf_ess.analysis.provenance import library_versions
from hf_ess.errors import NonFiniteError
from hf_ess.lab.folders import claim
from hf_ess.lab.interrupts import Wish, ending_between_steps
from hf_ess.lab.results import RunResult
from hf_ess.lab.run_config import RunConfig
from hf_ess.lab.run_log import LAYERS, REMARKS, append_record, keep_records, read_records
from hf_ess.lab.training import Training
from hf_ess.lab.training_state import CHECKPOINT, load_state, save_state
from hf_ess.progress import progress_bar
from hf_ess.report.files import translated_errors
from hf_ess.report.folders import replace_file, sole_user
from hf_ess.shipped import MODEL, RESULTS

COMMAND = "hf-ess lab train run.yaml --out FOLDER"


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a training; the folder has a checkpoint of the last step.

    The same call of `hf_ess.lab.train` goes on.

    Attributes:
        folder: of the run.
        step: steps done.
        steps: of the whole run.
    """

    def __init__(self, folder: Path, step: int, steps: int) -> None:
        super().__init__(
            f"The training was interrupted after {step} of {steps} steps; "
            f"training into {str(folder)!r} again goes on from there."
        )
        self.folder, self.step, self.steps = folder, step, steps


def train(config: RunConfig, folder: str | os.PathLike[str], *, progress: bool = True) -> RunResult:
    """Trains a synthetic model on a synthetic task, tests it and measures its ESS on the way.

    A run that was interrupted or killed goes on from its last checkpoint and ends, on a CPU, with
    the same weights, log and results to the bit; kernels of a GPU may add in another order. A
    finished run is returned as it is. Measuring changes nothing in what is trained.

    The folder gets `run.yaml` (the configuration), `log.jsonl`, and at the end `results.json` and
    `model/` (`save_pretrained`).

    Args:
        config: what to train.
        folder: of this run only; it is made if missing.
        progress: show a bar on stderr.

    Raises:
        InvalidInputError: the folder has a run of another configuration, or another process is
            training there; or the device cannot be used.
        NonFiniteError: the loss or a gradient became NaN or infinite; the checkpoint before it
            stays.
        ReportError: what the folder holds is damaged.
        OutputPathError: the folder cannot be written, or its disk is full.
        TrainingInterrupted: Ctrl-C, or SIGTERM.

    Source: Parnichkun et al., ICML 2025, section 4 and appendix D.

    Example:
        >>> import tempfile
        >>> from hf_ess.lab import RunConfig, train
        >>> from hf_ess.synthetics import Task
        >>> task = Task("multi_query_recall", {"length": 8, "pairs": 2, "vocabulary": 8})
        >>> model = {"mixers": ["GLA"], "hidden_size": 8, "num_attention_heads": 2}
        >>> config = RunConfig(task, model, steps=2, batch_size=4, test_samples=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train(config, folder, progress=False)
        >>> [layer["mixer"] for layer in result.layers], 0 <= result.accuracy <= 1
        (['gated linear attention'], True)
    """
    place = Path(folder)
    with sole_user(place):
        claim(place, config)
        if not (place / RESULTS).exists():
            with _threads(config.threads), ending_between_steps() as wish:
                _run(config, place, wish, progress=progress)
    return RunResult.load(place)


def _run(config: RunConfig, folder: Path, wish: Wish, *, progress: bool) -> None:
    training = Training(config)
    counters = load_state(folder, training.model, training.optimizer)
    training.counters = counters or training.counters
    keep_records(folder, training.counters.step if counters else -1)
    watch = _Watch(training)
    if counters is None:
        append_record(folder, training.record(measure=True))
    with progress_bar(config.steps, "Training", enabled=progress, unit="step") as bar:
        bar.update(training.counters.step)
        while training.counters.step < config.steps and not wish.to_end:
            _step(training, folder)
            bar.update(1)
            step = training.counters.step
            if _is_due(step, config.save_every, config.steps) or wish.to_end:
                watch.save(folder)
    if wish.to_end:
        watch.save(folder)
        raise TrainingInterrupted(folder, training.counters.step, config.steps)
    watch.read()
    _finish(training, folder)


def _step(training: Training, folder: Path) -> None:
    config, begun = training.config, training.counters.step
    try:
        training.step()
        step = training.counters.step
        measure = _is_due(step, config.measure_every, config.steps)
        if measure or _is_due(step, config.evaluate_every, config.steps):
            append_record(folder, training.record(measure=measure))
    except NonFiniteError as error:
        kept = folder / CHECKPOINT
        left = f"The last checkpoint stays in {kept.name}." if kept.exists() else ""
        raise NonFiniteError(
            f"Step {begun} of {config.steps}: {error.what} {left}".strip(),
            causes=error.causes,
            fix=error.fix,
        ) from error


class _Watch:
    """Counts the seconds of this process into those of the run."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.before = training.counters.seconds
        self.began = time.perf_counter()

    def read(self) -> None:
        self.training.counters.seconds = self.before + time.perf_counter() - self.began

    def save(self, folder: Path) -> None:
        self.read()
        training = self.training
        save_state(folder, training.model, training.optimizer, training.counters)


def _finish(training: Training, folder: Path) -> None:
    """Model and results; the checkpoint, three times as large as the model, goes."""
    _save_model(training, folder)
    last = read_records(folder)[-1]
    results: dict[str, Any] = {
        "accuracy": last["accuracy"],
        "loss": last["test_loss"],
        "layers": last[LAYERS],
        "remarks": last[REMARKS],
        "steps": training.config.steps,
        "device": str(training.device),
        "parameters": training.model.num_parameters(),
        "command": COMMAND,
        "seconds": round(training.counters.seconds, 3),
        "versions": library_versions(),
        "config": training.config.to_dict(),
    }
    replace_file(folder / RESULTS, (json.dumps(results, indent=2, allow_nan=False) + "\n").encode())
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _save_model(training: Training, folder: Path) -> None:
    with translated_errors(folder):
        aside, place = folder / f".{MODEL}.tmp", folder / MODEL
        for path in (aside, place):
            shutil.rmtree(path, ignore_errors=True)
        with _no_other_bars():
            training.model.save_pretrained(aside)
        aside.rename(place)


def _is_due(step: int, every: int | None, last: int) -> bool:
    """The last record has everything; a checkpoint after the last step saves a lost ending."""
    return step == last or (every is not None and step % every == 0)


@contextmanager
def _no_other_bars() -> Iterator[None]:
    """The one file of a small model needs no bar of transformers."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _threads(number: int) -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(former)
