"""Pushing again, and pushing at once: one commit where one is enough, and one pull request."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hub.pushing import CARD, REPO, WRITTEN, check_whole, fingerprint, open_proposals, ours
from hub.stub_repos import File
from huggingface_hub.utils import get_session
from report.synthetic import make_report

from hf_ess import HubError
from hf_ess.hub.pull_requests import TITLE
from hf_ess.hub.push import push_report

WRITERS = 8
PROCESSES = 3
LATER = "2031-01-01T00:00:00+00:00"

pytestmark = pytest.mark.usefixtures("quick_plots", "hurried")


@pytest.fixture
def report():
    return make_report()


def at_once(works):
    """Runs all at the same time; results and errors in their order."""

    def run(work):
        try:
            return work()
        except HubError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


@pytest.mark.parametrize("create_pr", [False, True])
def test_the_same_report_twice(hub, model, report, tmp_path, create_pr):
    first = push_report(report, REPO, create_pr=create_pr)
    count = len(model.commits)
    for again in (report, replace(report, created_at=LATER)):
        second = push_report(again, REPO, create_pr=create_pr)
        assert (second.changed, second.oid, second.paths) == (False, None, ())
        assert (second.pr_num, second.pr_url) == (first.pr_num, first.pr_url)
    assert (first.changed, set(first.paths)) == (True, WRITTEN)
    assert len(model.commits) == count
    assert len(model.pull_requests) == create_pr
    assert len(hub.asked("POST", "/commit/")) == 1
    check_whole(model.files("refs/pr/1" if create_pr else "main"), tmp_path)


def test_another_report(model, tmp_path):
    push_report(make_report(), REPO)
    second = push_report(make_report(seed=1), REPO)
    assert second.oid == model.head()
    assert len(ours(model)) == 2
    found = check_whole(model.files(), tmp_path)
    assert found.fingerprint() == fingerprint(make_report(seed=1))


def test_an_open_pull_request_is_updated(model, tmp_path):
    main = model.head()
    first = push_report(make_report(), REPO, create_pr=True)
    second = push_report(make_report(seed=1), REPO, create_pr=True)
    assert (first.pr_num, second.pr_num, second.pr_url) == (1, 1, first.pr_url)
    assert second.oid == model.head("refs/pr/1")
    assert model.head() == main
    assert open_proposals(model) == [1]
    check_whole(model.files("refs/pr/1"), tmp_path)


def test_a_closed_pull_request_is_left_alone(model, report):
    push_report(report, REPO, create_pr=True)
    model.change_status(1, "closed")
    closed = model.head("refs/pr/1")
    assert push_report(report, REPO, create_pr=True).pr_num == 2
    assert model.head("refs/pr/1") == closed
    assert open_proposals(model) == [2]


def test_a_merged_pull_request_is_left_alone(model, report, tmp_path):
    push_report(report, REPO, create_pr=True)
    model.merge(1)
    merged = model.head("refs/pr/1")
    assert not push_report(report, REPO, create_pr=True).changed
    assert len(model.pull_requests) == 1
    assert push_report(make_report(seed=1), REPO, create_pr=True).pr_num == 2
    assert model.head("refs/pr/1") == merged
    model.merge(2)
    check_whole(model.files(), tmp_path)


def test_pull_requests_of_others_are_left_alone(hub, model, report):
    """Ours is found among those of others and among other ones of ours, on whatever page."""
    model.propose({"a": File(b"a")}, author="somebody", message=TITLE)
    model.discuss("me", TITLE)
    for number in range(12):
        model.propose({"a": File(b"b")}, author="me", message=f"Proposal {number}")
    before = dict(model.refs)
    opened = push_report(report, REPO, create_pr=True)
    assert opened.pr_num == 15
    for number in range(12):
        model.propose({"a": File(b"b")}, author="me", message=f"Later proposal {number}")
    assert push_report(make_report(seed=1), REPO, create_pr=True).pr_num == 15
    assert {ref: model.refs[ref] for ref in before} == before


def test_a_repository_of_others_gets_a_pull_request(hub, report, tmp_path):
    repo = hub.repo("team/model", {"README.md": CARD})
    with pytest.raises(HubError, match="--create-pr"):
        push_report(report, "team/model")
    assert push_report(report, "team/model", create_pr=True).pr_num == 1
    assert push_report(make_report(seed=1), "team/model", create_pr=True).pr_num == 1
    assert [commit.author for commit in ours(repo)] == ["me", "me"]
    assert repo.files().keys() == {".gitattributes", "README.md"}


def test_a_branch(model, report, tmp_path):
    model.branch("next")
    main = model.head()
    assert push_report(report, REPO, revision="next").oid == model.head("next")
    assert not push_report(report, REPO, revision="next").changed
    assert model.head() == main
    check_whole(model.files("next"), tmp_path)


def test_writers_of_the_same_report(hub, model, report, tmp_path):
    """All look at the repository before any of them commits."""
    barrier = threading.Barrier(WRITERS)
    hub.before("POST", "/commit/", lambda: barrier.wait(30), times=WRITERS)
    ended = at_once([lambda: push_report(report, REPO)] * WRITERS)
    assert [result.changed for result in ended].count(True) == 1
    assert len(ours(model)) == 1
    check_whole(model.files(), tmp_path)


def test_the_client_is_left_as_it_was(hub, model):
    hub.fail("POST", "/commit/", 400)
    hub.fail("POST", "/commit/", 500, times=2)
    before = {kind: list(hooks) for kind, hooks in get_session().event_hooks.items()}
    ended = at_once([lambda s=s: push_report(make_report(seed=s), REPO) for s in range(4)])
    assert [isinstance(result, HubError) for result in ended].count(True) == 1
    assert get_session().event_hooks == before


@pytest.mark.parametrize("slow", [False, True])
def test_writers_of_different_reports(hub, model, tmp_path, slow):
    if slow:
        hub.delay = 0.05
    else:
        barrier = threading.Barrier(WRITERS)
        hub.before("POST", "/commit/", lambda: barrier.wait(30), times=WRITERS)
    reports = [make_report(seed=seed) for seed in range(WRITERS)]
    ended = at_once([lambda report=report: push_report(report, REPO) for report in reports])
    landed = {result.oid for result in ended if not isinstance(result, HubError)}
    assert landed == {commit.oid for commit in ours(model)}
    assert len(landed) + sum(isinstance(result, HubError) for result in ended) == WRITERS
    assert len(landed) > 1
    prints = set(map(fingerprint, reports))
    for commit in ours(model):
        found = check_whole(model.files(commit.oid), tmp_path)
        assert found.fingerprint() in prints
        prints.remove(found.fingerprint())


def test_writers_in_the_worst_weather(hub, model, tmp_path):
    """Nobody's report lands twice, and who was not told that it failed finds it in the history."""
    hub.delay = 0.01
    for when in ("unread", "landed", "answering"):
        hub.drop("POST", "/commit/", when, times=3)
    for status in (409, 412, 429, 500, 503):
        hub.fail("POST", "/commit/", status, times=2)
        hub.fail("POST", "/preupload/", status, times=1)
        hub.fail("GET", "/revision/", status, times=1)
    hub.drop("PUT", "/stored/", "landed", times=3)
    reports = [make_report(seed=seed) for seed in range(WRITERS)]
    ended = at_once([lambda report=report: push_report(report, REPO) for report in reports])
    landed = [result.oid for result in ended if not isinstance(result, HubError)]
    commits = {commit.oid: commit for commit in ours(model)}
    assert len(set(landed)) == len(landed) >= 1
    assert commits.keys() >= set(landed)
    found = [fingerprint(check_whole(model.files(oid), tmp_path)) for oid in commits]
    assert len(set(found)) == len(found)
    assert set(found) <= set(map(fingerprint, reports))


