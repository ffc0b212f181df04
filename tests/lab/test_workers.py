"""Processes that train: what happens to them, with stand-ins that know the protocol only."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from queue import SimpleQueue

import pytest
import torch
from lab.small_runs import outcome, small_config

from hf_ess.lab import train, worker, workers
from hf_ess.lab.interrupts import Wish
from hf_ess.shipped import RUN_WRITTEN

# Answers with what it was given; some folders make it do what their names say.
STAND_IN = """
import json, os, signal, sys, time
print("noise", file=sys.stderr, flush=True)
for line in sys.stdin:
    folder = json.loads(line)
    name = os.path.basename(folder)
    if "kill" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "quit" in name:
        sys.exit(3)
    if "wait" in name:
        open(folder, "w").close()
        time.sleep(60)
    if "slow" in name:
        time.sleep(0.5)
    environment = {key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
    print(json.dumps({"folder": folder, "pid": os.getpid(), **environment}), flush=True)
"""


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """The answers for folders of these names, by name."""
    monkeypatch.setattr(workers, "WORKER", STAND_IN)

    def ask(names, environments, wish=None):
        folders = [tmp_path / name for name in names]
        messages = tmp_path / "messages.txt"
        found = workers.all_trained(folders, environments, messages, wish or Wish(), _nothing)
        return {folder.name: answer for folder, answer in found}

    return ask


def _nothing():
    """Nobody watches."""


def _no_processes_left():
    return not [thread for thread in threading.enumerate() if "_serve" in thread.name]


def test_one_process_takes_one_folder_after_another(answers, tmp_path):
    found = answers(["a", "b", "c"], [{"OMP_NUM_THREADS": "1"}])
    assert list(found) == ["a", "b", "c"]
    assert {answer["folder"] for answer in found.values()} == {str(tmp_path / n) for n in "abc"}
    assert len({answer["pid"] for answer in found.values()}) == 1
    assert {answer["OMP_NUM_THREADS"] for answer in found.values()} == {"1"}
    assert (tmp_path / "messages.txt").read_text() == "noise\n"
    assert _no_processes_left()


def test_processes_work_at_the_same_time_each_with_its_gpu(answers):
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("4", "5")]
    found = answers(["slow0", "slow1", "slow2", "slow3"], environments)
    assert len({answer["pid"] for answer in found.values()}) == 2
    assert sorted(answer["CUDA_VISIBLE_DEVICES"] for answer in found.values()) == list("4455")


def test_no_more_processes_than_folders(answers, tmp_path):
    answers(["a"], [{}, {}, {}])
    assert (tmp_path / "messages.txt").read_text() == "noise\n"


def test_a_killed_process_costs_the_others_nothing(answers):
    found = answers(["a", "kill", "b", "quit", "c"], [{}])
    assert [name for name in found if "pid" in found[name]] == ["a", "b", "c"]
    assert "ended by signal SIGKILL" in found["kill"]["error"]
    assert "ended with status 3" in found["quit"]["error"]
    assert found["a"]["pid"] != found["b"]["pid"]


def test_a_wish_to_end_ends_the_processes(answers, tmp_path):
    wish = Wish()

    def end():
        while not (tmp_path / "wait").exists():
            time.sleep(0.01)
        wish.to_end = True

    threading.Thread(target=end).start()
    began = time.monotonic()
    assert answers(["wait", "never"], [{}], wish) == {}
    assert time.monotonic() - began < 30
    assert not (tmp_path / "never").exists()
    assert _no_processes_left()


def test_an_error_of_who_asks_ends_the_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "WORKER", STAND_IN)
    folders = [tmp_path / "a", tmp_path / "wait"]
    found = workers.all_trained(folders, [{}], tmp_path / "messages.txt", Wish(), _nothing)
    assert next(found)[0] == folders[0]
    found.close()
    assert _no_processes_left()


def test_a_real_worker_trains_as_this_process_does(monkeypatch, tmp_path):
    # What lies in the current folder is not taken for a module of the library.
    (tmp_path / "yaml.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    config = small_config(steps=2)
    broken = tmp_path / "bro\nken ü"
    broken.mkdir()
    (broken / RUN_WRITTEN).write_text("steps: 3")
    there = tmp_path / "there"
    there.mkdir()
    (there / RUN_WRITTEN).write_text(config.to_yaml())
    environments = workers.places("cpu", threads=1, processes=1)
    found = dict(
        workers.all_trained(
            [broken, there], environments, tmp_path / "messages.txt", Wish(), _nothing
        )
    )
    assert found[there] == {}
    assert "has no task" in found[broken]["error"]
    train(config, tmp_path / "here", progress=False)
    assert outcome(there) == outcome(tmp_path / "here")
    assert (tmp_path / "messages.txt").read_text() == ""


def test_the_worker_answers_for_each_line(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{json.dumps(str(tmp_path))}\n" * 2))
    said = io.StringIO()
    monkeypatch.setattr(worker, "_own_stdout", lambda: said)
    kills = _kills(monkeypatch)
    monkeypatch.setattr(worker, "trained", lambda folder: {"error": folder.name})
    worker.main()
    assert [json.loads(line) for line in said.getvalue().splitlines()] == [
        {"error": tmp_path.name}
    ] * 2
    assert set(kills) <= {(os.getpid(), signal.SIGTERM)}


def test_the_worker_ends_its_training_when_nobody_listens(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO('"folder"\n'))
    kills = _kills(monkeypatch)
    idle, busy = threading.Event(), threading.Event()
    busy.set()
    worker._listen(SimpleQueue(), idle)
    assert kills == []
    worker._listen(SimpleQueue(), busy)
    assert kills == [(os.getpid(), signal.SIGTERM)]


def _kills(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    return sent


def test_an_unexpected_error_is_an_answer(monkeypatch, tmp_path, capsys):
    def train(*_, **__):
        raise RuntimeError("out of ideas")

    (tmp_path / RUN_WRITTEN).write_text(small_config().to_yaml())
    monkeypatch.setattr(worker, "train", train)
    assert worker.trained(tmp_path) == {"error": "RuntimeError: out of ideas"}
    assert "Traceback" in capsys.readouterr().err


def test_places_on_a_cpu(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert workers.places("cpu", 2, None) == [{"OMP_NUM_THREADS": "2"}] * 4
    assert len(workers.places("auto", 16, None)) == 1
    assert len(workers.places("cpu", 1, 3)) == 3


def test_places_on_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def gpus(processes):
        return [place["CUDA_VISIBLE_DEVICES"] for place in workers.places("auto", 1, processes)]

    assert gpus(None) == ["0", "1"]
    assert gpus(3) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    assert gpus(None) == ["3", "7"]
    for device in ("cpu", "cuda:1"):
        assert workers.places(device, 1, 1) == [{"OMP_NUM_THREADS": "1"}]
    assert len(workers.places("cuda:1", 1, None)) == 1
