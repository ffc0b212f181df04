"""Where GPUs are lent, a measurement runs in a process of its own, and comes back whole."""

from __future__ import annotations

import pickle
import sys
import threading
import types

import numpy as np
import pytest
from tiny_checkpoints import save_llama, some_text

from hf_ess import CancelledError, InvalidInputError, LimitError
from hf_ess.space.catalog import Catalog
from hf_ess.space.gpu_loans import LONGEST_LOAN, lending_package, measure_on_loan
from hf_ess.space.limits import Limits
from hf_ess.space.measuring import Measurer, Request

TEXT = some_text(20)


@pytest.fixture(scope="module")
def measurer(tmp_path_factory):
    folder = save_llama(tmp_path_factory.mktemp("models") / "tiny")
    return Measurer(Catalog(Limits(), [str(folder)]), device="cpu")


@pytest.fixture
def lender(monkeypatch):
    """A stand-in for the package `spaces`: what it runs is only seen through a pickle."""
    package = types.ModuleType("spaces")
    package.loans, package.closed = [], []

    def gpu(duration):
        def lend(task):
            def lent(*arguments):
                package.loans.append(duration)
                steps = task(*pickle.loads(pickle.dumps(arguments)))
                try:
                    for step in steps:
                        yield pickle.loads(pickle.dumps(step))
                except Exception as error:
                    # Nothing but the name of an error comes out of a loan.
                    raise RuntimeError(type(error).__name__) from None
                finally:
                    package.closed.append(True)
                    steps.close()

            return lent

        return lend

    package.GPU = gpu
    monkeypatch.setitem(sys.modules, "spaces", package)
    return package


def test_elsewhere_it_is_the_measurer_itself(measurer, monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert lending_package() is None
    assert measure_on_loan(measurer) == measurer.measure
    # The folder of this name in our repository.
    monkeypatch.setitem(sys.modules, "spaces", types.ModuleType("spaces"))
    assert lending_package() is None


def test_the_report_and_the_steps_come_back(measurer, lender):
    steps = []
    report = measure_on_loan(measurer)(Request("tiny", TEXT), steps.append, None)
    alone = measurer.measure(Request("tiny", TEXT))
    np.testing.assert_array_equal(report.layers[1].entropy_ess, alone.layers[1].entropy_ess)
    assert [step.done for step in steps][-2:] == [1, 2]
    assert lender.loans == [LONGEST_LOAN]
    assert lender.closed == [True]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Request("tiny", ""), InvalidInputError),
        (Request("../etc", TEXT), InvalidInputError),
        (Request("tiny", TEXT * 10_000), LimitError),
    ],
)
def test_errors_keep_their_class_and_their_words(measurer, lender, request_, error):
    with pytest.raises(error) as alone:
        measurer.measure(request_)
    with pytest.raises(error) as lent:
        measure_on_loan(measurer)(request_, None, None)
    assert str(lent.value) == str(alone.value)
    assert lent.value.fix == alone.value.fix


def test_a_cancelled_loan_ends(measurer, lender):
    cancel = threading.Event()

    def told(step):
        cancel.set()

    with pytest.raises(CancelledError):
        measure_on_loan(measurer)(Request("tiny", TEXT), told, cancel)
    assert lender.closed == [True]
    report = measure_on_loan(measurer)(Request("tiny", TEXT), None, None)
    assert report.average_ess() == measurer.measure(Request("tiny", TEXT)).average_ess()


def test_what_comes_back_needs_no_device(measurer):
    report = measurer.measure(Request("tiny", TEXT))
    again = pickle.loads(pickle.dumps(report))
    assert again.fingerprint() == report.fingerprint()
    assert b"_rebuild_tensor" not in pickle.dumps(report)
