"""`hf-ess env` says what a report of a bug needs, and nothing that is private."""

from __future__ import annotations

import getpass
import json
import platform
import re
import socket
from pathlib import Path

import torch
import transformers

import hf_ess


def test_versions_and_switches(run_command, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("RANK", raising=False)
    status, said, _ = run_command("env", "--format", "json")
    assert status == 0
    facts = json.loads(said)
    assert facts["hf-ess"] == hf_ess.__version__
    assert facts["torch"] == torch.__version__
    assert facts["transformers"] == transformers.__version__
    assert facts["python"] == platform.python_version()
    assert "OMP_NUM_THREADS=3" in facts["switches"]
    assert "RANK" not in facts["switches"]
    assert all(value != "not installed" for value in facts.values())
    assert float(facts["memory"].split()[0]) > 0.1


def test_a_line_for_each(run_command):
    status, said, _ = run_command("env")
    assert status == 0
    lines = dict(line.split(":", 1) for line in said.splitlines())
    assert lines["hf-ess"].strip() == hf_ess.__version__
    starts = {len(line) - len(line.split(":", 1)[1].lstrip()) for line in said.splitlines()}
    assert len(starts) == 1


def test_nothing_private(run_command, monkeypatch):
    secrets = {name: f"hf_{'x' * 30}{i}" for i, name in enumerate(("HF_TOKEN", "WANDB_API_KEY"))}
    for name, secret in secrets.items():
        monkeypatch.setenv(name, secret)
    _, said, _ = run_command("env")
    private = [*secrets.values(), str(Path.home())]
    assert not [word for word in private if word in said]
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", said)
    assert f"/{getpass.getuser()}/" not in said
