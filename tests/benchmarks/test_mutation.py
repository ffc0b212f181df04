"""What survived is told apart, and every module and test that mutants are tried on is there."""

from __future__ import annotations

import json

import pytest

HINT = 'raise ValueError( "It is not so.", fix="Do this instead.", )'


@pytest.fixture(scope="module")
def scripts(load_script):
    names = ("mutation_testing", "mutation_survivors", "mutation_page")
    return [load_script(name) for name in names]


@pytest.mark.parametrize(
    ("removed", "added", "reason"),
    [
        ('f("It is not so.")', 'f("it is not so.")', "words of a message"),
        ('f("tags")', 'f("TAGS")', ""),
        ('raise Error("It is not so.")', "raise Error(None)", "words of a message"),
        ("raise Error(name)", "raise Error(None)", ""),
        (HINT, HINT.replace('"Do this instead."', "None"), "hints of an error"),
        (HINT, HINT.replace(' fix="Do this instead.",', ""), "hints of an error"),
        (HINT, HINT.replace("ValueError", "None"), ""),
        ("zip(a, b, strict=True)", "zip(a, b, strict=None)", "of equal length"),
        ("x = 1", "x = 2", "nobody reads x"),
        ("x = 1", "x = 3", ""),
    ],
)
def test_reasons(scripts, tmp_path, monkeypatch, removed, added, reason):
    _, survivors, _ = scripts
    known = {
        "kinds": [{"removed": "strict=True", "added": "strict=None", "reason": "of equal length"}],
        "changes": [
            {"function": "a.x_f", "removed": "x = 1", "added": "x = 2", "reason": "nobody reads x"}
        ],
    }
    file = tmp_path / "explained.json"
    file.write_text(json.dumps(known))
    monkeypatch.setattr(survivors, "EXPLAINED", file)
    one = {"mutant": "a.x_f__mutmut_12", "removed": removed, "added": added}
    assert survivors.explained([one])[0]["reason"] == reason


def test_modules_and_tests_of_every_part_exist(scripts):
    testing, _, _ = scripts
    modules = [module for part in testing.PARTS for module in part.modules]
    assert len(modules) == len(set(modules))
    for part in testing.PARTS:
        for module in part.modules:
            assert (testing.ROOT / "hf_ess" / module).is_file()
        for test in part.tests:
            assert (testing.ROOT / "tests" / test).is_file()


def test_the_page_is_that_of_the_record(scripts):
    testing, _, page = scripts
    record = json.loads(testing.RESULTS.read_text(encoding="utf-8"))
    assert testing.PAGE.read_text(encoding="utf-8") == page.page_of(record)
    for part in record["parts"]:
        survived = sum(module["survived"] for module in part["modules"])
        assert len(part["survivors"]) == survived
        for module in part["modules"]:
            assert module["killed"] + module["survived"] == module["tried"] <= module["mutants"]


def test_what_is_not_explained_is_on_the_page(scripts):
    *_, page = scripts
    module = {
        "module": "m.py",
        "mutants": 9,
        "tried": 4,
        "killed": 2,
        "survived": 2,
        "explained": 1,
    }
    survivors = [
        {"mutant": "hf_ess.m.x_f__mutmut_1", "removed": "a | b", "added": "a & b", "reason": ""},
        {"mutant": "hf_ess.m.x_f__mutmut_2", "removed": "1", "added": "2", "reason": "no matter"},
    ]
    part = {"part": "m", "digits": "7", "modules": [module], "survivors": survivors}
    versions = {"mutmut": "3", "python": "3", "torch": "2"}
    text = page.page_of({"command": "c", "versions": versions, "parts": [part]})
    assert "| m.py | 9 | 4 (7) | 2 | 2 | 1 |" in text
    assert "| no matter | 1 |" in text
    assert r"| m.x_f__mutmut_1 | `` a \| b `` | `` a & b `` |" in text
    assert "mutmut_2" not in text
