"""How many random models are tried, and the table of what happened to them at the end."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest
from reliability.fuzzing.leftovers import older_objects_aside

OUTCOMES = "outcomes of random models"


def pytest_generate_tests(metafunc):
    """`FUZZ_CASES` cases from `FUZZ_SEED` on, some to a test so that workers share them."""
    if "seeds" in metafunc.fixturenames:
        first, cases = (int(os.environ.get(name, 0)) for name in ("FUZZ_SEED", "FUZZ_CASES"))
        last = first + (cases or metafunc.module.CASES)
        step = metafunc.module.CASES_OF_A_TEST
        parts = [range(start, min(start + step, last)) for start in range(first, last, step)]
        metafunc.parametrize("seeds", parts, ids=[f"{part[0]}-{part[-1]}" for part in parts])


@pytest.fixture(scope="module")
def young_objects():
    """Looking for tensors that are left takes long among all objects of a test session."""
    with older_objects_aside():
        yield


@pytest.fixture
def note_outcomes(request):
    """Adds to the table at the end of a run of these tests alone: rows of texts, with counts."""

    def note(rows: Counter[tuple[str, ...]]) -> None:
        entries = [[*row, count] for row, count in rows.items()]
        request.node.user_properties.append((OUTCOMES, json.dumps(entries)))

    return note


def pytest_terminal_summary(terminalreporter):
    rows: Counter[tuple[str, ...]] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == OUTCOMES:
                rows.update({tuple(row): count for *row, count in json.loads(text)})
    if not rows:
        return
    terminalreporter.section("random models")
    for row, count in sorted(rows.items()):
        terminalreporter.write_line(f"{count:6}  {'  |  '.join(row)}")
