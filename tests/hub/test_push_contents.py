"""What a push lets out, cards that the Hub refuses, benchmarks, and dry runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hub.pushing import CARD, WRITTEN, commits_of
from huggingface_hub import HfApi
from report.synthetic import make_layer, make_report, unverified

import hf_ess
from hf_ess.hub import push_report, report_from_hub
from hf_ess.hub.card_text import without_addition
from hf_ess.hub.pull_requests import TITLE

pytestmark = pytest.mark.usefixtures("quick_plots")

TEXT = "".join(f" word{i}" for i in range(12))


@pytest.fixture(scope="module")
def report():
    return make_report()


def test_the_text_only_where_it_is_asked_for(model, report):
    push_report(report, "me/model")
    assert all(b"word3" not in content for content in model.files().values())
    result = push_report(report, "me/model", include_text=True)
    assert "ess/report.json" in result.paths
    read = report_from_hub("me/model")
    assert "".join(read.samples[0].tokens) == TEXT
    assert read.fingerprint() == report.fingerprint()


@pytest.mark.parametrize("secret", ["token", "home", "tokens"])
def test_what_leaks_is_not_sent(hub, model, monkeypatch, secret):
    """Even if what makes a report fit to be published should miss something."""
    monkeypatch.setattr("hf_ess.hub.publication_files.published", lambda report, **_: report)
    home = str(Path.home() / "llama")
    leaked = {"token": hub.me.token, "home": home}.get(secret)
    place = r"warnings\[0\]" if leaked else r"samples\[0\].tokens"
    telling = make_report(warnings=[f"about {leaked}"])
    with pytest.raises(hf_ess.HubError, match=rf"report.json would hold .*{place}") as error:
        push_report(telling, "me/model")
    assert str(leaked) not in str(error.value)
    assert commits_of(model) == []


def test_what_others_published_is_no_leak_of_ours(hub, report):
    card = CARD.encode() + TEXT.encode() + b"\n" + str(Path.home()).encode()
    repo = hub.repo("me/open", {"README.md": card})
    push_report(report, "me/open")
    assert without_addition(repo.files()["README.md"]) == card


def test_nothing_is_published_of_nothing(model):
    nothing = make_report([make_layer(**unverified())])
    with pytest.raises(hf_ess.ReportError, match="verified"):
        push_report(nothing, "me/model")
    assert commits_of(model) == []


# Cards that the Hub refuses


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ("license: mit\ntags: [a\nlanguage: en", 4),
        ("license: mit\nlicense: mit", 3),
        ("tags: [a]\nlicense: 5", 3),
    ],
)
def test_a_card_that_was_broken_before(hub, report, metadata, line):
    card = f"---\n{metadata}\n---\n# A model\n".encode()
    repo = hub.repo("me/broken", {"README.md": card})
    with pytest.raises(hf_ess.HubError, match="nothing was changed") as error:
        push_report(report, "me/broken")
    words = metadata.splitlines()[line - 2]
    assert f"Line {line} of the card, as it was before: {words}" in str(error.value)
    assert "--no-card" in error.value.fix
    assert len(repo.commits) == 2
    push_report(report, "me/broken", card=False)
    assert repo.files()["README.md"] == card
    assert set(repo.files()) >= WRITTEN


def test_a_card_that_is_no_utf8(hub, report):
    card = b"---\nlicense: mit\n---\n# Un mod\xe8le\n"
    repo = hub.repo("me/latin", {"README.md": card})
    with pytest.raises(hf_ess.InvalidInputError, match="not UTF-8") as error:
        push_report(report, "me/latin")
    assert "--no-card" in error.value.fix
    assert repo.files()["README.md"] == card


# Benchmarks


def test_results_of_a_benchmark(model, report):
    push_report(report, "me/model", benchmark=("org/bench", "memory"))
    (entry,) = yaml.safe_load(model.files()[".eval_results/hf_ess.yaml"])
    assert entry["dataset"] == {"id": "org/bench", "task_id": "memory"}
    assert entry["value"] == round(report.average_ess(), 4)
    assert not push_report(report, "me/model", benchmark=("org/bench", "memory")).changed
    assert not push_report(report, "me/model").changed
    push_report(report, "me/model", benchmark=("org/bench", "other"))
    push_report(make_report(seed=5), "me/model", benchmark=("org/bench", "memory"))
    entries = yaml.safe_load(model.files()[".eval_results/hf_ess.yaml"])
    assert [each["dataset"]["task_id"] for each in entries] == ["other", "memory"]


def test_results_that_are_no_list(model, report):
    model.write(".eval_results/hf_ess.yaml", b"a: [")
    with pytest.raises(hf_ess.HubError, match="is no list of results"):
        push_report(report, "me/model", benchmark=("org/bench", "memory"))


# Dry runs


def test_a_dry_run_sends_nothing(hub, model, report):
    result = push_report(report, "me/model", dry_run=True)
    assert set(result.paths) == WRITTEN
    assert result.changed
    assert result.commit_url is None
    assert "+++ b/README.md" in result.card_diff
    assert " # A model" in result.card_diff.splitlines()
    assert len(model.commits) == 2
    assert {each.method for each in hub.requests} <= {"GET", "HEAD", "POST"}
    assert all("paths-info" in each.target for each in hub.asked("POST"))
    push_report(report, "me/model")
    assert not push_report(report, "me/model", dry_run=True).changed


def test_a_dry_run_of_what_is_not_there(hub, report):
    result = push_report(report, "me/new", private=True, dry_run=True)
    assert set(result.paths) == WRITTEN
    assert "me/new" not in hub.repos


def test_a_dry_run_of_a_pull_request(model, report):
    assert push_report(report, "me/model", create_pr=True, dry_run=True).pr_url is None
    assert model.pull_requests == []
    push_report(report, "me/model", create_pr=True)
    planned = push_report(make_report(seed=5), "me/model", create_pr=True, dry_run=True)
    assert (planned.changed, planned.pr_num) == (True, 1)
    assert commits_of(model, "refs/pr/1") == [TITLE]


def test_published_reports_hold_no_time_that_counts(model, report):
    push_report(report, "me/model")
    document = json.loads(model.files()["ess/report.json"])
    assert document["created_at"] == report.created_at
    assert report.created_at not in json.dumps(document["content"])
    assert report.created_at.encode() not in model.files()["README.md"]


def test_a_client_of_the_hub_sees_it(model, report):
    push_report(report, "me/model")
    info = HfApi().model_info("me/model")
    assert "hf_ess" in info.tags
    assert info.card_data.eval_results[0].source_name == "hf_ess"
