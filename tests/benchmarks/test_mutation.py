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


def note_codes(folder, codes):
    """As mutmut does for a module `m`."""
    meta = folder / "mutants" / "hf_ess" / "m.py.meta"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"exit_code_by_key": codes}))


def test_a_sample_has_the_digits_of_all_that_was_ever_tried(scripts, tmp_path):
    testing, _, _ = scripts
    note_codes(tmp_path, {f"hf_ess.m.x_f__mutmut_{n}": code for n, code in ((3, 1), (14, None))})
    for asked, digits in (("7", "37"), ("", "")):
        part = testing.Part("part", ("m.py",), (), digits=asked)
        found = testing.gathered(part, tmp_path)
        assert found["digits"] == digits
        assert (found["modules"][0]["mutants"], found["modules"][0]["tried"]) == (2, 1)


def test_survivors_that_are_noticed_later_are_none(scripts, tmp_path):
    testing, _, _ = scripts
    part = testing.Part("part", ("m.py",), ())
    names = [f"hf_ess.m.x_f__mutmut_{number}" for number in (1, 2, 3)]
    survivors = [{"mutant": name, "removed": "a", "added": "b"} for name in names]
    modules = [{"module": "hf_ess/m.py", "mutants": 30, "tried": 5, "timeouts": 0}]
    old = {"part": "part", "digits": "", "modules": modules, "survivors": survivors}
    note_codes(tmp_path, dict(zip(names, (testing.SURVIVED, 1, None), strict=True)))
    now = testing.judged(testing.without_killed(old, part, tmp_path))
    assert [one["mutant"] for one in now["survivors"]] == [names[0], names[2]]
    counts = {"tried": 5, "killed": 3, "survived": 2, "explained": 0}
    assert now["modules"] == [modules[0] | counts]


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
    record = {"command": "c", "versions": versions, "parts": [part], "not_tried": ["n.py"]}
    text = page.page_of(record)
    assert "* n.py\n" in text
    assert "| m.py | 9 | 4 (7) | 2 | 2 | 1 |" in text
    assert "| no matter | 1 |" in text
    assert r"| m.x_f__mutmut_1 | `` a \| b `` | `` a & b `` |" in text
    assert "mutmut_2" not in text
