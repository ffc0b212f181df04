"""One job runs, some wait in order, each user has one, and nothing is lost."""

from __future__ import annotations

import threading
import time

import pytest

from hf_ess.errors import CancelledError, LimitError
from hf_ess.space import jobs as jobs_module
from hf_ess.space.jobs import Jobs, Waiting
from hf_ess.space.limits import Limits


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(jobs_module, "TELLS_EVERY", 0.02)


class Visitor(threading.Thread):
    """Enters the queue, works until it is released, and notes what happened."""

    def __init__(self, jobs, user):
        super().__init__()
        self.jobs, self.user = jobs, user
        self.waits, self.error = [], None
        self.running, self.release = threading.Event(), threading.Event()

    def run(self):
        try:
            with self.jobs.entered(self.user, self.waits.append):
                self.running.set()
                self.release.wait(10)
        except (CancelledError, LimitError) as error:
            self.error = error


@pytest.fixture
def visit():
    visitors = []

    def start(jobs, user):
        visitor = Visitor(jobs, user)
        visitors.append(visitor)
        before = len(jobs)
        visitor.start()
        until(lambda: len(jobs) > before or not visitor.is_alive())
        return visitor

    yield start
    for visitor in visitors:
        visitor.jobs.cancel(visitor.user)
        visitor.release.set()
        visitor.join()


def until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_jobs_run_one_after_the_other_in_order(visit):
    jobs = Jobs(Limits())
    first, second, third = (visit(jobs, name) for name in "abc")
    assert first.running.wait(5)
    until(lambda: second.waits and third.waits)
    assert (second.waits[-1], third.waits[-1]) == (Waiting(1, None), Waiting(2, None))
    assert not second.running.is_set()
    first.release.set()
    assert second.running.wait(5)
    until(lambda: third.waits[-1].ahead == 1)
    assert not third.running.is_set()
    second.release.set()
    assert third.running.wait(5)
    third.release.set()
    until(lambda: len(jobs) == 0)


def test_a_user_has_one_job(visit):
    jobs = Jobs(Limits())
    visit(jobs, "a")
    again = visit(jobs, "a")
    until(lambda: again.error)
    assert isinstance(again.error, LimitError)
    assert "You have 1 measurement(s) here already" in str(again.error)
    assert "cancel it" in str(again.error)
    assert len(jobs) == 1
    other = visit(jobs, "b")
    assert other.error is None


def test_a_full_queue_says_its_length(visit):
    jobs = Jobs(Limits(queue=2))
    for name in "abc":
        visit(jobs, name)
    refused = visit(jobs, "d")
    until(lambda: refused.error)
    assert "3 measurements run or wait; this server lets 2 wait" in str(refused.error)
    assert "Try again" in str(refused.error)


def test_the_wait_is_estimated_from_earlier_jobs(visit):
    jobs = Jobs(Limits())
    jobs._durations.extend([8.0, 12.0])
    first, second, third = (visit(jobs, name) for name in "abc")
    assert first.running.wait(5)
    until(lambda: second.waits and third.waits)
    assert 5 < second.waits[-1].seconds <= 10
    assert 15 < third.waits[-1].seconds <= 20
    first.release.set()
    assert second.running.wait(5)
    until(lambda: len(jobs._durations) == 3)


def test_a_waiting_job_can_be_cancelled_and_the_others_go_on(visit):
    jobs = Jobs(Limits())
    first, second, third = (visit(jobs, name) for name in "abc")
    assert jobs.cancel("b") == 1
    until(lambda: second.error)
    assert isinstance(second.error, CancelledError)
    assert not second.running.is_set()
    assert jobs.cancel("nobody") == 0
    first.release.set()
    assert third.running.wait(5)


def test_cancelling_a_running_job_sets_its_event():
    jobs = Jobs(Limits())
    with jobs.entered("a") as job:
        assert jobs.waiting(job) == Waiting(0, 0.0)
        jobs.cancel("a")
        assert job.cancel.is_set()
    assert len(jobs) == 0
    assert not jobs._durations


def test_a_job_that_fails_lets_the_next_one_in():
    jobs = Jobs(Limits())

    def fail():
        with jobs.entered("a"):
            raise KeyError("failed")

    with pytest.raises(KeyError):
        fail()
    with jobs.entered("a") as job:
        assert jobs.waiting(job).ahead == 0


def test_twenty_at_once_are_all_served(visit):
    jobs = Jobs(Limits())
    visitors = [visit(jobs, f"user {number}") for number in range(20)]
    for visitor in visitors:
        visitor.release.set()
    for visitor in visitors:
        visitor.join(10)
    assert all(visitor.running.is_set() for visitor in visitors)
    assert [visitor.error for visitor in visitors] == [None] * 20
    assert len(jobs) == 0
