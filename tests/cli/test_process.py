"""`hf-ess` as a real process: pipes, switches of the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tiny_checkpoints import some_text

COMMAND = [sys.executable, "-m", "hf_ess"]
PATIENCE = 120.0


def _run(*arguments, **environment):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=PATIENCE,
        check=False,
    )


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
