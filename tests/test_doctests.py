"""Every example in a docstring gives what it says."""

from __future__ import annotations

import doctest
import pkgutil
import warnings
from importlib import import_module

import pytest

import hf_ess
import model_adapters

FEWEST_EXAMPLES = 60


def _modules():
    for package in (hf_ess, model_adapters):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield found.name


MODULES = sorted(_modules())


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failed, _ = doctest.testmod(module)
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = sum(
        len(test.examples) for name in MODULES for test in finder.find(import_module(name))
    )
    assert len(MODULES) > 40
    assert examples >= FEWEST_EXAMPLES
