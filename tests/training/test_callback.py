"""ESSCallback: what it logs, and that the training is the same to the bit."""

from __future__ import annotations

import time

import pytest
import torch
from recording_checks import footprint
from tiny_models import build_tiny
from training.small_models import synthetic
from training.trainings import logged, texts, trainer_for
from training.watched_trainings import ENTROPY, NEVER, PROBE, At, silent
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState

import hf_ess
from hf_ess.training import ESSWatch
from hf_ess.training.callback import ESSCallback
from hf_ess.training.pace import Pace

# The same training


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gpt2", {}),
        ("mamba", {}),
        ("gpt2", {"gradient_accumulation_steps": 2}),
        ("gpt2", {"activation_checkpointing": True}),
        ("mamba", {"bf16": True}),
    ],
    ids=str,
)
def test_losses_and_weights_are_the_same_to_the_bit(name, arguments, tmp_path):
    results = []
    for callbacks in ([], [silent(every=1)]):
        torch.manual_seed(0)
        model = build_tiny(name)
        trainer = trainer_for(model, tmp_path, *callbacks, max_steps=3, **arguments)
        trainer.train()
        weights = [weight.detach().clone() for weight in model.parameters()]
        results.append((logged(trainer, "loss"), logged(trainer, "grad_norm"), weights))
    plain, watched = results
    assert [len(snapshot.layers) for _, snapshot in callbacks[0].history] == [2] * 4
    assert plain[:2] == watched[:2]
    assert len(plain[0]) == 3
    assert all(torch.equal(one, other) for one, other in zip(plain[2], watched[2], strict=True))


def test_dropout_is_on_in_that_training():
    model = build_tiny("gpt2").train()
    assert not torch.equal(model(PROBE).logits, model(PROBE).logits)


def test_nothing_is_left_behind(tmp_path):
    model = synthetic("GLA", "SA")
    before = footprint(model)
    callback = silent(every=2)
    trainer = trainer_for(model, tmp_path, callback)
    trainer.train()
    assert footprint(model) == before
    assert callback._watch is callback._trainer is None


# What is logged, and when


def test_the_history_has_the_values_of_a_watch(tmp_path):
    model = synthetic("GLA", "SA")
    expected = hf_ess.watch_ess(model, PROBE).metrics()
    callback = silent(every=2)
    trainer = trainer_for(model, tmp_path, callback, max_steps=5)
    trainer.train()
    assert [step for step, _ in callback.history] == [0, 2, 4, 5]
    for name, value in expected.items():
        values = logged(trainer, name)
        assert [step for step, _ in values] == [0, 2, 4, 5]
        assert values[0] == (0, value)
        assert values[-1] == (5, callback.history[-1][1].metrics()[name])
    assert callback.history[-1][1] == hf_ess.watch_ess(model, PROBE, thresholds=NEVER)
    assert [step for step, _ in logged(trainer, "loss")] == [1, 2, 3, 4, 5]


def test_every_reporter_gets_them_wherever_it_stands(tmp_path):
    class Reporter(TrainerCallback):
        def __init__(self):
            self.seen = {}

        def on_log(self, args, state, control, logs=None, **known):
            self.seen.setdefault(state.global_step, {}).update(logs)

    class Last(Reporter):
        pass

    reporters = [Reporter(), Last()]
    trainer = trainer_for(
        synthetic("GLA"), tmp_path, reporters[0], silent(every=3, prefix="probe"), reporters[1]
    )
    trainer.train()
    for reporter in reporters:
        steps = [step for step, logs in reporter.seen.items() if "probe/layer_0/entropy" in logs]
        assert steps == [0, 3, 4]


def test_a_training_that_an_evaluation_stops_is_measured_at_its_end(tmp_path):
    callback = silent(every=100)
    stop = EarlyStoppingCallback(early_stopping_patience=1)
    trainer = trainer_for(
        synthetic("GLA"),
        tmp_path,
        callback,
        stop,
        max_steps=-1,
        num_train_epochs=9,
        learning_rate=0.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model="loss",
        load_best_model_at_end=True,
    )
    trainer.train()
    assert trainer.state.global_step == 8
    assert [step for step, _ in callback.history] == [0, 8]
    assert [step for step, _ in logged(trainer, ENTROPY)] == [0, 8]


def test_a_training_that_another_callback_stops(tmp_path):
    def stop(model, control):
        control.should_training_stop = True

    callback = silent(every=100)
    trainer_for(synthetic("GLA"), tmp_path, callback, At(2, stop)).train()
    assert [step for step, _ in callback.history] == [0, 2]


