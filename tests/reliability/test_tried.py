"""Rows of the table of reliability come from tests that passed, and the page from the rows."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from reliability_rows import PARTS

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]

VERSIONS = ("python", "torch", "transformers")

EXAMPLE = """
import pytest

@pytest.mark.parametrize("number", [1, 2, 3])
def test_passes(tried, number):
    tried("Faults", "A | fault", "An error", times=number)

def test_other(tried):
    tried("Random models", "Models", "Verified", times=200)
"""


@pytest.fixture(scope="module")
def script():
    path = ROOT / "docs" / "make_reliability_page.py"
    spec = importlib.util.spec_from_file_location("make_reliability_page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(pytester, text, *options):
    pytester.makepyfile(test_example=text)
    plugins = ["-p", "reliability_rows", "-p", "no:cacheprovider"]
    return pytester.runpytest_inprocess(*plugins, "--write-reliability", "rows.json", *options)


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_rows_add_up(pytester, script, workers):
    _run(pytester, EXAMPLE, *workers).assert_outcomes(passed=4)
    record = json.loads((pytester.path / "rows.json").read_text())
    first, second = record["rows"]
    assert (first["part"], first["times"]) == ("Random models", 200)
    assert second == {
        "part": "Faults",
        "what": "A | fault",
        "happened": "An error",
        "test": "test_example.py",
        "times": 6,
    }
    assert r"| A \| fault | 6 | An error | [test_example](../test_example.py) |" in script.page_of(
        record, {}
    )


def test_how_much_of_a_room_ran(script):
    kinds = {"lines": {"ran": 1, "of": 1000, "percent": 0.1}, "branches": {"of": 2, "percent": 50}}
    page = script.page_of({"versions": dict.fromkeys(VERSIONS, "1"), "rows": []}, {"lab": kinds})
    assert page.endswith("\n| lab | 1,000 | 0.1 % | 2 | 50.0 % |\n")


def test_no_table_where_a_test_fails(pytester):
    failing = "\n\ndef test_fails(tried):\n    tried('Faults', 'a', 'b')\n    assert 0\n"
    _run(pytester, EXAMPLE + failing).assert_outcomes(passed=4, failed=1)
    assert not (pytester.path / "rows.json").exists()


def test_parts_are_known(pytester):
    text = "def test_it(tried):\n    tried('Luck', 'a', 'b')\n"
    _run(pytester, text).assert_outcomes(failed=1)


def test_page_is_what_the_tests_wrote(script):
    record = json.loads(script.ROWS.read_text(encoding="utf-8"))
    again = "run `make reliability` and commit what it writes"
    assert script.PAGE.read_text(encoding="utf-8") == script.written_page(), again
    assert {row["part"] for row in record["rows"]} == set(PARTS)
    for row in record["rows"]:
        assert "tried(" in (ROOT / row["test"]).read_text(encoding="utf-8"), again
