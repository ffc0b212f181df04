"""What goes wrong at the stub Hub goes wrong in the real client."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError

WRITERS = 8


@pytest.fixture
def api(hub):
    return HfApi()


@pytest.fixture
def model(hub):
    return hub.repo("me/model", {"README.md": "---\nlicense: mit\n---\n"})


def commit(api, path="a.txt", **options):
    operation = CommitOperationAdd(path, b"a")
    return api.create_commit("me/model", [operation], commit_message="Test", **options)


@pytest.mark.parametrize("status", [409, 412, 500, 503])
def test_a_status(hub, api, model, status):
    fault = hub.fail("POST", "/commit/", status)
    with pytest.raises(HfHubHTTPError) as error:
        commit(api)
    assert error.value.response.status_code == status
    assert len(fault.hits) == 1
    assert hub.asked("POST", "/commit/")[0].status == status
    assert "a.txt" not in model.files()
    commit(api)
    assert "a.txt" in model.files()


def test_a_rate_limit(hub, api, model):
    hub.fail("POST", "/preupload/", 429, times=1, headers={"Retry-After": "1"})
    commit(api)
    first, second = hub.asked("POST", "/preupload/")
    assert (first.status, second.status) == (429, 200)
    assert second.at - first.at > 1
    hub.fail("POST", "/commit/", 429, headers={"Retry-After": "7"})
    with pytest.raises(HfHubHTTPError) as error:
        commit(api, "b.txt")
    assert error.value.response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("late", [False, True])
def test_a_time_out(hub, api, model, late):
    hub.stall("GET", "/api/models", 30, late=late)
    with pytest.raises(HTTPError, match="timed out"):
        api.model_info("me/model", timeout=0.2)
    assert api.model_info("me/model", timeout=20).sha == model.head()


@pytest.mark.parametrize("when", ["unread", "landed", "answering"])
def test_a_dropped_connection(hub, api, model, when):
    hub.drop("POST", "/commit/", when)
    with pytest.raises(HTTPError):
        commit(api)
    assert ("a.txt" in model.files()) == (when != "unread")
    assert len(hub.asked("POST", "/commit/")) == 1


def test_somebody_is_faster(hub, api, model):
    hub.before("POST", "/commit/", lambda: model.write("README.md", lambda old: old + b"theirs"))
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        commit(api, parent_commit=model.head())
    assert model.files()["README.md"].endswith(b"theirs")
    assert "a.txt" not in model.files()


def test_writers_meet(hub, api, model):
    """All look at the same head before any of them commits: one lands."""
    barrier = threading.Barrier(WRITERS)
    hub.before("POST", "/commit/", lambda: barrier.wait(20), times=WRITERS)
    parent = model.head()

    def write(number):
        try:
            return commit(api, f"{number}.txt", parent_commit=parent).oid
        except HfHubHTTPError as error:
            return error.response.status_code

    with ThreadPoolExecutor(WRITERS) as pool:
        ended = sorted(pool.map(write, range(WRITERS)), key=str)
    assert ended.count(412) == WRITERS - 1
    assert model.head() in ended


def test_a_slow_hub(hub, api):
    hub.repo("me/model")
    hub.delay = 0.5
    began = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as pool:
        assert len(set(pool.map(lambda _: api.model_info("me/model").sha, range(WRITERS)))) == 1
    assert all(request.status == 200 for request in hub.requests)
    # Requests wait next to each other, and not one after the other.
    assert hub.delay < time.monotonic() - began < hub.delay * WRITERS
