"""What reporters of the Trainer hold after a watched training, read back from their files."""

from __future__ import annotations

import json
import sqlite3
import sys
from types import SimpleNamespace

import pytest
from training.small_models import synthetic
from training.trainings import texts, trainer_for
from transformers.integrations import WandbCallback

import hf_ess
from hf_ess.training import Thresholds

NAMES = ("ess/entropy", "ess/layer_1/utilization", "ess/layer_0/tolerance_0.001")


@pytest.fixture
def watch():
    probe = texts(2, seed=1)
    return hf_ess.ESSCallback(probe, every=2, thresholds=Thresholds(collapse=0, saturation=2))


def expected(watch, name):
    """Step and value of what was measured."""
    assert [step for step, _ in watch.history] == [0, 2, 4]
    return [(step, snapshot.metrics()[name]) for step, snapshot in watch.history]


def test_tensorboard(watch, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer_for(synthetic("GLA", "SA"), tmp_path, watch, report_to=["tensorboard"]).train()
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    written = EventAccumulator(str(events)).Reload()
    for name in NAMES:
        found = written.Scalars(f"train/{name}")
        steps, values = zip(*expected(watch, name), strict=True)
        assert tuple(one.step for one in found) == steps
        # Event files hold float32.
        assert [one.value for one in found] == pytest.approx(values, rel=1e-6)
    assert [one.step for one in written.Scalars("train/loss")] == [1, 2, 3, 4]


def test_trackio(watch, tmp_path, monkeypatch):
    import trackio

    for name, module in list(sys.modules.items()):
        if name.startswith(f"{trackio.__name__}.") and hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path)
    model = synthetic("GLA", "SA")
    trainer_for(
        model, tmp_path / "out", watch, report_to=["trackio"], project="watched", run_name="run"
    ).train()
    with sqlite3.connect(tmp_path / "watched.db") as database:
        rows = [json.loads(row) for (row,) in database.execute("select metrics from metrics")]
    database.close()
    for name in NAMES:
        found = [
            (row["train/global_step"], row[f"train/{name}"])
            for row in rows
            if f"train/{name}" in row
        ]
        assert found == expected(watch, name)


def test_wandb(watch, tmp_path):
    class Stub(WandbCallback):
        """What transformers sends to wandb, which needs an account."""

        def __init__(self):
            self.sent = []
            self._wandb = SimpleNamespace(
                log=self.sent.append, run=SimpleNamespace(summary={}), finish=lambda: None
            )
            self._initialized = True
            self._log_model = SimpleNamespace(is_enabled=False)

    stub = Stub()
    trainer_for(synthetic("GLA", "SA"), tmp_path, stub, watch).train()
    for name in NAMES:
        found = [
            (row["train/global_step"], row[f"train/{name}"])
            for row in stub.sent
            if f"train/{name}" in row
        ]
        assert found == expected(watch, name)
