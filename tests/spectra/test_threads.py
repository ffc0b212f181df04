"""Work is spread over threads, and torch is left as it was."""

from __future__ import annotations

import threading

import pytest
import torch
from spectra.causal_matrices import random_causal

from hf_ess.spectra import block_singular_values, engine
from hf_ess.spectra.parallel import run_tasks


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


def assert_restored():
    assert torch.get_num_threads() == 2
    assert threads_of_a_new_thread() == 2


def test_tasks_run_once_with_single_threads_inside():
    seen = []
    tasks = [lambda _, n=n: seen.append((n, torch.get_num_threads())) for n in range(20)]
    run_tasks(tasks, workers=2)
    assert sorted(seen) == [(n, 1) for n in range(20)]
    assert_restored()


@pytest.mark.parametrize("workers", [0, 1])
def test_one_worker_keeps_every_thread_inside(workers):
    seen = []
    run_tasks([lambda _: seen.append(torch.get_num_threads())] * 3, workers)
    assert seen == [2, 2, 2]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_drops_what_has_not_begun(workers, error):
    done = []

    def fail(_):
        raise error

    def wait(stop):
        stop.wait(timeout=5 if workers == 2 else 0)
        done.append(stop.is_set())

    with pytest.raises(error):
        run_tasks([fail, *[wait] * 50], workers)
    assert len(done) <= 2
    assert all(done)
    assert_restored()


def test_an_interrupt_of_the_caller_stops_the_work(monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_ess.spectra.parallel.wait", interrupted)
    done = []

    def task(stop):
        stop.wait(timeout=5)
        done.append(stop.is_set())

    with pytest.raises(KeyboardInterrupt):
        run_tasks([task] * 50, workers=2)
    assert len(done) <= 2
    assert all(done)
    assert_restored()


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_spectra_restore_the_threads(monkeypatch, error):
    if error is None:
        block_singular_values(torch.stack([random_causal(20)] * 4), "all")
    else:
        monkeypatch.setattr(engine, "region_of", lambda *_a, **_k: (_ for _ in ()).throw(error))
        with pytest.raises(error):
            block_singular_values(torch.stack([random_causal(20)] * 4), "all")
    assert_restored()


def test_a_tight_budget_works_with_fewer_threads():
    matrices = torch.stack([random_causal(20, seed) for seed in range(4)])
    request = engine.Request((3, 10, 15))
    loose = engine.dense_block_singular_values(matrices, request)
    tight = engine.dense_block_singular_values(matrices, request, memory_budget=1)
    torch.testing.assert_close(tight.values, loose.values)


def test_operators_together_agree_with_each_alone(monkeypatch):
    # On a GPU all operators are one task; the same code runs here.
    matrices = torch.stack([random_causal(21), 1e100 * random_causal(21, 1)])
    alone = block_singular_values(matrices, "all")

    def together(matrices, request, store):
        for half in (False, True):
            chosen = [n for n, i in enumerate(request.positions) if (2 * i > 21) == half]
            chosen = chosen[::-1] if half else chosen
            yield lambda stop, h=half, c=chosen: engine._solve_half(
                matrices, slice(None), c, h, request, store, stop
            )

    monkeypatch.setattr(engine, "_tasks", together)
    merged = block_singular_values(matrices, "all")
    scale = torch.tensor([1.0, 1e100], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(merged.values / scale, alone.values / scale)
    torch.testing.assert_close(merged.error_bound, alone.error_bound)
