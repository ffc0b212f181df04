"""`hf-ess` as a real process: interrupts, pipes, switches of the environment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from tiny_checkpoints import save_llama, some_text

import hf_ess

COMMAND = [sys.executable, "-m", "hf_ess"]
LAYERS = 24
PATIENCE = 120.0


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory):
    """A model whose analysis takes long enough to be interrupted."""
    return save_llama(tmp_path_factory.mktemp("deep"), num_hidden_layers=LAYERS)


def _run(*arguments, **environment):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=PATIENCE,
        check=False,
    )


def _read_until(stream, pattern):
    """Reads a stream until what was read matches."""
    read, end = "", time.monotonic() + PATIENCE
    while not re.search(pattern, read):
        part = os.read(stream.fileno(), 4096).decode()
        assert part, f"ended early: {read}"
        assert time.monotonic() < end, read
        read += part
    return read


def test_interrupt(deep_folder, tmp_path):
    out = tmp_path / "report"
    text = some_text(400)
    options = ["--text", text, "--positions", "all", "--out", str(out)]
    process = subprocess.Popen(
        [*COMMAND, "analyze", str(deep_folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TQDM_MININTERVAL": "0.1"},
    )
    try:
        # The bar says that some layers are done, and that many are to come.
        _read_until(process.stderr, rf"Analysing: .*\b[1-9]\d*/{LAYERS}")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    messages = stderr.decode()
    assert process.returncode == 130
    assert stdout == b""
    assert "Traceback" not in messages
    assert messages.endswith("interrupted\n")
    report = hf_ess.ESSReport.load(out)
    assert (report.complete, report.incomplete_reason) == (False, "interrupted")
    assert 0 < len(report.layers) < LAYERS
    assert [layer.index for layer in report.layers] == list(range(len(report.layers)))
    assert f"kept {len(report.layers)} complete layer(s)" in messages
    assert sorted(path.name for path in out.iterdir()) == ["arrays.safetensors", "report.json"]


def test_json_alone_on_stdout_and_bars_off(llama_folder):
    ended = _run(
        *("analyze", llama_folder, "--text", some_text(12), "--format", "json"),
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        PYTHONWARNINGS="default",
    )
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["texts"] == [12]
    assert ended.stderr == ""


def test_a_reader_that_leaves_early():
    process = subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    messages = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=PATIENCE) in (0, 1)
    assert messages == ""
