"""The import contracts of pyproject.toml hold, and they are the ones that we mean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTRACTS = 3


def test_import_contracts():
    ended = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    kept = [line for line in ended.stdout.splitlines() if line.rstrip().endswith("KEPT")]
    assert len(kept) >= CONTRACTS
    assert "0 broken" in ended.stdout
