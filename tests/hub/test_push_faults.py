"""The Hub fails, stalls and drops connections: a push lands once, or says that it did not."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest
from hub.pushing import CARD, REPO, WRITTEN, check_whole, open_proposals, ours, whole_error
from huggingface_hub import constants
from report.synthetic import make_report

from hf_ess import HubError
from hf_ess.hub import patience
from hf_ess.hub.push import push_report

ENDPOINTS = {
    "info": ("GET", r"/revision/main"),
    "paths": ("POST", r"/paths-info/"),
    "head of the card": ("HEAD", r"/resolve/.*README"),
    "card": ("GET", r"/resolve/.*README"),
    "preupload": ("POST", r"/preupload/"),
    "batch": ("POST", r"/objects/batch"),
    "storage": ("PUT", r"/stored/"),
    "verify": ("POST", r"/verify/"),
    "metadata": ("POST", r"/validate-yaml"),
    "commit": ("POST", r"/commit/"),
}
PROPOSING = {
    "user": ("GET", r"/whoami-v2"),
    "discussions": ("GET", r"/discussions"),
    "commit": ("POST", r"/commit/"),
}
STATUSES = [408, 429, 500, 502, 503, 504]

pytestmark = pytest.mark.usefixtures("quick_plots", "hurried")
everywhere = pytest.mark.parametrize("endpoint", ENDPOINTS)


@pytest.fixture
def report():
    return make_report()


@pytest.fixture
def nothing_changed(hub, model):
    """Afterwards the repository is as it was."""
    yield
    assert model.files().keys() == {".gitattributes", "README.md"}
    assert model.files()["README.md"].decode() == CARD
    assert len(model.commits) == 2
    assert not model.discussions


def check_landed_once(model, result, folder, *, theirs=CARD, revision="main"):
    (commit,) = ours(model)
    assert (result.changed, result.oid) == (True, commit.oid)
    assert set(result.paths) == WRITTEN
    assert result.card_diff
    assert result.commit_url.endswith(f"/{REPO}/commit/{commit.oid}")
    check_whole(model.files(revision), folder, theirs)


def refused(hub, report, **options):
    """The error of a push, which shows no token."""
    with pytest.raises(HubError) as error:
        push_report(report, REPO, **options)
    shown = whole_error(error.value)
    assert not any(token in shown for token in hub.users)
    assert error.value.fix
    return error.value


@everywhere
@pytest.mark.parametrize("status", [429, 500])
def test_a_refusal_that_passes(hub, model, report, tmp_path, endpoint, status):
    fault = hub.fail(*ENDPOINTS[endpoint], status, times=2)
    check_landed_once(model, push_report(report, REPO), tmp_path)
    assert len(fault.hits) == 2


@pytest.mark.parametrize("endpoint", PROPOSING)
@pytest.mark.parametrize("status", [429, 500])
def test_a_refusal_that_passes_while_proposing(hub, model, report, tmp_path, endpoint, status):
    fault = hub.fail(*PROPOSING[endpoint], status, times=2)
    result = push_report(report, REPO, create_pr=True)
    check_landed_once(model, result, tmp_path, revision="refs/pr/1")
    assert (len(fault.hits), open_proposals(model)) == (2, [1])


@pytest.mark.parametrize("status", STATUSES)
def test_refusals_that_pass(hub, model, report, tmp_path, status):
    hub.fail("POST", "/commit/", status)
    check_landed_once(model, push_report(report, REPO), tmp_path)


@pytest.mark.parametrize("endpoint", [each for each in ENDPOINTS if each != "verify"])
def test_a_hub_that_stays_broken(hub, model, nothing_changed, report, endpoint):
    """What was stored is there, so that nobody asks again whether it is: verifying is left out."""
    fault = hub.fail(*ENDPOINTS[endpoint], 500, times=10**6)
    assert "500" in str(refused(hub, report))
    assert len(fault.hits) < 20


@everywhere
def test_a_silence_that_passes(hub, model, report, tmp_path, endpoint, impatient):
    fault = hub.stall(*ENDPOINTS[endpoint], 60)
    began = time.monotonic()
    check_landed_once(model, push_report(report, REPO), tmp_path)
    assert time.monotonic() - began < 50
    assert len(fault.hits) == 1


def test_a_silent_hub(hub, nothing_changed, report, monkeypatch, hurried):
    brief = replace(hurried, silence=0.2, troubles=2)
    monkeypatch.setattr(patience, "PATIENCE", brief)
    hub.stall("POST", "/commit/", 60, times=10**6)
    began = time.monotonic()
    assert "cannot be reached" in str(refused(hub, report))
    assert time.monotonic() - began < 50


def test_an_answer_that_comes_too_late(hub, model, report, tmp_path, impatient):
    hub.stall("POST", "/commit/", 60, late=True)
    check_landed_once(model, push_report(report, REPO), tmp_path)
    assert len(hub.asked("POST", "/commit/")) == 1


# Half of the answer is sent where there is an answer to be cut.
@pytest.mark.parametrize(
    ("endpoint", "when"),
    [
        (endpoint, when)
        for endpoint in ENDPOINTS
        for when in ("unread", "landed", "answering")
        if when != "answering" or endpoint not in ("storage", "head of the card")
    ],
)
def test_a_connection_that_drops(hub, model, report, tmp_path, endpoint, when):
    fault = hub.drop(*ENDPOINTS[endpoint], when)
    check_landed_once(model, push_report(report, REPO), tmp_path)
    assert len(fault.hits) == 1


@pytest.mark.parametrize("endpoint", PROPOSING)
@pytest.mark.parametrize("when", ["unread", "landed", "answering"])
def test_a_connection_that_drops_while_proposing(hub, model, report, tmp_path, endpoint, when):
    fault = hub.drop(*PROPOSING[endpoint], when)
    result = push_report(report, REPO, create_pr=True)
    check_landed_once(model, result, tmp_path, revision="refs/pr/1")
    assert (result.pr_num, open_proposals(model)) == (1, [1])
    assert result.pr_url == f"{hub.url}/{REPO}/discussions/1"
    assert len(fault.hits) == 1
    assert model.files()["README.md"].decode() == CARD


@pytest.mark.parametrize("times", [1, 3])
def test_an_owner_who_is_faster(hub, model, report, tmp_path, times):
    lines = []

    def edit():
        lines.append(f"Line {len(lines)}\n")
        model.write("README.md", lambda card: card + lines[-1].encode())

    hub.before("POST", "/commit/", edit, times=times)
    result = push_report(report, REPO)
    (commit,) = ours(model)
    assert result.oid == commit.oid == model.head()
    assert [request.status for request in hub.asked("POST", "/commit/")] == [412] * times + [200]
    for line in lines:
        assert line in model.files()["README.md"].decode()


def test_an_owner_who_edits_after_a_commit_whose_answer_was_lost(hub, model, report):
    """The commit that is reported is ours, and not the newest one."""
    hub.drop("POST", "/commit/", "landed")

    def edit():
        if ours(model) and model.at().author == "me":
            model.write("a.txt", b"a", author="somebody")

    hub.before("GET", "/(revision|commits)/main", edit, times=10**6)
    result = push_report(report, REPO)
    (commit,) = ours(model)
    assert model.at().author == "somebody"
    assert (result.changed, result.oid) == (True, commit.oid)
    assert result.commit_url.endswith(commit.oid)


def test_a_report_that_replaces_ours_after_a_commit_whose_answer_was_lost(hub, model, report):
    """Ours has landed, and is not put back over the newer one."""
    hub.drop("POST", "/commit/", "landed")
    theirs = b'{"newer": true}'

    def replace_it():
        if model.at().author == "me" and ours(model):
            model.write("ess/report.json", theirs, author="somebody")

    hub.before("GET", "/(revision|commits)/main", replace_it, times=10**6)
    result = push_report(report, REPO)
    commit, newer = ours(model)
    assert (result.changed, result.oid) == (True, commit.oid)
    assert (newer.author, model.head()) == ("somebody", newer.oid)


def test_an_owner_who_deletes_the_card_meanwhile(hub, model, report, tmp_path):
    hub.before("POST", "/commit/", lambda: model.write("README.md", None))
    assert push_report(report, REPO).oid == model.head()
    assert "hf_ess:begin" in model.files()["README.md"].decode()
    assert "Its story" not in model.files()["README.md"].decode()


def test_a_request_that_was_given_up_lands_later(hub, model, report, impatient):
    """Whichever of the two is first, the other finds the branch elsewhere."""
    slow = hub.stall("POST", "/commit/", impatient + 0.3)
    result = push_report(report, REPO)
    end = time.monotonic() + 30
    while slow.hits[0].status is None and time.monotonic() < end:
        time.sleep(0.05)
    assert slow.hits[0].status in (200, 412)
    (commit,) = ours(model)
    assert (result.changed, result.oid) == (True, commit.oid)


@pytest.mark.parametrize("trouble", [500, 429, "unread", "landed", "answering"])
def test_a_new_repository(hub, report, tmp_path, trouble):
    name = ("POST", "/repos/create")
    fault = hub.drop(*name, trouble) if isinstance(trouble, str) else hub.fail(*name, trouble)
    result = push_report(report, "me/new", private=True)
    assert len(fault.hits) == 1
    repo = hub.repos["me/new"]
    assert repo.private
    assert [commit.oid for commit in ours(repo)] == [result.oid]


@pytest.mark.parametrize("status", [409, 412])
def test_conflicts_that_pass(hub, model, report, tmp_path, status):
    hub.fail("POST", "/commit/", status, times=3)
    check_landed_once(model, push_report(report, REPO), tmp_path)
    assert len(hub.asked("POST", "/commit/")) == 4


@pytest.mark.parametrize("status", [409, 412])
def test_conflicts_that_stay(hub, nothing_changed, report, status):
    fault = hub.fail("POST", "/commit/", status, times=10**6)
    assert str(status) in str(refused(hub, report))
    assert len(fault.hits) < 50


@pytest.mark.parametrize("endpoint", ["info", "preupload", "commit"])
@pytest.mark.parametrize("header", [("Retry-After", "1"), ("RateLimit", '"api";r=0;t=1')])
def test_a_rate_limit_is_waited_for(hub, model, report, tmp_path, endpoint, header):
    limited = hub.fail(*ENDPOINTS[endpoint], 429, times=2, headers=dict([header]))
    check_landed_once(model, push_report(report, REPO), tmp_path)
    for hit in limited.hits:
        following = [each.at - hit.at for each in hub.requests if each.at > hit.at]
        assert min(following) > 1


def test_a_rate_limit_without_end_is_told(hub, nothing_changed, report):
    hub.fail("POST", "/commit/", 429, headers={"Retry-After": "3600"})
    began = time.monotonic()
    assert "429" in str(refused(hub, report))
    assert time.monotonic() - began < 30
    assert len(hub.asked("POST", "/commit/")) == 1


def test_no_hub(hub, report, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert "the Hub cannot be reached" in str(refused(hub, report))


@pytest.mark.parametrize("storage", ["lfs", "xet"])
def test_large_arrays(hub, model, tmp_path, storage, request):
    if storage == "xet":
        request.getfixturevalue("xet")
    large = make_report(2, lengths=(600,) * 40, positions=range(1, 600, 8), groups=64)
    check_landed_once(model, push_report(large, REPO), tmp_path)
    arrays = model.tree()["ess/arrays.safetensors"]
    assert arrays.lfs
    assert len(arrays.content) > 10_000_000
    assert bool(hub.asked("PUT")) == (storage == "lfs")
    assert not push_report(large, REPO).changed
    assert set(ours(model)[0].changed) == WRITTEN


@pytest.mark.parametrize("when", ["unread", "landed"])
def test_large_arrays_over_a_bad_line(hub, model, tmp_path, when):
    large = make_report(2, lengths=(600,) * 40, positions=range(1, 600, 8), groups=64)
    hub.drop("PUT", "/stored/", when, times=2)
    check_landed_once(model, push_report(large, REPO), tmp_path)
