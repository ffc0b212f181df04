"""The memory of an analysis whose weights are on disk, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# MiB: what torch and accelerate allocate at their first use.
FIRST_USE = 60


def test_weights_on_disk_take_one_layer_and_the_budget(tmp_path):
    options = ("--layers", "6", "--width", "1024", "--tokens", "32", "--budget", str(16 * 2**20))
    done = subprocess.run(
        [sys.executable, "benchmarks/offload.py", *options, "--json"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout)
    assert found["same_report"]
    assert found["verified_layers"] == 6
    allowed = found["largest_layer"] + found["memory_budget"] + FIRST_USE
    assert allowed < found["weights"] / 2
    assert found["peak_on_disk"] < allowed
    assert found["peak_in_memory"] > found["weights"] / 2
    assert not list(tmp_path.glob("hf-ess-offload-*"))
