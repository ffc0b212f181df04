"""What tests tried, how often, and what happened: gathered over workers, written as one table.

A plugin of pytest: `pytest tests/reliability --write-reliability FILE`.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

PARTS = (
    "Random models",
    "Faults",
    "Many runs and threads",
    "Long runs",
    "Hostile input",
    "Numbers under stress",
)
PROPERTY = "tried"


def pytest_addoption(parser):
    parser.addoption(
        "--write-reliability", metavar="FILE", help="what was tried in tests that passed, as JSON"
    )


def pytest_configure(config):
    target = config.getoption("--write-reliability")
    if target and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Gathered(Path(target)))


@pytest.fixture
def tried(request):
    """Call it after the assertions: what was tried, what they have shown, and how often."""

    def tell(part: str, what: str, happened: str, times: int = 1) -> None:
        assert part in PARTS, f"{part} is none of {PARTS}"
        assert times >= 1
        row = {"part": part, "what": what, "happened": happened, "times": times}
        request.node.user_properties.append((PROPERTY, row))

    return tell


class Gathered:
    """Rows of passing tests; the same in several tests is one row."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.times: Counter[tuple[str, str, str, str]] = Counter()
        self.failed = 0

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed += 1
        if report.when != "call" or not report.passed:
            return
        file = report.nodeid.split("::")[0]
        for name, row in report.user_properties:
            if name == PROPERTY:
                key = (row["part"], row["what"], row["happened"], file)
                self.times[key] += row["times"]

    def pytest_sessionfinish(self):
        if self.failed or not self.times:
            return  # a table with holes would look like a whole one
        by_part = sorted(self.times, key=lambda key: (PARTS.index(key[0]), key[3], key[1], key[2]))
        names = ("part", "what", "happened", "test")
        rows = [dict(zip(names, key, strict=True)) | {"times": self.times[key]} for key in by_part]
        record = {
            "versions": {
                "python": platform.python_version(),
                "torch": version("torch").split("+")[0],
                "transformers": version("transformers"),
            },
            "rows": rows,
        }
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
