"""ESS on the way, for the Trainer of transformers: measured, logged, and remarked upon."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Sequence
from time import perf_counter
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from hf_ess.analysis.analyze import DEFAULT_TOLERANCES, checked_tolerances
from hf_ess.analysis.model_checks import input_device
from hf_ess.analysis.samples import check_inputs
from hf_ess.errors import InvalidTypeError, TrainingWatchWarning
from hf_ess.spectra import Positions
from hf_ess.training.few_positions import FEW
from hf_ess.training.pace import AUTO, Every, Pace
from hf_ess.training.remarks import COLLAPSE, SATURATION, Thresholds
from hf_ess.training.snapshot import ESSSnapshot
from hf_ess.training.watch import ESSWatch
from model_adapters.layer_choice import Layers, checked_layers

# The Trainer logs it once, after the last step.
SUMMARY = "train_runtime"


class ESSCallback(TrainerCallback):  # type: ignore[misc] # transformers has no types
    """Watches the ESS of every layer while the Trainer of transformers trains a model.

    Measures a fixed probe before the first step, every so often, and after the last step. The
    values are logged by the Trainer itself as `ess/layer_0/entropy` and so on, and go where the
    loss goes: its `state.log_history`, tensorboard, trackio, wandb. Collapse and saturation are
    said in words, once per layer. The training computes the same to the bit as without.

    In a distributed training process 0 alone measures and logs. After `resume_from_checkpoint`
    the first measurement is that of the checkpoint.

    Args:
        probe: str, list of str, LongTensor `[B, L]`, or a BatchEncoding.
        tokenizer: for text; the Trainer's `processing_class` by default.
        every: number of steps, or "auto": as often as `share` pays for.
        share: of the time of the steps, which all measurements up to now may have taken with
            "auto"; the one after the last step comes on top, and in a training that is too short
            to pay for it the one before the first.
        layers: indices or names, None for all.
        positions: "few" (four, evenly spread over the shortest text), or as `hf_ess.analyze`
            takes them.
        tolerances: of the tolerance-ESS, absolute.
        thresholds: when a state counts as collapsed or saturated.
        prefix: of the names that are logged.
        warn: whether remarks are given as warnings (`hf_ess.TrainingWatchWarning`).
        strict: whether an exception while measuring ends the training. By default it becomes a
            warning, once, and the values are left out; but before the first step, where a wrong
            probe shows, it is raised in any case.

    Attributes:
        history: step and snapshot of every measurement of the latest training.
        pace: seconds that steps and measurements have taken.
        clock: what they are timed by.

    Raises:
        InvalidInputError, InvalidTypeError: an argument cannot be used. What can be checked only
            with the model is, before the first step, with the errors of `watch_ess`.

    Example:
        >>> import tempfile, torch, hf_ess
        >>> from transformers import PrinterCallback, Trainer, TrainingArguments
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["GLA", "SA"], vocab_size=16, hidden_size=16))
        >>> texts = torch.randint(0, 16, (8, 24))
        >>> watch = hf_ess.ESSCallback(texts[:2], every=2, warn=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     arguments = TrainingArguments(folder, max_steps=4, use_cpu=True, disable_tqdm=True,
        ...                                   save_strategy="no", dataloader_pin_memory=False)
        ...     data = [{"input_ids": text, "labels": text} for text in texts]
        ...     trainer = Trainer(model, arguments, train_dataset=data, callbacks=[watch])
        ...     trainer.remove_callback(PrinterCallback)
        ...     _ = trainer.train()
        >>> [step for step, snapshot in watch.history]
        [0, 2, 4]
    """

    clock = staticmethod(perf_counter)

    def __init__(
        self,
        probe: Any,
        *,
        tokenizer: Any | None = None,
        every: Every = AUTO,
        share: float = 0.02,
        layers: Layers = None,
        positions: Positions = FEW,
        tolerances: Sequence[float] = DEFAULT_TOLERANCES,
        thresholds: Thresholds | None = None,
        prefix: str = "ess",
        warn: bool = True,
        strict: bool = False,
    ) -> None:
        check_inputs(probe)
        if not isinstance(prefix, str) or not prefix:
            raise InvalidTypeError(f"prefix must be a word, got {prefix!r}.")
        self.probe = probe
        self.tokenizer = tokenizer
        self.options: dict[str, Any] = {
            "layers": checked_layers(layers),
            "positions": positions,
            "tolerances": checked_tolerances(tolerances),
            "thresholds": thresholds,
        }
        self.prefix = prefix
        self.warn = warn
        self.strict = strict
        self.pace = Pace(every, share)
        self.history: list[tuple[int, ESSSnapshot]] = []
        self._watch: ESSWatch | None = None
        self._trainer: weakref.ref[Trainer] | None = None
        self._said: set[tuple[str, str]] = set()
        self._measured_at: int | None = None
        self._step_began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        tokenizer = self.tokenizer
        if tokenizer is None and _is_text(self.probe):
            tokenizer = known.get("processing_class")
        trainer = _calling_trainer(sys._getframe())
        self._trainer = None if trainer is None else weakref.ref(trainer)
        self._watch = ESSWatch(known["model"], self.probe, tokenizer, **self.options)
        self._measured_at = None
        self._said.clear()
        self.history = []
        self.pace.restart()

    def on_step_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        if self._measured_at is None:
            self._measure(state, control)
        self._step_began = self.clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        self.pace.trained(self.clock() - self._step_began)
        if control.should_training_stop or self.pace.is_due(state.global_step):
            self._measure(state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **known: Any) -> None:
        # A training that was stopped from elsewhere, as by an evaluation after an epoch.
        if SUMMARY in (logs or {}) and self._measured_at not in (None, state.global_step):
            self._measure(state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        self._watch = self._trainer = None

    def _measure(self, state: Any, control: Any) -> None:
        self._measured_at = state.global_step
        if self._watch is None or not state.is_world_process_zero:
            return
        _wait_for(self._watch)
        began = self.clock()
        try:
            snapshot = self._watch.measure()
        except Exception as error:
            if self.strict or not self.history:
                raise
            self._tell("", "failed", f"ESS was not measured at step {state.global_step}: {error}")
            return
        finally:
            _wait_for(self._watch)
            self.pace.measured(self.clock() - began)
        self.history.append((state.global_step, snapshot))
        self._log(snapshot.metrics(self.prefix), state, control)
        self._remark(snapshot)

    def _log(self, metrics: dict[str, float], state: Any, control: Any) -> None:
        if any(_is_of(entry, state.global_step, metrics) for entry in state.log_history):
            return  # measured before the checkpoint was written from which this training resumes
        trainer = None if self._trainer is None else self._trainer()
        if trainer is None:
            state.log_history.append({**metrics, "step": state.global_step})
            words = "no Trainer calls this callback: values are in the history of its state only"
            self._tell("", "no trainer", words)
            return
        # Logging says that the loss was logged, too, which may be due at this very step.
        due = control.should_log
        trainer.log(metrics)
        control.should_log = due

    def _remark(self, snapshot: ESSSnapshot) -> None:
        untrained = len(self.history) == 1
        for remark in snapshot.noted if self.warn else ():
            if not (untrained and remark.kind in (COLLAPSE, SATURATION)):
                self._tell(remark.layer, remark.kind, remark.words)

    def _tell(self, layer: str, kind: str, words: str) -> None:
        if (layer, kind) not in self._said:
            self._said.add((layer, kind))
            warnings.warn(words, TrainingWatchWarning, stacklevel=2)


def _is_text(probe: Any) -> bool:
    return isinstance(probe, str) or (isinstance(probe, Sequence) and isinstance(probe[0], str))


def _is_of(entry: dict[str, Any], step: int, metrics: dict[str, float]) -> bool:
    return entry.get("step") == step and bool(metrics.keys() & entry.keys())


def _wait_for(watch: ESSWatch) -> None:
    """Steps that are still in the queue of a device are none of a measurement's time."""
    if input_device(watch.model).type != "cpu":
        torch.accelerator.synchronize()


def _calling_trainer(frame: FrameType | None) -> Trainer | None:
    """The Trainer that runs now.

    It passes itself to no callback, and only its `log` reaches every reporter and the history.
    """
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer):
            return found
        frame = frame.f_back
    return None
