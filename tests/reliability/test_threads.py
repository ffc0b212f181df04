"""Several threads: analyses of one model and of several, and a model that is used meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from analysis.model_state import state_of
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess.spectra.parallel import run_tasks

analyze = partial(hf_ess.analyze, progress=False)
FAMILIES = ("llama", "mamba")
PATIENCE = 300
LENGTH = 17


@pytest.fixture
def two_threads():
    """In every analysis, whose pools then get in each other's way where they can."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _together(*calls):
    """The results of calls that begin at once, each in a thread of its own."""
    begin = threading.Barrier(len(calls), timeout=PATIENCE)

    def run(call):
        begin.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(run, call) for call in calls]]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("family", FAMILIES)
def test_one_model_from_two_threads(family, tried):
    model = build_tiny(family)
    texts = [tiny_input_ids(model, length=length) for length in (LENGTH, LENGTH + 7)]
    alone = [analyze(model, text).fingerprint() for text in texts]
    before = state_of(model)
    reports = _together(*(partial(analyze, model, text) for text in texts))
    assert [report.fingerprint() for report in reports] == alone
    assert state_of(model) == before
    tried(
        "Many runs and threads",
        "Two threads analyse one model at once",
        "They take turns: each report is to the bit that of one alone; the model is as before",
        times=len(reports),
    )


@pytest.mark.filterwarnings("ignore:The model was in training mode")
def test_a_model_in_training_mode_from_two_threads(tried):
    """The first that ends must not switch dropout on for the other."""
    model = build_tiny("llama", attention_dropout=0.5)
    ids = tiny_input_ids(model, length=LENGTH)
    expected = analyze(model, ids).average_ess()
    model.train()
    reports = _together(*[partial(analyze, model, ids)] * 3)
    assert [report.average_ess() for report in reports] == [expected] * 3
    assert all(module.training for module in model.modules())
    tried(
        "Many runs and threads",
        "Threads analyse one model that is in training mode, with dropout",
        "Each measures it in evaluation mode; the mode is as before",
        times=len(reports),
    )


@pytest.mark.usefixtures("two_threads")
def test_different_models_in_a_pool(tried):
    models = [build_tiny(family) for family in (*FAMILIES, "bloom", "qwen3_next")]
    work = [partial(analyze, model, tiny_input_ids(model, length=LENGTH)) for model in models]
    alone = [call().fingerprint() for call in work]
    before = [state_of(model) for model in models]
    threads = torch.get_num_threads()
    found = [report.fingerprint() for report in _together(*work, *work)]
    assert found == alone * 2
    assert [state_of(model) for model in models] == before
    assert torch.get_num_threads() == threads
    tried(
        "Many runs and threads",
        "A pool of threads analyses different models at once",
        "Each report is to the bit that of one alone; models and number of threads as before",
        times=len(found),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_is_used_meanwhile(family, monkeypatch, tried):
    """At every layer and in every trial another thread runs the same model on another text."""
    model = build_tiny(family)
    ids, other = tiny_input_ids(model, length=LENGTH), tiny_input_ids(model, batch=2, length=13)
    expected = analyze(model, ids, positions=[5]).fingerprint()
    with torch.no_grad():
        logits = model(input_ids=other).logits
    found, main = [], threading.get_ident()
    last_norm = [module for name, module in model.named_modules() if "norm" in name][-1]
    runs = _runs_elsewhere(last_norm, monkeypatch)

    def use():
        with torch.no_grad():
            return model(input_ids=other).logits

    with ThreadPoolExecutor(1) as user:

        def meanwhile(_module, _args):
            if threading.get_ident() == main:
                found.append(user.submit(use).result(PATIENCE))

        inside = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
        handles = [module.register_forward_pre_hook(meanwhile) for module in inside[:2]]
        report = analyze(model, ids, positions=[5])
    for handle in handles:
        handle.remove()
    assert report.fingerprint() == expected
    assert len(found) >= 4
    assert all(torch.equal(one, logits) for one in found)
    assert len(runs) == len(found), "the trial asked a module in the thread of the user"
    tried(
        "Many runs and threads",
        "Another thread runs the model that is being analysed, on another text",
        "Its logits are the same to the bit, and it does not end up in the measurement",
        times=len(found),
    )


def _runs_elsewhere(module, monkeypatch):
    """Grows whenever a module runs in another thread than this one."""
    forward, here, runs = module.forward, threading.get_ident(), []

    def counted(*args):
        runs.extend([1] * (threading.get_ident() != here))
        return forward(*args)

    monkeypatch.setattr(module, "forward", counted)
    return runs


def test_hooks_that_come_and_go_under_a_running_model(tried):
    """A thread runs the model over and over while recordings are opened and closed."""
    model = build_tiny("mamba")
    ids = tiny_input_ids(model, length=9)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    over, wrong, runs = threading.Event(), [], []

    def use():
        with torch.no_grad():
            while not over.is_set():
                runs.append(1)
                if not torch.equal(model(input_ids=ids).logits, logits):
                    wrong.append(len(runs))

    seen = []
    with ThreadPoolExecutor(1) as pool:
        using = pool.submit(use)
        try:
            for _ in range(100):
                with hf_ess.record_operators(model, seen.append):
                    pass
        finally:
            over.set()
        using.result(PATIENCE)
    assert (wrong, seen) == ([], [])
    tried(
        "Many runs and threads",
        "Recordings of a model are opened and closed while another thread runs it",
        "Every run of it gives the same logits to the bit, and none is recorded",
        times=100,
    )


def test_tasks_inside_of_tasks_do_not_wait_for_each_other():
    before, ran = torch.get_num_threads(), []
    torch.set_num_threads(8)
    try:
        run_tasks([lambda _: run_tasks([ran.append] * 3, 4)] * 4, 2)
    finally:
        torch.set_num_threads(before)
    assert len(ran) == 12
