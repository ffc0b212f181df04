"""The running page, asked by programs and by a real browser, for what nobody should get."""

from __future__ import annotations

import json
from urllib.parse import quote

import httpx
import pytest
import transformers.dynamic_module_utils as dynamic_modules
from gradio_client import Client
from gradio_client.exceptions import AppError
from reliability.hostile import NAME, Mark, edit_json
from report.synthetic import make_layer, make_report
from space.serving import running
from tiny_checkpoints import save_llama, some_text

from hf_ess import ModelLoadError
from hf_ess.space.catalog import CatalogModel
from hf_ess.space.limits import Limits
from hf_ess.space.models_in_use import ModelsInUse

PART = "Hostile input"
TEXT = some_text(12)
MODEL = NAME.replace("/", "|")[:100]
LIMITS = Limits(tokens=64, characters=2000)
OUTSIDE = [
    "../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "..",
    ".",
    "~",
    "a/../../b",
    "org/model\0",
    "https://evil.example/org/model",
    "org/model.gguf",
    "C:\\models",
    NAME,
    "x" * 5000,
]


@pytest.fixture(scope="module")
def mark(tmp_path_factory):
    return Mark(tmp_path_factory.mktemp("mark"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, mark):
    parent = tmp_path_factory.mktemp("models")
    with_code = save_llama(parent / "far")
    (with_code / "far.py").write_text(mark.module)
    code = {"model_type": "far", "auto_map": {"AutoConfig": "far.X"}, "trust_remote_code": True}
    edit_json(with_code / "config.json", **code)
    return [save_llama(parent / MODEL), with_code]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    layers = [
        make_layer(0, mixer=NAME, name=NAME, method=NAME, lengths=(20,)),
        make_layer(1, mixer=NAME, name=NAME, verified=False, reason=NAME, lengths=(20,)),
    ]
    report = make_report(layers, lengths=(20,), warnings=[NAME], provenance={"model": NAME})
    report.samples[0].tokens = [NAME] * 20
    report.save(folder / MODEL)
    return folder


@pytest.fixture(scope="module")
def served(folders, reports, tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    options = {"reports": (str(reports),), "any_model": True, "limits": LIMITS}
    with running(*folders, results=results, **options) as (app, url):
        yield app, url


@pytest.fixture(scope="module")
def client(served):
    client = Client(served[1], verbose=False, analytics_enabled=False)
    yield client
    client.close()


def said(client, **asked):
    """The words with which the page refuses."""
    with pytest.raises(AppError) as caught:
        client.predict(**({"text": TEXT} | asked), api_name="/analyze")
    return str(caught.value)


@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: ascii(name)[:30])
def test_models_that_are_none(client, name, tried):
    words = said(client, model=name)
    assert "is not the name of a model" in words
    assert "root:" not in words
    assert len(words) < 1000
    tried(
        PART,
        "A visitor names paths, addresses, null bytes or long words as a model, where any model of "
        "the Hub may be named",
        "Refused by the form of the name; no file is looked for",
    )


def test_code_of_a_model_never_runs_in_a_space(client, mark, folders, monkeypatch, tmp_path, tried):
    monkeypatch.setattr(dynamic_modules, "HF_MODULES_CACHE", str(tmp_path))
    words = said(client, model="far")
    assert "needs Python code of its own, which is never run here" in words
    assert str(folders[1].parent) not in words
    assert not mark.is_there
    tried(PART, "A model of a Space needs its own code, and asks to be trusted", "Refused, not run")


@pytest.mark.parametrize(
    "asked",
    [
        {"text": "w3 " * 1000},
        {"text": "w3 " * 100},
        {"text": "\0"},
        {"text": ""},
        {"positions": "all," * 1000},
        {"positions": "9" * 5000},
        {"positions": "__import__('os')"},
        {"tolerances": [0.1] * 10_000},
        {"tolerances": [float("1e-400")]},
        {"scope": "../../x"},
    ],
    ids=lambda asked: ascii(asked)[:30],
)
def test_requests_that_ask_for_too_much(client, folders, asked, tried):
    words = said(client, model=folders[0].name, **asked)
    assert "Traceback" not in words
    assert len(words) < 1000
    tried(PART, "A visitor's text, positions or tolerances are too much, or none", "A named error")


def test_files_of_the_server(served, folders, reports, tried):
    _, url = served
    wanted = [
        "/etc/passwd",
        str(folders[0] / "config.json"),
        str(next(reports.rglob("report.json"))),
        "../../../../etc/passwd",
        "http://127.0.0.1:1/",
    ]
    for path in wanted:
        answer = httpx.get(f"{url}gradio_api/file={quote(path)}")
        assert answer.status_code in (403, 404), path
    upload = httpx.post(f"{url}gradio_api/upload", files={"files": ("../../x", b"0" * 4096)})
    assert upload.status_code == 413
    tried(PART, "Files of the server are asked for, and one is sent", "Refused", times=6)


def test_a_browser_runs_nothing(served, open_context, tried):
    app, url = served
    page = open_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(f"{url}?view={NAME.replace('#', '%23')}&metric=<script>window.ran=1</script>")
    page.wait_for_selector("#hfess-measure")
    page.fill("#hfess-text textarea", f"{NAME} {TEXT}")
    page.click("#hfess-measure")
    page.wait_for_selector("#hfess-view .hfess-title")
    page.click("#hfess-card")
    page.locator("#hfess-section .cm-content").wait_for()
    page.get_by_role("tab", name="Gallery").click()
    page.locator("#hfess-gallery label").click()
    page.wait_for_function("key => location.href.includes(key)", arg=app.gallery.entries()[0].key)
    page.locator(".hfess-title", has_text="frac{").wait_for()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done()))")
    assert page.evaluate("window.ran") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("a[href*=evil], a[href^=javascript]").count() == 0
    tried(
        PART,
        "One hostile name as model, text, tokens, report, layers, link and card in a real browser",
        "Shown as text; no script ran, no link or image of it is on the page",
    )


def test_a_model_is_no_larger_than_the_hub_says(tmp_path, monkeypatch, tried):
    folder = save_llama(tmp_path / "model")
    edit_json(folder / "config.json", num_hidden_layers=40, intermediate_size=100_000)
    # As if it came from the Hub, which counts the numbers in its weights.
    entry = CatalogModel("org/model", str(folder), parameters=100_000)
    with pytest.raises(ModelLoadError, match="at most 100,200,000 are loaded here"):
        ModelsInUse(2**30, "cpu").get(entry)
    tried(PART, "A model of a Space declares more than its weights hold", "Refused, nothing built")


def test_the_page_holds_no_path(served, folders, tried):
    _, url = served
    shown = httpx.get(url).text + httpx.get(f"{url}config").text
    assert str(folders[0].parent) not in shown
    assert "<script>window.ran" not in shown
    assert json.loads(httpx.get(f"{url}config").text)
    tried(
        PART, "The page and its configuration are read", "No path of the server, no markup of names"
    )
