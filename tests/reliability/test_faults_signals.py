"""Signals in the middle of `hf-ess analyze` as a real process: what is left, and what is said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from launching import ENVIRONMENT
from tiny_checkpoints import save_llama, some_text

import hf_ess

LAYERS = 24
PATIENCE = 280.0
ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory):
    """A model whose analysis takes long enough to be interrupted."""
    return save_llama(tmp_path_factory.mktemp("deep"), num_hidden_layers=LAYERS)


@pytest.fixture
def started(deep_folder, tmp_path):
    """Starts the command and waits until some layers are done and many are to come."""
    processes = []
    for name in ("tmp", "out"):
        (tmp_path / name).mkdir()

    def start(*launcher):
        command = [sys.executable, *launcher, "-m", "hf_ess", "analyze", str(deep_folder)]
        process = subprocess.Popen(
            [*command, "--text", some_text(400), "--positions", "all", "--out", tmp_path / "out"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT | {"TQDM_MININTERVAL": "0.1", "TMPDIR": str(tmp_path / "tmp")},
        )
        processes.append(process)
        _read_until(process.stderr, r"Analysing: .*\b[1-9]\d*/\d")
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        return process, family

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _read_until(stream, pattern):
    read, end = "", time.monotonic() + PATIENCE
    while not re.search(pattern, read):
        part = os.read(stream.fileno(), 4096).decode()
        assert part, f"ended early: {read}"
        assert time.monotonic() < end, read
        read += part


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
def test_one_process(started, tmp_path, number, tried):
    status, word = ENDS[number]
    process, _ = started()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    messages = stderr.decode()
    assert process.returncode == status
    assert stdout == b""
    assert "Traceback" not in messages
    assert messages.endswith(f"{word}\n")
    report = hf_ess.ESSReport.load(tmp_path / "out")
    assert (report.complete, report.incomplete_reason) == (False, "interrupted")
    assert 0 < len(report.layers) < LAYERS
    assert [layer.index for layer in report.layers] == list(range(len(report.layers)))
    assert f"kept {len(report.layers)} complete layer(s)" in messages
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["arrays.safetensors", "report.json"]
    # Torch makes an empty folder of its own when it is imported.
    temporary = {path.name for path in (tmp_path / "tmp").rglob("*")}
    assert not {name for name in temporary if not name.startswith("torchinductor")}
    tried(
        "Faults",
        "Ctrl-C (SIGINT) or SIGTERM in the middle of `hf-ess analyze`",
        "Status 130 or 143, no traceback; the layers that were complete are a readable report that "
        "is marked as incomplete; no temporary file",
    )


def test_several_processes(started, tmp_path, tried):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process, family = started(*launcher)
    assert len(family) >= 3
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    _, alive = psutil.wait_procs(family[1:], timeout=PATIENCE)
    assert alive == []
    assert list((tmp_path / "out").iterdir()) == []
    tried(
        "Faults",
        "SIGTERM to torchrun in the middle of an analysis that two processes share",
        "All processes are gone; no file of a report is left",
    )
