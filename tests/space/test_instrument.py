"""Requests get keys, keys open reports, and many visitors at once lose nothing."""

from __future__ import annotations

import threading

import pytest
from analysis.model_state import state_of
from report.synthetic import make_report
from tiny_checkpoints import save_llama, some_text

import hf_ess
from hf_ess.errors import CancelledError, InvalidInputError, LimitError, ReportError
from hf_ess.space.catalog import Catalog
from hf_ess.space.instrument import Instrument
from hf_ess.space.limits import Limits
from hf_ess.space.measuring import Measurer, Request
from hf_ess.space.results import ResultStore
from hf_ess.space.view import view

TEXT = some_text(30)


def instrument_of(store_folder, *models, elsewhere=None, **limits):
    catalog = Catalog(Limits(**limits), [str(folder) for folder in models])
    store = ResultStore(store_folder, catalog.limits.store_bytes)
    measurer = Measurer(catalog, device="cpu")
    return Instrument(catalog, store, measurer=measurer, elsewhere=elsewhere)


@pytest.fixture
def instrument(tmp_path, llama_folder):
    return instrument_of(tmp_path / "results", llama_folder)


@pytest.fixture
def request_of(llama_folder):
    def make(text=TEXT, **options):
        return Request(llama_folder.name, text, **options)

    return make


def count_measurements(instrument):
    """Counts from now on how often the instrument measures."""
    counted, original = [], instrument._measure

    def counting(*arguments):
        counted.append(arguments[0].text)
        return original(*arguments)

    instrument._measure = counting
    return counted


def test_the_same_request_is_measured_once(instrument, request_of):
    counted = count_measurements(instrument)
    key = instrument.measure(request_of(), "a")
    assert instrument.measure(request_of(), "b") == key == instrument.key(request_of())
    others = {
        instrument.measure(request_of(**options), "a")
        for options in ({"positions": 5}, {"tolerances": (0.5,)}, {"text": TEXT + " w9"})
    }
    assert len(others | {key}) == 4
    assert len(counted) == 4
    shown = instrument.view(key)
    assert shown == view(instrument.report(key), key=key)
    assert shown["tokens"][0] == TEXT.split()[0]
    assert len(instrument.cell(key, 1, 15)["groups"]) == shown["layers"][1]["groups"]


def test_links_open_after_a_restart_without_measuring(tmp_path, llama_folder, request_of):
    first = instrument_of(tmp_path / "results", llama_folder)
    key = first.measure(request_of(), "a")
    again = instrument_of(tmp_path / "results", llama_folder)
    counted = count_measurements(again)
    assert again.view(key) == first.view(key)
    assert again.measure(request_of(), "a") == key
    assert counted == []


def test_a_changed_model_is_measured_anew(tmp_path):
    folder = save_llama(tmp_path / "model")
    instrument = instrument_of(tmp_path / "results", folder)
    asked = Request("model", TEXT)
    key = instrument.measure(asked, "a")
    save_llama(folder, num_hidden_layers=3)
    assert instrument.measure(asked, "a") != key
    assert len(instrument.report(instrument.key(asked)).layers) == 3
    assert len(instrument.report(key).layers) == 2


def test_keys_that_open_nothing(instrument):
    with pytest.raises(ReportError, match="not kept any more"):
        instrument.view("0" * 32)
    with pytest.raises(InvalidInputError, match="does not name a result"):
        instrument.view("../../etc/passwd")
    with pytest.raises(InvalidInputError, match="does not name a result"):
        instrument.cell("", 0, 1)


def test_reports_of_a_gallery_open_by_their_keys(tmp_path, llama_folder):
    gallery = {"1" * 32: make_report()}
    instrument = instrument_of(tmp_path / "results", llama_folder, elsewhere=gallery.get)
    assert instrument.view("1" * 32)["title"] == "test/model"
    with pytest.raises(ReportError):
        instrument.view("2" * 32)


def test_a_user_who_measures_has_to_wait(instrument, request_of):
    with instrument.jobs.entered("a"), pytest.raises(LimitError, match="already"):
        instrument.measure(request_of(), "a")
    assert instrument.report(instrument.measure(request_of(), "a")).complete


def test_bad_requests_do_not_wait(instrument, request_of):
    with instrument.jobs.entered("somebody else"):
        for options, error in (
            ({"text": ""}, InvalidInputError),
            ({"text": "a" * 2**20}, LimitError),
        ):
            with pytest.raises(error):
                instrument.measure(request_of(**options), "a")
        with pytest.raises(InvalidInputError, match="not the name of a model"):
            instrument.measure(Request("../secret", TEXT), "a")


def test_a_cancelled_job_leaves_hooks_off_and_the_next_one_right(instrument, request_of):
    key = instrument.measure(request_of(), "a")
    numbers = instrument.view(key)
    model = instrument.measurer.models.get(instrument.catalog.models[0]).model
    before = state_of(model)

    def stop(step):
        if step.done == 1:
            assert instrument.jobs.cancel("a") == 1

    other = request_of(text=some_text(31, seed=5))
    with pytest.raises(CancelledError):
        instrument.measure(other, "a", on_step=stop)
    assert state_of(model) == before
    assert len(instrument.jobs) == 0
    assert instrument.store.get(instrument.key(other)) is None
    instrument.store.bytes_kept = 1  # so that the first result has to be measured again
    instrument.measure(other, "a")
    assert instrument.store.get(key) is None
    instrument.measure(request_of(), "a")
    assert instrument.view(key)["layers"] == numbers["layers"]


def test_twenty_visitors_at_once_lose_nothing(instrument, request_of):
    texts = [some_text(20 + number % 5, seed=number % 5) for number in range(20)]
    expected = {text: hf_ess.analyze(
        instrument.catalog.models[0].source, text, positions="all", accuracy="exact",
        progress=False,
    ) for text in set(texts)}  # fmt: skip
    counted = count_measurements(instrument)
    keys, failures = {}, []

    def visit(number):
        try:
            keys[number] = instrument.measure(request_of(text=texts[number]), f"user {number}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(counted) == sorted(set(texts))
    for number, key in keys.items():
        report = instrument.report(key)
        average = expected[texts[number]].average_ess()
        assert report.average_ess() == average
    assert len(keys) == 20
    assert len(instrument.jobs) == 0


def test_waiting_is_told(instrument, request_of):
    waits, entered, leave = [], threading.Event(), threading.Event()

    def occupy():
        with instrument.jobs.entered("first"):
            entered.set()
            leave.wait(10)

    def told(place):
        waits.append(place)
        leave.set()

    thread = threading.Thread(target=occupy)
    thread.start()
    entered.wait(10)
    instrument.measure(request_of(), "second", on_wait=told)
    thread.join()
    assert waits[0].ahead == 1
