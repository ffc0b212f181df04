"""The table of what the tests run adds up files by room, and fails below its floor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "coverage_by_room.py"


def _file(lines, branches):
    names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return {"summary": dict(zip(names, (*lines, *branches), strict=True))}


MEASURED = {
    "files": {
        "hf_ess/errors.py": _file((10, 10), (0, 0)),
        "hf_ess/lab/train.py": _file((30, 40), (5, 10)),
        "hf_ess/lab/paper/runs.py": _file((50, 60), (7, 10)),
        "model_adapters/mamba.py": _file((90, 90), (8, 8)),
        "/copies/hf_ess/errors.py": _file((1, 1000), (1, 1000)),
    }
}


@pytest.fixture
def run(tmp_path):
    def run(*options):
        (tmp_path / "measured.json").write_text(json.dumps(MEASURED))
        return subprocess.run(
            [sys.executable, SCRIPT, tmp_path / "measured.json", *map(str, options)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_files_are_added_up_by_room(run, tmp_path):
    ended = run("--out", tmp_path / "kept.json")
    assert ended.returncode == 0, ended.stderr
    rooms = json.loads((tmp_path / "kept.json").read_text())["rooms"]
    assert list(rooms) == ["hf_ess", "hf_ess/lab", "model_adapters", "all"]
    assert rooms["hf_ess/lab"] == {
        "lines": {"ran": 80, "of": 100, "percent": 80.0},
        "branches": {"ran": 12, "of": 20, "percent": 60.0},
    }
    assert rooms["hf_ess"]["branches"]["percent"] == 100.0
    assert rooms["all"]["lines"] == {"ran": 180, "of": 200, "percent": 90.0}
    assert [line.split()[0] for line in ended.stdout.splitlines()[1:]] == list(rooms)


@pytest.mark.parametrize(
    ("floor", "status", "told"),
    [(71.4, 0, ""), (71.5, 1, "of the branches"), (90.1, 1, "of the lines and branches")],
)
def test_too_little_is_a_failure_that_says_of_what(run, floor, status, told):
    ended = run("--floor", floor)
    assert ended.returncode == status
    assert told in ended.stderr
