"""Benchmarks are scripts: they run here as they do from a command line, with tiny parameters."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def load_script():
    """Imports a benchmark by its name."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def run_script(load_script, monkeypatch, capsys):
    """Runs a benchmark with `--json`; returns what it printed and leaves torch's threads alone."""
    threads = torch.get_num_threads()

    def run(name: str, *arguments: object):
        script = load_script(name)
        words = [f"{name}.py", *map(str, arguments), "--json"]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        script.main()
        return json.loads(capsys.readouterr().out)

    yield run
    torch.set_num_threads(threads)