def test_writers_and_an_owner_who_edits(hub, model, tmp_path):
    """The owner adds a line before each of many commits: none of them is lost."""
    lines = iter(range(5))

    def edit():
        line = f"Line {next(lines)}\n"
        model.write(
            "README.md", lambda card: card.replace(b"# A model\n", b"# A model\n" + line.encode())
        )

    hub.before("POST", "/commit/", edit, times=5)
    ended = at_once([lambda s=s: push_report(make_report(seed=s), REPO) for s in range(4)])
    assert not any(isinstance(result, HubError) for result in ended)
    written = "".join(f"Line {number}\n" for number in reversed(range(5)))
    theirs = CARD.replace("# A model\n", f"# A model\n{written}")
    check_whole(model.files(), tmp_path, theirs)


def test_writers_of_pull_requests(hub, model, tmp_path):
    """However many open one at once, one stays open, and holds one of the reports."""
    barrier = threading.Barrier(WRITERS)
    hub.before("POST", "/commit/", lambda: barrier.wait(30), times=WRITERS)
    reports = [make_report(seed=seed) for seed in range(WRITERS)]
    ended = at_once(
        [lambda report=report: push_report(report, REPO, create_pr=True) for report in reports]
    )
    assert not any(isinstance(result, HubError) for result in ended)
    (stays,) = open_proposals(model)
    assert {result.pr_num for result in ended} == {stays}
    found = check_whole(model.files(f"refs/pr/{stays}"), tmp_path)
    assert found.fingerprint() in set(map(fingerprint, reports))


def test_a_second_pull_request_of_ours_is_closed(hub, model, report):
    """One that seemed to fail may be opened after all, when nobody waits for it any more."""
    push_report(report, REPO, create_pr=True)
    for _ in range(2):
        model.propose({"late": File(b"")}, author="me", message=TITLE)
    assert push_report(report, REPO, create_pr=True, dry_run=True).pr_num == 1
    assert open_proposals(model) == [1, 2, 3]
    assert push_report(report, REPO, create_pr=True).pr_num == 1
    assert open_proposals(model) == [1]
    assert "#1" in str(model.pull_requests[1].events)


def test_two_users_propose(hub, model, report, tmp_path):
    other = hub.user("other")
    works = [lambda: push_report(report, REPO, create_pr=True)]
    works += [lambda: push_report(report, REPO, create_pr=True, token=other.token)]
    assert {result.pr_num for result in at_once(works)} == {1, 2}
    assert {each.author for each in model.pull_requests} == {"me", "other"}


def test_processes(hub, model, tmp_path):
    for seed in range(PROCESSES):
        make_report(seed=seed).save(tmp_path / str(seed))
    program = (
        "import sys; from hf_ess import ESSReport; from hf_ess.hub.push import push_report; "
        f"print(push_report(ESSReport.load(sys.argv[1]), {REPO!r}).oid)"
    )
    environment = hub.environment(hub.me, PYTHONPATH=str(Path(__file__).parents[2]))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / str(seed))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(PROCESSES)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    assert not any(process.returncode for process in started), ended
    assert {stdout.strip() for stdout, _ in ended} == {commit.oid for commit in ours(model)}
    for commit in ours(model):
        check_whole(model.files(commit.oid), tmp_path)
