"""Many analyses in a row: nothing grows, and nothing is left."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from functools import partial

import psutil
import pytest
import torch
from analysis.model_state import state_of
from tiny_models import build_tiny, tiny_input_ids

import hf_ess
from hf_ess.analysis import turns
from model_adapters import patching, recording

analyze = partial(hf_ess.analyze, progress=False)
# `make endurance` asks for more.
RUNS = int(os.environ.get("HF_ESS_ENDURANCE_RUNS", "100"))
# Allocators and lazy imports of the first runs.
WARM_UP = 20
FAMILIES = ("llama", "mamba", "bloom")
# A model of 2 MiB that each run kept would make a hundred times that.
MOST_GROWTH = 24 * 2**20


def _counted():
    """What must not grow."""
    gc.collect()
    process = psutil.Process()
    # Asking things themselves for their class wakes up what is deprecated.
    kinds = [type(thing) for thing in gc.get_objects()]
    return {
        "tensors": sum(issubclass(kind, torch.Tensor) for kind in kinds),
        "modules": sum(issubclass(kind, torch.nn.Module) for kind in kinds),
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "threads of Python": threading.active_count(),
        "children": len(process.children(recursive=True)),
        "patched functions": len(patching._patches),
        "switches": len(patching._off),
        "recordings": len(recording._open),
        "turns": len(turns._turns),
    }


class Failure(Exception):  # noqa: N818 - not an error of the package
    """What a model raises in this test."""


def _fail(_module, args):
    if args[0].shape[1] > 13:
        raise Failure


def _analyse(model, number):
    """One analysis of some kind; every seventh fails in the middle."""
    ids = tiny_input_ids(model, length=15 + number % 3, seed=number)
    if number % 7:
        return analyze(model, ids, positions=[3, 8]).average_ess()
    norm = [module for name, module in model.named_modules() if "norm" in name][-1]
    handle = norm.register_forward_pre_hook(_fail)
    with pytest.raises(Failure):
        analyze(model, ids, positions=[3])
    handle.remove()
    return None


def test_runs_in_a_row(tried):
    models = [build_tiny(family, num_hidden_layers=1) for family in FAMILIES]
    before = [state_of(model) for model in models]
    found = []
    for number in range(RUNS + WARM_UP):
        if number == WARM_UP:
            counted, memory = _counted(), psutil.Process().memory_info().rss
        found.append(_analyse(models[number % len(models)], number))
    grown = psutil.Process().memory_info().rss - memory
    # What earlier tests left may go meanwhile.
    assert {name: count for name, count in _counted().items() if count > counted[name]} == {}
    assert grown < MOST_GROWTH
    assert [state_of(model) for model in models] == before
    # The first analyses again: what came between has changed nothing.
    assert [_analyse(models[number % len(models)], number) for number in range(3)] == found[:3]
    tried(
        "Many runs and threads",
        "Analyses in a row of three models in turn; every seventh fails in the middle",
        "No more tensors, modules, files, threads, processes or patched functions than before; "
        f"memory grew by less than {MOST_GROWTH // 2**20} MiB; the first results come again",
        times=RUNS,
    )


def test_models_that_come_and_go(tried):
    """Nothing keeps a model alive that was analysed, nor its report once it is forgotten."""
    gone, runs, before = [], RUNS // 10, _counted()
    for number in range(runs):
        model = build_tiny(FAMILIES[number % len(FAMILIES)], num_hidden_layers=1)
        _analyse(model, number)
        report = analyze(model, tiny_input_ids(model, length=15), positions=[3])
        gone += [weakref.ref(model), weakref.ref(report), weakref.ref(report.layers[0])]
        del model, report
    assert {name: count for name, count in _counted().items() if count > before[name]} == {}
    assert not [reference for reference in gone if reference() is not None]
    tried(
        "Many runs and threads",
        "A new model is analysed and forgotten, again and again",
        "Models and reports are gone from memory",
        times=runs,
    )
