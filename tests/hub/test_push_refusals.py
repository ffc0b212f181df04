"""What cannot be pushed: each error says what to do, shows no token, and nothing was changed."""

from __future__ import annotations

import pytest
from hub.pushing import CARD, REPO, whole_error
from huggingface_hub import constants
from report.synthetic import make_report

from hf_ess import HfEssError, HubError, InvalidInputError
from hf_ess.hub.push import push_report

pytestmark = pytest.mark.usefixtures("quick_plots", "hurried")


@pytest.fixture
def report():
    return make_report()


@pytest.fixture
def refused(hub, model, report):
    """The error of a push, after which every repository is as it was."""
    wrong = "hf_wrong_token_0123456789"

    def push(repo_id=REPO, **options):
        before = {path: list(repo.commits) for path, repo in hub.repos.items()}
        with pytest.raises(HfEssError) as error:
            push_report(report, repo_id, **options)
        shown = whole_error(error.value)
        assert not any(token in shown for token in (*hub.users, wrong))
        assert error.value.fix
        assert before == {path: repo.commits for path, repo in hub.repos.items()}
        assert not any(repo.discussions for repo in hub.repos.values())
        return error.value

    return push


both = pytest.mark.parametrize("create_pr", [False, True])


@both
@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_datasets_and_spaces(hub, refused, kind, create_pr):
    hub.repo("me/other", {"README.md": CARD}, repo_type=kind)
    names = ["me/other", f"{kind}s/me/other", f"https://huggingface.co/{kind}s/me/other"]
    for name in names:
        error = refused(name, create_pr=create_pr)
        assert isinstance(error, InvalidInputError)
        assert kind in str(error)
        assert "model" in error.fix


@both
@pytest.mark.parametrize("token", ["mine", "none"])
def test_a_missing_repository(hub, refused, monkeypatch, create_pr, token):
    if token == "none":
        monkeypatch.delenv("HF_TOKEN")
    error = refused("me/nothing", create_pr=create_pr)
    assert isinstance(error, HubError)
    assert ("me/nothing" in str(error)) or token == "none"
    assert "me/nothing" not in hub.repos


def test_a_private_repository_of_others(hub, refused):
    hub.repo("team/hidden", {"README.md": CARD}, private=True)
    assert "that you can see" in str(refused("team/hidden"))


def test_a_missing_branch(refused):
    assert "no branch 'nothing'" in str(refused(revision="nothing"))


@both
def test_a_gated_repository(hub, refused, create_pr):
    hub.repo("team/gated", {"README.md": CARD}, gated="manual")
    error = refused("team/gated", create_pr=create_pr)
    assert "gated" in str(error)
    assert "Ask for access" in error.fix


def test_a_gated_repository_of_ours(hub, report):
    repo = hub.repo("me/gated", {"README.md": CARD}, gated="auto")
    assert push_report(report, "me/gated").oid == repo.head()


@both
def test_no_token(refused, monkeypatch, create_pr):
    monkeypatch.delenv("HF_TOKEN")
    error = refused(create_pr=create_pr)
    assert "no token" in str(error) or "there is none" in str(error)
    assert "hf auth login" in error.fix


@both
def test_a_wrong_token(refused, create_pr):
    error = refused(token="hf_wrong_token_0123456789", create_pr=create_pr)
    assert "401" in str(error)
    assert "hf auth login" in error.fix


@both
def test_a_token_that_may_only_read(hub, refused, create_pr):
    error = refused(token=hub.user("me", role="read").token, create_pr=create_pr)
    assert "403" in str(error)
    assert "write" in error.fix
    assert "settings/tokens" in error.fix


@both
def test_a_fine_grained_token_for_something_else(hub, refused, create_pr):
    token = hub.user("me", role="fineGrained", scopes=["me/other"]).token
    assert "settings/tokens" in refused(token=token, create_pr=create_pr).fix


def test_a_fine_grained_token_for_this(hub, model, report):
    token = hub.user("me", role="fineGrained", scopes=[REPO]).token
    assert push_report(report, REPO, token=token).oid == model.head()


def test_a_repository_of_others(hub, refused):
    hub.repo("team/model", {"README.md": CARD})
    assert "--create-pr" in refused("team/model").fix


@both
def test_offline(refused, monkeypatch, create_pr):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused(create_pr=create_pr).fix


@pytest.mark.parametrize("token", ["", "hf_broken token", "hf_brök\nen"])
def test_a_token_that_cannot_be_one(refused, token):
    error = refused(token=token)
    assert "token" in error.what
    assert "hf_br" not in whole_error(error)


def test_metadata_that_the_hub_refuses(hub, refused):
    hub.repos[REPO].write("README.md", b"---\nlicense: mit\nlicense: apache-2.0\n---\n# A\n")
    error = refused()
    assert "duplicated mapping key" in str(error)
    assert "--no-card" in error.fix


@pytest.mark.parametrize("namespace", ["me", "team"])
def test_a_new_repository(hub, model, report, namespace):
    if namespace == "team":
        with pytest.raises(HubError, match="under the namespace") as error:
            push_report(report, "team/new", private=True)
        assert "repository of your own" in error.value.fix
        assert "team/new" not in hub.repos
        return
    assert push_report(report, "me/new", private=True, dry_run=True).changed
    assert "me/new" not in hub.repos
    push_report(report, "me/new", private=True)
    assert hub.repos["me/new"].private
    assert hub.repos["me/new"].files()["README.md"].startswith(b"---\n")
