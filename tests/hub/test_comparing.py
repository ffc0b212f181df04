"""Comparisons and leaderboards over any mix of folders and repositories; they only read."""

from __future__ import annotations

import json

import pytest
from report.synthetic import make_report

from hf_ess.report.publication import published


@pytest.fixture
def mixed(hub, tmp_path):
    """One report in a folder and the same text measured with another model, on the Hub."""
    folder = make_report(2, provenance={"model": "org/one"}).save(tmp_path / "one")
    other = published(make_report(3, seed=1, provenance={"model": "me/two"}))
    saved = other.save(tmp_path / "two")
    files = {f"ess/{path.name}": path.read_bytes() for path in saved.iterdir()}
    return folder, hub.repo("me/two", files), other


def test_a_folder_and_a_repository(run_command, mixed):
    folder, repo, other = mixed
    before = len(repo.commits)
    status, out, err = run_command("compare", folder, "me/two", "--format", "json")
    assert status == 0, err
    document = json.loads(out)
    assert [one["name"] for one in document["reports"]] == ["one", "two"]
    averages = [row for row in document["model"] if row["quantity"] == "average per channel"]
    assert averages[0]["values"][1] == other.average_ess()
    assert "position" in document
    assert len(repo.commits) == before


def test_a_leaderboard_of_both_and_of_what_is_not_there(run_command, mixed):
    folder, repo, _ = mixed
    before = len(repo.commits)
    status, out, err = run_command("leaderboard", folder, "me/two", "me/none", "--format", "json")
    assert status == 1
    document = json.loads(out)
    assert {row["source"] for row in document["rows"]} == {str(folder), "me/two"}
    assert {row["group"] for row in document["rows"]} == {1}
    assert [one["source"] for one in document["failed"]] == ["me/none"]
    assert "error: me/none: " in err
    assert len(repo.commits) == before
