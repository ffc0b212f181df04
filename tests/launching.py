"""Processes that torchrun starts, for tests of work that several share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PATIENCE = 280
TESTS = Path(__file__).parent
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
    "OMP_NUM_THREADS": "1",
}


def torchrun(processes, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, "--nproc_per_node", str(processes), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=PATIENCE,
        check=False,
    )
