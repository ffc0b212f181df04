"""What a push writes, and what it leaves alone: the real client against a stub Hub."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from hub.pushing import commits_of
from huggingface_hub import constants
from report.synthetic import make_layer, make_report

import hf_ess
from hf_ess.hub import push_report, report_from_hub
from hf_ess.hub.card_text import without_addition
from hf_ess.hub.pull_requests import TITLE
from hf_ess.hub.push import MESSAGE
from hf_ess.report.publication import published

pytestmark = pytest.mark.usefixtures("quick_plots")

CARD = b"---\nlicense: mit # as the data\ntags: [a]\n---\n# A model\n\nIt does things.\n"
FILES = {
    "ess/arrays.safetensors",
    "ess/heatmap.png",
    "ess/positions.png",
    "ess/profile.png",
    "ess/report.json",
}


@pytest.fixture(scope="module")
def report():
    return make_report()


@pytest.fixture
def model(hub):
    return hub.repo("me/model", {"README.md": CARD})


def test_everything_in_one_commit(hub, model, report):
    result = push_report(report, "me/model")
    assert commits_of(model) == [MESSAGE]
    commit = model.commits[-1]
    assert set(commit.changed) == set(result.paths) == FILES | {"README.md"}
    assert (result.repo_id, result.changed, result.oid) == ("me/model", True, commit.oid)
    assert result.commit_url == f"{hub.url}/me/model/commit/{commit.oid}"
    assert (result.pr_url, result.pr_num) == (None, None)
    written = model.files()
    assert without_addition(written["README.md"]) == CARD
    assert all(written[path].startswith(b"\x89PNG") for path in FILES if path.endswith("png"))
    read = report_from_hub("me/model")
    assert read.fingerprint() == published(report).fingerprint()
    assert [each.average_ess() for each in (read, report)] == [report.average_ess()] * 2


def test_the_card_links_what_was_written(model, report):
    push_report(report, "me/model")
    card = model.files()["README.md"].decode()
    linked = set(re.findall(r"\bess/\w+\.png", card))
    assert linked
    assert linked <= FILES
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["tags"] == ["a", "hf_ess"]
    assert metadata["license"] == "mit"
    assert "license: mit # as the data\n" in card


def test_the_same_report_makes_no_second_commit(model, report):
    first = push_report(report, "me/model")
    again = replace(report, created_at="2031-01-01T00:00:00+00:00")
    second = push_report(again, "me/model")
    assert commits_of(model) == [MESSAGE]
    assert first.changed
    assert not second.changed
    assert (second.commit_url, second.oid, second.paths, second.card_diff) == (None, None, (), "")


def test_a_report_that_was_read_back_is_the_same(model, report):
    push_report(report, "me/model")
    assert not report_from_hub("me/model").push_to_hub("me/model").changed


def test_another_report_replaces_it(model, report):
    push_report(report, "me/model")
    other = make_report(seed=5)
    result = other.push_to_hub("me/model", message="Measured again")
    assert commits_of(model) == ["Measured again", MESSAGE]
    assert "ess/report.json" in result.paths
    assert report_from_hub("me/model").fingerprint() == published(other).fingerprint()
    card = model.files()["README.md"]
    assert without_addition(card) == CARD
    assert card.count(b"hf_ess:begin") == 1


def test_only_what_is_missing_is_written(model, report):
    push_report(report, "me/model")
    model.write("ess/profile.png", None)
    assert push_report(report, "me/model").paths == ("ess/profile.png",)
    model.write("ess/heatmap.png", b"\x89PNG of another matplotlib")
    assert not push_report(report, "me/model").changed
    model.write("ess/arrays.safetensors", b"damaged")
    assert push_report(report, "me/model").paths == ("ess/arrays.safetensors",)
    model.write("ess/report.json", b'{"content": 5}')
    assert set(push_report(report, "me/model").paths) >= {"ess/report.json"}
    assert report_from_hub("me/model").fingerprint() == published(report).fingerprint()


def test_text_of_others_stays(model, report):
    push_report(report, "me/model")
    model.write("README.md", lambda card: card.replace(b"things", b"other things") + b"\nMore.\n")
    push_report(make_report(seed=5), "me/model")
    lines = without_addition(model.files()["README.md"]).split()
    assert lines == [*CARD.replace(b"things", b"other things").split(), b"More."]


def test_a_model_without_a_card(hub, report):
    repo = hub.repo("me/bare")
    result = push_report(report, "me/bare")
    card = repo.files()["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["tags"] == ["hf_ess"]
    assert result.card_diff.startswith("--- a/README.md\n+++ b/README.md\n@@ -0,0 +1")


def test_without_the_card(model, report):
    result = push_report(report, "me/model", card=False)
    assert set(result.paths) == FILES
    assert model.files()["README.md"] == CARD


def test_what_the_owner_ignores_is_written(hub, report):
    """A .gitignore is for what nobody asks for."""
    repo = hub.repo("me/ignoring", {".gitignore": "*.png\ness\n"})
    push_report(report, "me/ignoring")
    assert set(repo.files()) >= FILES
    assert not push_report(report, "me/ignoring").changed


def test_large_files(hub, model):
    layers = [make_layer(groups=40_000, lengths=(40,), positions=range(1, 12))]
    large = make_report(layers, lengths=(40,), positions=range(1, 12))
    push_report(large, "me/model")
    file = model.tree()["ess/arrays.safetensors"]
    assert file.lfs
    assert len(file.content) > 10 * 2**20
    assert report_from_hub("me/model").fingerprint() == published(large).fingerprint()


# Branches and pull requests


def test_another_branch(model, report):
    model.branch("next")
    push_report(report, "me/model", revision="next")
    assert commits_of(model) == []
    assert commits_of(model, "next") == [MESSAGE]
    assert not push_report(report, "me/model", revision="next").changed


def test_a_branch_that_is_missing(model, report):
    with pytest.raises(hf_ess.HubError, match="hf repos branch create me/model next"):
        push_report(report, "me/model", revision="next")
    assert commits_of(model) == []


def test_a_pull_request(hub, model, report):
    result = push_report(report, "me/model", create_pr=True, message="Please look")
    (opened,) = model.pull_requests
    assert (opened.title, opened.author, opened.base) == (TITLE, "me", model.head())
    assert (result.pr_num, result.pr_url) == (1, f"{hub.url}/me/model/discussions/1")
    assert result.changed
    assert commits_of(model) == []
    assert set(model.files(opened.ref)) >= FILES
    assert report_from_hub("me/model", revision="refs/pr/1").layers


def test_an_open_pull_request_is_updated(model, report):
    first = push_report(report, "me/model", create_pr=True)
    same = push_report(report, "me/model", create_pr=True)
    other = push_report(make_report(seed=5), "me/model", create_pr=True, message="Again")
    assert len(model.pull_requests) == 1
    assert [each.changed for each in (first, same, other)] == [True, False, True]
    assert {each.pr_url for each in (first, same, other)} == {first.pr_url}
    assert commits_of(model, "refs/pr/1") == ["Again", TITLE]


def test_pull_requests_of_others_are_left_alone(hub, model, report):
    you = hub.user("you")
    model.discuss("me", "My own change", base=model.head())
    model.discuss("you", TITLE, base=model.head())
    assert push_report(report, "me/model", create_pr=True).pr_num == 3
    assert push_report(report, "me/model", create_pr=True, token=you.token).pr_num == 2
    assert not push_report(report, "me/model", create_pr=True).changed


def test_a_closed_pull_request_is_not_updated(model, report):
    push_report(report, "me/model", create_pr=True)
    model.change_status(1, "closed")
    assert push_report(report, "me/model", create_pr=True).pr_num == 2


def test_a_merged_pull_request_leaves_nothing_to_change(model, report):
    push_report(report, "me/model", create_pr=True)
    model.merge(1)
    result = push_report(report, "me/model", create_pr=True)
    assert (result.changed, result.pr_url) == (False, None)
    assert len(model.pull_requests) == 1
    assert not push_report(report, "me/model").changed


def test_proposing_to_a_model_of_others(hub, report):
    hub.user("you")
    repo = hub.repo("you/model", {"README.md": CARD})
    with pytest.raises(hf_ess.HubError, match="create_pr=True") as error:
        push_report(report, "you/model")
    assert "403" in str(error.value)
    assert push_report(report, "you/model", create_pr=True).pr_num == 1
    assert push_report(make_report(seed=5), "you/model", create_pr=True).pr_num == 1
    assert without_addition(repo.files("refs/pr/1")["README.md"]) == CARD


# Repositories that are missing, or of another kind


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_is_made(hub, report, private):
    result = push_report(report, "me/new", private=private)
    repo = hub.repos["me/new"]
    assert repo.private is private
    assert result.changed
    assert set(repo.files()) >= FILES | {"README.md"}


def test_no_repository(hub, report):
    with pytest.raises(hf_ess.HubError, match="--private or --public"):
        push_report(report, "me/new")
    assert "me/new" not in hub.repos


def test_a_namespace_of_others(hub, report):
    with pytest.raises(hf_ess.HubError, match="a repository of your own"):
        push_report(report, "you/new", private=True)


def test_public_is_not_private(hub, model, report):
    with pytest.raises(hf_ess.InvalidInputError, match="public already"):
        push_report(report, "me/model", private=True)
    assert commits_of(model) == []
    hidden = hub.repo("me/hidden", private=True)
    push_report(report, "me/hidden", private=False)
    assert hidden.private


@pytest.mark.parametrize(
    "name",
    ["datasets/me/data", "hf://spaces/me/page", "{hub}/datasets/me/data", "me/data", "me/page"],
)
def test_only_models(hub, report, name):
    repos = [hub.repo("me/data", repo_type="dataset"), hub.repo("me/page", repo_type="space")]
    with pytest.raises(hf_ess.InvalidInputError, match="repositories of models only"):
        push_report(report, name.format(hub=hub.url))
    assert [len(repo.commits) for repo in repos] == [1, 1]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("me/model/ess", {}, "Push to 'me/model'"),
        ("me//model", {}, "no repository of the Hub"),
        ("me/model", {"revision": "a" * 40}, "A commit cannot be changed"),
        ("me/model", {"revision": "next", "create_pr": True}, "not to 'next'"),
        ("me/model", {"token": "hf_secret\n"}, "characters that no token has"),
    ],
)
def test_arguments_are_checked_first(hub, report, name, options, said):
    with pytest.raises(hf_ess.InvalidInputError, match=said) as error:
        push_report(report, name, **options)
    assert "hf_secret" not in str(error.value)
    assert not hub.requests


# Tokens


def test_no_token(hub, model, report, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(hf_ess.HubError, match="hf auth login"):
        push_report(report, "me/model")
    assert not hub.requests


@pytest.mark.parametrize("create_pr", [False, True])
def test_a_token_that_may_only_read(hub, model, report, create_pr):
    reader = hub.user("me", role="read")
    with pytest.raises(hf_ess.HubError, match="the token may only read") as error:
        push_report(report, "me/model", token=reader.token, create_pr=create_pr)
    assert reader.token not in str(error.value)
    assert commits_of(model) == []


def test_a_wrong_token(hub, model, report):
    with pytest.raises(hf_ess.HubError, match="the token is wrong or has expired") as error:
        push_report(report, "me/model", token="hf_not_a_known_token")
    assert "hf_not_a_known_token" not in str(error.value)


def test_offline(hub, model, report, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(hf_ess.HubError, match="Unset HF_HUB_OFFLINE"):
        push_report(report, "me/model")
