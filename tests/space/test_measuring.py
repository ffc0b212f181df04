"""A visitor's measurement gives the numbers of `analyze`, tells how far it is, and can end."""

from __future__ import annotations

import gc
import pickle
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from analysis.model_state import state_of
from tiny_checkpoints import save_llama, some_text

import hf_ess
from hf_ess.errors import CancelledError, InvalidInputError, InvalidTypeError, LimitError
from hf_ess.space import models_in_use
from hf_ess.space.catalog import Catalog, CatalogModel
from hf_ess.space.limits import Limits
from hf_ess.space.measuring import Measurer, Request, Step, stream

TEXT = some_text(40)


def measurer_of(*folders, **limits):
    return Measurer(Catalog(Limits(**limits), [str(folder) for folder in folders]), device="cpu")


@pytest.fixture(scope="module")
def measurer(llama_folder):
    return measurer_of(llama_folder)


@pytest.fixture
def request_of(llama_folder):
    def make(text=TEXT, **options):
        return Request(llama_folder.name, text, **options)

    return make


ARRAYS = (
    "entropy_ess", "singular_values", "capacity", "attainable_by_group", "error_bound", "residual",
    "largest_singular_value", "entropy_half_width",
)  # fmt: skip


def assert_equal_numbers(report, expected):
    assert report.tolerances == expected.tolerances
    assert report.scope == expected.scope
    np.testing.assert_array_equal(report.positions, expected.positions)
    assert report.samples[0].tokens == expected.samples[0].tokens
    assert report.samples[0].text_sha256 == expected.samples[0].text_sha256
    for layer, other in zip(report.layers, expected.layers, strict=True):
        assert (layer.name, layer.verified) == (other.name, other.verified)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(layer, name), getattr(other, name))
        for tolerance in report.tolerances:
            for name in ("tolerance_ess", "undecided", "below_floor"):
                one, two = (getattr(x, name)[tolerance] for x in (layer, other))
                np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "options",
    [{}, {"positions": 7, "tolerances": (0.3, 1e-4)}, {"positions": [3, 11], "scope": "core"}],
    ids=["defaults", "stride", "list"],
)
def test_the_numbers_are_those_of_analyze(measurer, request_of, llama_folder, options):
    report = measurer.measure(request_of(**options))
    expected = hf_ess.analyze(
        llama_folder,
        TEXT,
        progress=False,
        keep_singular_values=True,
        **({"positions": "all"} | options),
    )
    assert_equal_numbers(report, expected)
    exact = hf_ess.analyze(
        llama_folder, TEXT, progress=False, accuracy="exact", **({"positions": "all"} | options)
    )
    for layer, other in zip(report.layers, exact.layers, strict=True):
        np.testing.assert_array_equal(layer.entropy_ess, other.entropy_ess)


def test_the_numbers_of_a_gguf_file(gguf_file):
    text = "he said that he heard her there and then he left the house"
    report = measurer_of(gguf_file).measure(Request(gguf_file.name, text))
    expected = hf_ess.analyze(
        gguf_file, text, positions="all", progress=False, keep_singular_values=True
    )
    assert_equal_numbers(report, expected)


def test_the_report_can_travel_and_names_no_path(measurer, request_of, llama_folder):
    report = measurer.measure(request_of())
    again = pickle.loads(pickle.dumps(report))
    assert again.fingerprint() == report.fingerprint()
    assert report.provenance["model"] == llama_folder.name
    assert str(llama_folder.parent) not in repr(report.provenance) + repr(report.warnings)


def test_steps_count_layers_and_estimate_the_rest(llama_folder):
    measurer, steps = measurer_of(llama_folder), []
    measurer.measure(Request(llama_folder.name, TEXT), steps.append)
    assert [(step.stage, step.done, step.total) for step in steps] == [
        ("loading", 0, 0), ("measuring", 0, 0), ("measuring", 1, 2), ("measuring", 2, 2)
    ]  # fmt: skip
    assert [step.remaining for step in steps[:2]] == [None, None]
    assert steps[2].remaining == steps[2].seconds
    assert steps[3].remaining == 0
    assert steps[3].layer == "model.layers.1.self_attn"
    steps.clear()
    measurer.measure(Request(llama_folder.name, TEXT), steps.append)
    assert [step.stage for step in steps] == ["measuring"] * 4