def test_a_training_that_resumes(tmp_path):
    def trained(steps, **resume):
        callback = silent(every=2)
        trainer = trainer_for(
            synthetic("GLA"), tmp_path, callback, max_steps=steps, save_strategy="steps",
            save_steps=2, lr_scheduler_type="constant",
        )  # fmt: skip
        trainer.train(**resume)
        return trainer, callback

    first, _ = trained(6)
    resumed, callback = trained(6, resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert [step for step, _ in callback.history] == [4, 6]
    assert logged(resumed, ENTROPY) == logged(first, ENTROPY)
    assert [step for step, _ in logged(resumed, ENTROPY)] == [0, 2, 4, 6]


def test_a_second_training_starts_anew(tmp_path):
    callback = silent(every=2)
    trainer = trainer_for(synthetic("GLA"), tmp_path, callback)
    for _ in range(2):
        trainer.train()
        assert [step for step, _ in callback.history] == [0, 2, 4]


def test_text_is_read_by_the_tokenizer_of_the_trainer(tmp_path):
    def tokenizer(text, **_options):
        return {"input_ids": torch.tensor([[ord(letter) % 32 for letter in text]])}

    tokenizer.decode = str
    callback = ESSCallback("what remains of the past", every=2, thresholds=NEVER)
    trainer = trainer_for(synthetic("GLA"), tmp_path, callback)
    trainer.callback_handler.processing_class = tokenizer
    trainer.train()
    assert len(callback.history) == 3


def test_token_ids_need_no_tokenizer(tmp_path):
    callback = silent(every=4)
    trainer = trainer_for(synthetic("GLA"), tmp_path, callback)
    trainer.callback_handler.processing_class = object()  # as of pictures
    trainer.train()
    assert len(callback.history) == 2


def called_by_hand(callback, *, first_process=True):
    """Two steps of a loop that is none of transformers, in one of several processes."""
    model = synthetic("GLA")
    state = TrainerState(is_world_process_zero=first_process)
    known = {"model": model, "processing_class": None}
    control = TrainerControl()
    callback.on_train_begin(None, state, control, **known)
    for step in (1, 2):
        callback.on_step_begin(None, state, control, **known)
        state.global_step = step
        callback.on_step_end(None, state, control, **known)
    callback.on_train_end(None, state, control, **known)
    return state


def test_only_process_0_measures():
    callback = silent(every=1)
    assert called_by_hand(callback, first_process=False).log_history == []
    assert callback.history == []


def test_without_a_trainer_the_history_gets_them():
    callback = silent(every=1)
    with pytest.warns(hf_ess.TrainingWatchWarning, match="no Trainer") as caught:
        state = called_by_hand(callback)
    assert len(caught) == 1
    assert [entry["step"] for entry in state.log_history] == [0, 1, 2]
    assert all(ENTROPY in entry for entry in state.log_history)


# How often


def test_auto_spends_at_most_two_percent(tmp_path, monkeypatch):
    spent = []
    measure = ESSWatch.measure

    def timed(watch):
        began = time.process_time()
        snapshot = measure(watch)
        spent.append(time.process_time() - began)
        return snapshot

    monkeypatch.setattr(ESSWatch, "measure", timed)
    callback = ESSCallback(texts(1, length=16), thresholds=NEVER)
    callback.clock = time.process_time
    trainer = trainer_for(
        synthetic("LA"),
        tmp_path,
        callback,
        data=texts(256, length=64),
        per_device_train_batch_size=256,
        max_steps=100,
        logging_steps=50,
    )
    trainer.train()
    steps = callback.pace.seconds_trained
    # Before the first step, on the way, and after the last; how often on the way is the machine's.
    assert len(callback.history) == len(spent) >= 3
    assert 0 < sum(spent[:-1]) <= 0.02 * steps


def due_steps(costs, *, share, steps):
    """When measurements are due whose costs are these and then the last, with steps of 1 s."""
    pace, due = Pace("auto", share=share), []
    remaining = list(costs)
    pace.measured(remaining.pop(0))
    for step in range(1, steps + 1):
        pace.trained(1.0)
        if pace.is_due(step):
            due.append(step)
            pace.measured(remaining.pop(0) if len(remaining) > 1 else remaining[0])
            assert pace.seconds_measured <= share * pace.seconds_trained
    return due


def test_the_pace_of_auto():
    assert due_steps([0.25, 0.25], share=0.25, steps=6) == [2, 3, 4, 5, 6]
    assert due_steps([0.5, 0.25], share=0.03125, steps=80) == [32, 40, 48, 56, 64, 72, 80]
    assert due_steps([1.0, 1.0], share=0.5, steps=9) == [4, 6, 8]


def test_the_pace_of_a_number():
    pace = Pace(3)
    pace.measured(1e6)
    assert [step for step in range(10) if pace.is_due(step)] == [0, 3, 6, 9]
