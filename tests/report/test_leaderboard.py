"""A row for each report, groups of what is comparable, and cells that are safe."""

from __future__ import annotations

import csv
import io
import json
import os

import pytest
from report.synthetic import UNSUPPORTED, make_layer, make_report, unverified

from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.report.leaderboard import (
    APART,
    GROUP,
    Entry,
    Failure,
    leaderboard,
    report_folders,
)
from hf_ess.report.leaderboard_tables import LeaderboardView
from hf_ess.report.tables import plain_text

METRICS = ["entropy-ESS", "tolerance-ESS(0.1)", "tolerance-ESS(0.001)", "tolerance-ESS(1e-05)"]


def level(value, **changes):
    """A report whose entropy-ESS is the same everywhere; channels and positions are 8 and 3."""
    return make_report([make_layer(0, entropy_ess=[[[value] * 3] * 2])], **changes)


def board(*reports, **options):
    entries = (Entry.of(f"r{n}", report) for n, report in enumerate(reports))
    return leaderboard(entries, **options)


def column(table, name):
    return [row[name] for row in table.rows]


def test_a_row_says_everything():
    layers = [
        make_layer(0),
        make_layer(1, state_size=4, mixer="mamba"),
        make_layer(2, **unverified()),
    ]
    report = make_report(
        layers,
        unsupported=[UNSUPPORTED],
        provenance={
            "model": "org/model", "revision": "a" * 40, "parameters": 1234567, "dtype": "bfloat16",
            "versions": {"hf-ess": "0.1.0"},
        },
    )  # fmt: skip
    (row,) = board(report).rows
    expected = {
        "group": 1, APART: "", "source": "r0", "model": "org/model", "revision": "a" * 40,
        "mixers": "softmax attention, mamba", "verified layers": 2, "layers": 4,
        "parameters": 1234567, "entropy-ESS": report.average_ess(),
        "tolerance-ESS(0.1)": report.average_ess(0.1),
        "utilization of entropy-ESS": report.utilization(),
        "total of entropy-ESS": report.total_ess(), "text": "00000000", "length": "12 tokens",
        "positions": "3 listed (2 to 9)", "tolerances": "0.1, 0.001, 1e-05", "window": "none",
        "scope": "core", "dtype": "bfloat16", "hf_ess": "0.1.0",
        "fingerprint": report.fingerprint(),
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    shown = board(report).shown[0]
    assert shown["parameters"] == "1,234,567"
    assert shown["revision"] == "a" * 11 + "…"
    assert shown["utilization of entropy-ESS"].endswith("%")


def test_rows_are_ordered_within_groups_of_comparable_reports():
    reports = [
        level(9.0, window=(2, 2)), level(2.0), level(4.0), level(3.0), level(8.0, window=(2, 2)),
        level(7.0, scope="mixer", relative=True),
    ]  # fmt: skip
    table = board(*reports)
    assert column(table, "source") == ["r2", "r3", "r1", "r0", "r4", "r5"]
    assert column(table, GROUP) == [1, 1, 1, 2, 2, 3]
    assert column(table, APART) == ["", "", "", "window", "window", "scope, kind of tolerances"]
    assert table.groups[1][0].startswith("window: none (group 1); 2x2 (this group)")
    windowed = "windowed entropy-ESS, window 2x2"
    assert table.columns.index("entropy-ESS") < table.columns.index(windowed)
    assert column(table, "entropy-ESS") == [4.0, 3.0, 2.0, None, None, 7.0]
    assert column(table, windowed) == [None] * 3 + [9.0, 8.0, None]


def test_reports_that_are_not_complete_or_not_verified_are_apart():
    unfinished = level(9.0, complete=False, incomplete_reason="stopped")
    nothing = make_report([make_layer(0, **unverified())])
    table = board(unfinished, nothing, level(1.0), unfinished, nothing)
    assert column(table, GROUP) == [1, 2, 3, 4, 5]
    assert [row[APART] for row in table.rows if row["source"] == "r2"] != [""]
    assert board(level(1.0), level(2.0), unfinished, nothing).rows[3]["entropy-ESS"] is not None
    document = board(level(1.0), level(2.0), unfinished, nothing).to_dict()
    assert [each["sources"] for each in document["groups"]] == [["r1", "r0"], ["r2"], ["r3"]]
    assert document["rows"][3]["entropy-ESS"] is None
    assert document["rows"][2][APART] == "complete"
    assert document["rows"][3][APART] == "verified layers"


@pytest.mark.parametrize(
    ("sort", "sources"),
    [
        ("model", ["r1", "r2", "r0"]),
        ("MOD", ["r1", "r2", "r0"]),
        ("parameters", ["r0", "r1", "r2"]),
        ("entropy-ESS", ["r2", "r1", "r0"]),
        ("total of entropy-ESS", ["r2", "r1", "r0"]),
        (None, ["r2", "r1", "r0"]),
    ],
)
def test_sorting(sort, sources):
    facts = [("z", 30), ("a", 20), ("m", None)]
    reports = [
        level(float(n + 1), provenance={"model": model, "parameters": count})
        for n, (model, count) in enumerate(facts)
    ]
    assert column(board(*reports, sort=sort), "source") == sources


def test_one_metric():
    table = board(level(2.0), level(3.0), metric=0.1)
    assert [name for name in table.columns if "ESS" in name] == [
        "tolerance-ESS(0.1)", "utilization of tolerance-ESS(0.1)", "total of tolerance-ESS(0.1)",
    ]  # fmt: skip
    assert [name for name in board(level(2.0)).columns if name in METRICS] == METRICS
    with pytest.raises(InvalidInputError, match=r"metric 0\.2.*\n.*tolerance-ESS\(1e-05\)"):
        board(level(2.0), metric=0.2)


def test_unknown_columns():
    with pytest.raises(InvalidInputError, match="No column begins with 'nope'"):
        board(level(2.0), sort="nope")
    with pytest.raises(InvalidInputError, match="Several columns begin with 'tol'"):
        board(level(2.0), sort="tol")


def test_nothing_at_all():
    table = leaderboard([], failed=[Failure("x", "gone")])
    assert table.to_dict()["failed"] == [{"source": "x", "reason": "gone"}]
    assert table.to_dict()["rows"] == []
    assert table.to_csv().startswith("group,")
    assert "No report was read." in plain_text(LeaderboardView(table), 80)


NASTY = "=cmd|' /C calc'!A0 <b>`x`</b> \x1b[31m[link](http://x) \u202e"


def test_names_are_safe_in_every_format():
    report = level(2.0, provenance={"model": NASTY, "dtype": "@x", "revision": "-1"})
    table = leaderboard([Entry.of(f"+{NASTY}", report)])
    for text in (table.to_csv(), table.to_markdown(), plain_text(LeaderboardView(table), 300)):
        assert not set("\x1b\u202e") & set(text)
    (row,) = csv.DictReader(io.StringIO(table.to_csv()))
    for name in ("source", "model", "dtype", "revision"):
        assert row[name].startswith("'"), name
    assert float(row["entropy-ESS"]) == 2.0
    lines = table.to_markdown().splitlines()
    assert len(lines) == 3
    assert "<b>" not in lines[2]
    assert lines[0].count("|") == len(table.columns) + 1
    assert lines[2].replace("\\|", "").count("|") == len(table.columns) + 1
    document = json.dumps(table.to_dict(), allow_nan=False)
    assert json.loads(document)["rows"][0]["model"] == NASTY
    assert document.isascii()


def test_tables_for_the_terminal_name_the_groups():
    text = plain_text(
        LeaderboardView(board(level(2.0), level(3.0), level(4.0, window=(2, 2)))), 200
    )
    assert "Group 1: 2 reports" in text
    assert "Group 2: 1 report, not comparable with group 1 in window" in text
    assert "  - window: none (group 1); 2x2 (this group)" in text
    flagged = board(
        make_report([make_layer(0, below_floor=dict.fromkeys((0.1, 1e-3, 1e-5), True))])
    )
    assert "*" in flagged.shown[0]["tolerance-ESS(0.1)"]


def test_folders_are_found_below_sorted_and_links_are_not_followed(tmp_path):
    for name in ("b/deep/er", "a", "c"):
        level(2.0).save(tmp_path / "root" / name)
    outside = level(3.0).save(tmp_path / "outside")
    root = tmp_path / "root"
    (root / "link").symlink_to(outside, target_is_directory=True)
    (root / "file").mkdir()
    (root / "file" / "report.json").symlink_to(outside / "report.json")
    (root / "loop").symlink_to(root, target_is_directory=True)
    assert list(report_folders(root)) == [root / "a", root / "b/deep/er", root / "c"]
    assert list(report_folders(root / "link")) == [root / "link"]
    assert list(report_folders(root / "file")) == [root / "file"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return iter(())

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(ReportError, match="Permission denied"):
        list(report_folders(tmp_path))