@pytest.mark.parametrize("at", [0, 1])
def test_a_cancelled_measurement_leaves_the_model_as_it_was(llama_folder, at):
    measurer = measurer_of(llama_folder)
    wanted = Request(llama_folder.name, TEXT)
    expected = measurer.measure(wanted)
    model = measurer.models.get(measurer.catalog.found(llama_folder.name)).model
    before = state_of(model)
    cancel, steps = threading.Event(), []

    def on_step(step):
        steps.append(step)
        if step.done == at:
            cancel.set()

    with pytest.raises(CancelledError, match="was cancelled"):
        measurer.measure(wanted, on_step, cancel)
    assert steps[-1].done == at
    assert state_of(model) == before
    assert measurer.measure(wanted).fingerprint() == expected.fingerprint()


def test_a_measurement_that_takes_too_long_ends(llama_folder, monkeypatch):
    measurer = measurer_of(llama_folder, seconds=1)
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr("hf_ess.progress.time.perf_counter", lambda: next(clock))
    with pytest.raises(LimitError, match=r"longer than 1 seconds: 1 of 2 layers") as refused:
        measurer.measure(Request(llama_folder.name, TEXT))
    assert "Shorten the text" in str(refused.value)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"text": ""}, InvalidInputError, "There is no text"),
        ({"text": "w3"}, InvalidInputError, "1 token"),
        ({"text": some_text(600)}, LimitError, "takes 100"),
        ({"scope": "everything"}, InvalidInputError, "Unknown scope"),
        ({"tolerances": ()}, InvalidInputError, "at least one tolerance"),
        ({"tolerances": ("a",)}, InvalidTypeError, "must be numbers"),
        ({"tolerances": [10**-n for n in range(11)]}, LimitError, "takes 10"),
        ({"positions": [99]}, InvalidInputError, "Position 99 is out of range"),
        ({"positions": "some"}, InvalidInputError, "Unknown positions"),
        ({"positions": "all"}, LimitError, "39 positions are asked for; this server measures 20"),
    ],
)
def test_what_cannot_be_measured_is_refused(llama_folder, options, error, said):
    measurer = measurer_of(llama_folder, tokens=100, positions=20)
    with pytest.raises(error, match=said):
        measurer.measure(Request(llama_folder.name, **({"text": TEXT} | options)))


def test_a_megabyte_is_refused_before_it_is_split(llama_folder, monkeypatch):
    measurer = measurer_of(llama_folder)
    monkeypatch.setattr(measurer.models, "get", pytest.fail)
    with pytest.raises(LimitError, match="characters"):
        measurer.measure(Request(llama_folder.name, "w3 " * 2**19))


