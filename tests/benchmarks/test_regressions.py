"""A ratio that is 30 % worse fails, whichever way is worse."""

from __future__ import annotations

import json
import sys

import pytest


@pytest.fixture
def check(load_script):
    return load_script("check_regressions")


@pytest.mark.parametrize(
    ("committed", "now", "more_is_better", "failed"),
    [
        (13.0, 10.1, True, False),
        (13.0, 9.9, True, True),
        (13.0, 30.0, True, False),
        (10.0, 12.9, False, False),
        (10.0, 13.1, False, True),
        (10.0, 1.0, False, False),
    ],
)
def test_thirty_percent(check, committed, now, more_is_better, failed) -> None:
    before, after = (check.Ratio(value, more_is_better) for value in (committed, now))
    (one,) = check.compare({"a": before}, {"a": after})
    assert one.failed is failed
    assert ("REGRESSION" in check.table([one])) is failed


def test_new_ratios_pass_and_lost_ones_fail(check) -> None:
    ratio = check.Ratio(2.0, True)
    lost, new = check.compare({"lost": ratio}, {"new": ratio})
    assert (lost.name, lost.failed) == ("lost", True)
    assert (new.name, new.failed) == ("new", False)
    assert check.table([new]).endswith("new")


@pytest.mark.parametrize(("now", "status"), [(9.0, 0), (5.0, 1)])
def test_status_tells_of_regressions(check, monkeypatch, tmp_path, capsys, now, status) -> None:
    monkeypatch.setattr(check, "RATIOS", tmp_path / "ratios.json")
    monkeypatch.setattr(check.torch, "set_num_threads", lambda _count: None)
    check.write({"speed": check.Ratio(10.0, True)})
    monkeypatch.setattr(check, "measure", lambda _model: {"speed": check.Ratio(now, True)})
    monkeypatch.setattr(sys, "argv", ["check_regressions.py", "--model", "any", "--json"])
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert ended.value.code == status
    printed = json.loads(capsys.readouterr().out)
    assert printed["failed"] is bool(status)
    assert [one["name"] for one in printed["comparisons"]] == ["speed"]


def test_selection_is_what_was_committed(check, llama_folder) -> None:
    measured = {
        **check.attention_ratios(32, heads=1, repeats=1),
        **check.forward_ratios(str(llama_folder), tokens=24, repetitions=1),
        **check.recurrence_ratios(48, channels=2, repetitions=1),
    }
    kinds = sorted((ratio.more_is_better, ratio.value > 0) for ratio in measured.values())
    assert kinds == [(False, True)] * 2 + [(True, True)] * 5
    stored = check.stored()
    assert {name.split()[0] for name in measured} == {name.split()[0] for name in stored}
    assert all(ratio.value > 0 for ratio in stored.values())
