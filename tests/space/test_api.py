"""Programs and language models ask the running app; twenty at once, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from space.serving import ROOMY, running
from tiny_checkpoints import save_llama, some_text

import hf_ess
from hf_ess.space.limits import Limits
from hf_ess.space.measuring import Step

USERS = 20
TEXT = some_text(24)
MOST_GROWTH = 200 * 2**20
_clients: list[Client] = []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory):
    with running(folder, results=tmp_path_factory.mktemp("results")) as (app, url):
        yield app, url


@pytest.fixture
def client(served):
    return _client(served[1])


@pytest.fixture(autouse=True)
def clients_end():
    """Threads of clients would go on asking when the server is gone, in other tests."""
    yield
    with ThreadPoolExecutor(USERS) as pool:
        list(pool.map(Client.close, _clients))
    _clients.clear()


def _client(url):
    client = Client(url, verbose=False, analytics_enabled=False)
    _clients.append(client)
    return client


def _plain(value):
    """Fails for everything that is not JSON, NaN included."""
    return json.loads(json.dumps(value, allow_nan=False))


def test_models_say_what_can_be_asked(client):
    said = _plain(client.predict(api_name="/models"))
    assert [model["name"] for model in said["models"]] == ["tiny"]
    assert said["any_hub_model"] is False
    assert said["limits"]["tokens"] == ROOMY.tokens


def test_analyze_gives_the_numbers_of_analyze(client, folder):
    said = _plain(client.predict(model="tiny", text=TEXT, api_name="/analyze"))
    alone = hf_ess.analyze(folder, TEXT, accuracy="exact", progress=False).to_dict()
    for ours, theirs in zip(said["layers"], alone["layers"], strict=True):
        assert theirs["average_entropy_ess"] > 1
        assert {name: ours[name] for name in theirs} == theirs
    assert said["model"] == alone["model"]
    assert len(said["key"]) == 32


def test_progress_reaches_programs(served, monkeypatch):
    app, url = served
    heard = threading.Event()

    def slow(request, on_step, cancel):
        on_step(Step("measuring", done=1, total=2, seconds=3.0, remaining=3.0))
        assert heard.wait(60)
        return measure(request, on_step, cancel)

    measure = app.instrument._measure
    monkeypatch.setattr(app.instrument, "_measure", slow)
    job = _client(url).submit(model="tiny", text=some_text(60, seed=8), api_name="/analyze")
    try:
        _await(lambda: "Layer 1 of 2, about 3 s left" in _told(job))
    finally:
        heard.set()
    assert len(job.result()["key"]) == 32


def _told(job):
    return [each.desc for each in job.status().progress_data or []]


def test_compare_two_texts_or_two_results(client):
    first = client.predict(model="tiny", text=TEXT, api_name="/analyze")
    other = client.predict(model="tiny", text=some_text(24, seed=3), api_name="/analyze")
    by_key = _plain(client.predict(key_a=first["key"], key_b=other["key"], api_name="/compare"))
    by_text = client.predict(
        model_a="tiny", text_a=TEXT, text_b=some_text(24, seed=3), api_name="/compare"
    )
    assert by_key == _plain(by_text)
    assert by_key["keys"] == [first["key"], other["key"]]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"model": "../../etc/passwd"}, "not the name of a model"),
        ({"model": "/etc/passwd"}, "not the name of a model"),
        ({"model": "file:///etc/passwd"}, "not the name of a model"),
        ({"model": "org/other"}, "not among the models"),
        ({"model": "<script>"}, "not the name of a model"),
        ({"text": ""}, "no text"),
        ({"text": "w3 " * 2000}, "characters"),
        ({"positions": "1,x"}, "whole numbers"),
        ({"scope": "everything"}, "scope"),
        ({"tolerances": [-1.0]}, "positive"),
    ],
)
def test_what_cannot_be_measured_is_said(client, asked, says):
    with pytest.raises(AppError, match=says) as refused:
        client.predict(**({"model": "tiny", "text": TEXT} | asked), api_name="/analyze")
    assert "Traceback" not in str(refused.value)


def test_only_three_endpoints_are_public(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/analyze", "/compare", "/models"}
    parameters = [each["parameter_name"] for each in named["/analyze"]["parameters"]]
    assert parameters == ["model", "text", "positions", "tolerances", "scope"]


def test_twenty_users_at_once(tmp_path, folder):
    process = psutil.Process()
    limits = Limits(tokens=256, characters=4000, queue=USERS)
    with running(folder, results=tmp_path, limits=limits) as (app, url):
        with ThreadPoolExecutor(USERS) as pool:
            clients = list(pool.map(_client, [url] * USERS))
            _ = clients[0].predict(model="tiny", text=some_text(24, seed=99), api_name="/analyze")
            gc.collect()
            before = process.memory_info().rss

            def ask(number):
                text = some_text(24, seed=number)
                return clients[number].predict(model="tiny", text=text, api_name="/analyze")

            answers = list(pool.map(ask, range(USERS)))
        gc.collect()
        grown = process.memory_info().rss - before
        assert len(app.instrument.jobs) == 0
        for number, answer in enumerate(answers):
            request = app.instrument.report(answer["key"]).samples[0]
            assert " ".join(request.tokens).split() == some_text(24, seed=number).split()
        assert len({answer["key"] for answer in answers}) == USERS
    assert grown < MOST_GROWTH


def test_a_full_queue_says_so_and_one_user_has_one_job(tmp_path, folder):
    limits = Limits(tokens=256, characters=4000, queue=1)
    with running(folder, results=tmp_path, limits=limits) as (app, url):
        hold = threading.Event()

        def slow(request, on_step, cancel):
            hold.wait(60)
            return measure(request, on_step, cancel)

        measure, app.instrument._measure = app.instrument._measure, slow
        clients = [_client(url) for _ in range(3)]
        jobs = [
            clients[number].submit("tiny", some_text(20, seed=number), api_name="/analyze")
            for number in range(2)
        ]
        _await(lambda: len(app.instrument.jobs) == 2)
        with pytest.raises(AppError, match="lets 1 wait"):
            clients[2].predict("tiny", some_text(20, seed=5), api_name="/analyze")
        with pytest.raises(AppError, match="at a time for each of its users"):
            clients[1].predict("tiny", some_text(20, seed=6), api_name="/analyze")
        hold.set()
        assert len({job.result()["key"] for job in jobs}) == 2


def _await(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file=%2Fetc%2Fpasswd",
        "/file=/etc/passwd",
    ],
)
def test_no_path_leaves_the_allowed_folders(served, path):
    assert httpx.get(served[1].rstrip("/") + path).status_code in (403, 404)


def test_results_of_others_are_no_files(served, client):
    app, url = served
    key = client.predict(model="tiny", text=TEXT, api_name="/analyze")["key"]
    kept = app.instrument.store.folder / key / "report.json"
    assert kept.exists()
    assert httpx.get(f"{url}gradio_api/file={kept}").status_code == 403


@pytest.mark.parametrize(
    "asked",
    [
        *[None, 5, "x", [], {}, {"key": 5}],
        {"key": "../..", "layer": 0, "position": 1},
        {"key": "0" * 32, "layer": 0.5, "position": 1},
        {"key": "0" * 32, "layer": 0, "position": 1},
    ],
)
def test_cells_that_do_not_exist(served, asked):
    app, url = served
    (number,) = [
        block["id"] for block in app.demo.config["components"]
        if block["props"].get("elem_id") == "hfess-view"
    ]  # fmt: skip
    asking = {"data": asked, "component_id": number, "fn_name": "cell", "session_hash": "test"}
    answer = httpx.post(f"{url}gradio_api/component_server", json=asking)
    assert answer.status_code == 200
    assert set(answer.json()) == {"error"}


def test_tools_of_language_models(served, folder):
    pytest.importorskip("mcp", reason="pip install 'hf-ess[space]'")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def ask():
        async with (
            streamable_http_client(f"{served[1]}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            answer = await session.call_tool("analyze", {"model": "tiny", "text": TEXT})
            return tools, answer

    assert served[0].demo.mcp_error is None
    with ThreadPoolExecutor(1) as pool:  # in this thread the browser's loop may be running
        tools, answer = pool.submit(asyncio.run, ask()).result()
    assert {tool.name.split("_")[-1] for tool in tools} == {"analyze", "compare", "models"}
    (analyze,) = [tool for tool in tools if tool.name.endswith("analyze")]
    assert "effective state-size" in analyze.description
    assert "some hundred words" in analyze.inputSchema["properties"]["text"]["description"]
    said = json.loads(answer.content[0].text)
    assert len(said["key"]) == 32


def test_nothing_can_be_uploaded(served):
    upload = f"{served[1]}gradio_api/upload"
    answer = httpx.post(upload, files={"files": ("x.txt", b"more than one byte")})
    assert answer.status_code == 413