def test_code_of_a_checkpoint_is_never_run(tmp_path):
    folder = save_llama(tmp_path / "model")
    config = (folder / "config.json").read_text()
    remote = '"auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},'
    foreign = config.replace('"model_type": "llama"', '"model_type": "own"')
    (folder / "config.json").write_text(foreign.replace("{", "{" + remote, 1))
    (folder / "code.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(hf_ess.ModelLoadError, match="never run here") as refused:
        measurer_of(folder).measure(Request("model", TEXT))
    assert "trust_remote_code" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_errors_of_local_models_name_no_path(tmp_path):
    folder = save_llama(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(hf_ess.ModelLoadError, match="model cannot be loaded") as refused:
        measurer_of(folder).measure(Request("model", TEXT))
    assert str(tmp_path) not in str(refused.value)


def test_a_model_without_tokenizer_is_refused(tmp_path):
    folder = save_llama(tmp_path / "model")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InvalidInputError, match="has no tokenizer"):
        measurer_of(folder).measure(Request("model", TEXT))


def test_the_least_recent_model_makes_room(tmp_path):
    folders = [save_llama(tmp_path / name) for name in ("one", "two", "three")]
    measurer = measurer_of(*folders)
    entries = {entry.name: measurer.catalog.found(entry.name) for entry in measurer.catalog.models}
    used = measurer.models.get(entries["one"])
    assert used.bytes >= 4 * entries["one"].parameters
    measurer.models._kept.bytes_kept = 2 * used.bytes + 1000
    measurer.models.get(entries["two"])
    measurer.models.get(entries["one"])
    measurer.models.get(entries["three"])
    loaded = [name for name, entry in entries.items() if measurer.models.has(entry)]
    assert loaded == ["one", "three"]
    assert measurer.models.get(entries["one"]) is used


def test_a_model_that_made_room_is_freed(tmp_path):
    folders = [save_llama(tmp_path / name) for name in ("one", "two")]
    measurer = measurer_of(*folders, model_bytes=1)
    measurer.measure(Request("one", TEXT))
    alive = weakref.ref(measurer.models.get(measurer.catalog.found("one")).model)
    assert alive() is not None
    measurer.measure(Request("two", TEXT))
    gc.collect()
    assert alive() is None


def test_a_model_that_cannot_be_surveyed_is_explained_by_its_analysis(llama_folder, monkeypatch):
    def broken(*_):
        raise RuntimeError("no survey")

    monkeypatch.setattr(models_in_use, "survey", broken)
    measurer = measurer_of(llama_folder)
    report = measurer.measure(Request(llama_folder.name, TEXT))
    assert len(report.verified_layers) == 2


def test_a_download_for_which_there_is_no_room_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        "hf_ess.space.models_in_use.shutil.disk_usage", lambda _: SimpleNamespace(free=10**8)
    )
    models = models_in_use.ModelsInUse(10**9, "cpu")
    entry = CatalogModel("org/model", "org/model", parameters=10**9, revision="c0ffee")
    with pytest.raises(LimitError, match=r"has 0.1 GB free, org/model may need 4.0 GB"):
        models.get(entry)
    refs = tmp_path / "hub" / "models--org--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("c0ffee")
    with pytest.raises(hf_ess.ModelLoadError, match="cannot be loaded"):
        models.get(entry)


def test_measurements_run_one_at_a_time(measurer, request_of, monkeypatch):
    running, most = [], []
    original = measurer._measured

    def watched(*arguments):
        running.append(1)
        most.append(len(running))
        try:
            time.sleep(0.05)
            return original(*arguments)
        finally:
            running.pop()

    monkeypatch.setattr(measurer, "_measured", watched)
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(measurer.measure(request_of())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert len({report.fingerprint() for report in reports}) == 1


def test_one_that_waits_can_be_cancelled(measurer, request_of):
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    with measurer._turn, pytest.raises(CancelledError):
        measurer.measure(request_of(), cancel=cancel)


def test_a_stream_ends_with_the_report(measurer, request_of):
    *steps, report = stream(measurer, request_of())
    assert all(isinstance(step, Step) for step in steps)
    assert steps[-1].done == steps[-1].total == 2
    assert report.fingerprint() == measurer.measure(request_of()).fingerprint()
    assert pickle.loads(pickle.dumps(steps)) == steps


def test_a_stream_raises_what_the_measurement_raises(measurer, request_of):
    with pytest.raises(InvalidInputError, match="There is no text"):
        list(stream(measurer, request_of(text=" ")))


def test_a_stream_that_is_closed_cancels(measurer, request_of):
    cancel = threading.Event()
    steps = stream(measurer, request_of(text=some_text(90)), cancel)
    assert next(steps).stage == "measuring"
    steps.close()
    assert cancel.is_set()
    assert not any(thread.name == "hf_ess measurement" for thread in threading.enumerate())
    assert measurer.measure(request_of()).complete
