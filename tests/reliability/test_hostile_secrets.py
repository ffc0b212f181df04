"""A planted token is nowhere but in the header that carries it to the Hub."""

from __future__ import annotations

import base64
import json
import logging

import pytest
from hub.conftest import clean_client, hub, quick_plots
from hub.jobs_server import JobsServer
from hub.local_server import serving
from hub.pushing import CARD, REPO
from huggingface_hub import constants
from report.synthetic import make_report
from tiny_checkpoints import save_llama, some_text

from hf_ess import ESSReport, HubError
from hf_ess.hub import push_report, read_report
from hf_ess.hub.answers import explained
from hf_ess.plain_text import safe_to_show
from hf_ess.progress import Progress

__all__ = ["clean_client", "hub", "quick_plots"]
PART = "Hostile input"
TOKEN = "hf_PlantedSecretOfNobody0123456789abc"
WORD = "an-ordinary-word-as-token"


@pytest.fixture
def planted(hub, monkeypatch):
    """The user of the stub Hub has that token."""
    hub.me = hub.user("me", token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.repo(REPO, {"README.md": CARD})
    return hub


@pytest.fixture
def everything(run_command, caplog):
    """Runs a command with all logs on; whatever could be seen of it."""

    def run(*arguments):
        caplog.clear()
        # Clients say most at this level, headers of requests among it.
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "huggingface_hub"):
            status, out, err = run_command(*arguments)
        return status, "\n".join([out, err, caplog.text, *map(repr, caplog.records)])

    return run


def files_of(folder):
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def told(seen: str | bytes) -> bool:
    data = seen.encode() if isinstance(seen, str) else seen
    return any(secret in data for secret in (TOKEN.encode(), base64.b64encode(TOKEN.encode())))


@pytest.mark.usefixtures("quick_plots")
def test_commands_that_talk_to_the_hub(planted, everything, tmp_path, tried):
    report = str(make_report(2).save(tmp_path / "report"))
    commands = [
        ("push", report, REPO, "--dry-run"),
        ("push", report, REPO),
        ("push", report, REPO, "--format", "json"),
        ("push", report, "me/missing", "--private"),
        ("compare", report, REPO),
        ("leaderboard", REPO, report, "--format", "csv"),
        ("card", report, "--repo", REPO),
        ("space", "push", "me/space", "--dry-run"),
        ("push", report, "you/other"),
        ("compare", "me/nothing", report),
        ("analyze", "me/model", "--text", "a b"),
        ("env",),
    ]
    statuses = [everything(*command) for command in commands]
    assert {status for status, _ in statuses} == {0, 1}
    assert not any(told(seen) for _, seen in statuses)
    assert any(request.authorization for request in planted.requests)
    sent = [data for repo in planted.repos.values() for data in repo.files().values()]
    assert sent
    assert not any(map(told, sent))
    tried(
        PART,
        "A token of the Hub is set, and every log is on: push, compare, leaderboard, card, space "
        "push, analyze, env, also refused ones",
        "It is in no output, log, error or file; only in the header of requests",
        times=len(commands),
    )


def test_reports_hold_no_token(monkeypatch, everything, tmp_path, tried):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = save_llama(tmp_path / "model")
    out = tmp_path / "out"
    status, seen = everything("analyze", folder, "--text", some_text(6), "--out", out)
    assert status == 0
    assert not told(seen)
    assert not told(files_of(out))
    assert not told(json.dumps(ESSReport.load(out).to_dict()))
    tried(PART, "A token is set while a model is measured", "It is not in the report or its plots")


def test_jobs_are_told_of_without_it(clean_client, monkeypatch, everything, tried):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(JobsServer()) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        status, seen = everything("analyze", "org/model", "--job", "cpu-basic", "--text", "a b")
    assert status == 0, seen
    assert not told(seen)
    tried(PART, "A job of the Hub is started", "Its token goes as a secret, and is not shown")


@pytest.mark.parametrize(
    "use", [read_report, lambda name, token: push_report(_report(), name, token=token)]
)
@pytest.mark.parametrize("token", [TOKEN, f"{TOKEN} x", f"{TOKEN}\n"])
def test_tokens_that_are_passed(hub, use, token, caplog, tried):
    with caplog.at_level(logging.DEBUG), pytest.raises(Exception) as caught:  # noqa: PT011 - any
        use("you/nothing", token=token)
    error = caught.value
    while error is not None:
        assert not told(str(error))
        error = error.__cause__ or error.__context__
    assert not told(caplog.text)
    tried(PART, "A token is passed in Python, and refused", "It is in no error and in no cause")


def _report():
    return make_report(1)


@pytest.mark.parametrize(
    "said",
    [
        f"Illegal header value b'Bearer {TOKEN}'",
        f"Bearer {WORD}",
        f"cannot reach https://jane:{WORD}@hub.example:8443/api",
        f"cannot reach https://jane:p@ss:{WORD}@hub.example/x",
        f"token {TOKEN}, again {TOKEN}.",
        f"401 for {WORD}",
        "hf_oauth_eyJhbGciOi.eyJzdWIi-_x.sig and hf_jwt_eyJhbGciOi.eyJzdWIi-_x.sig",
    ],
)
def test_what_servers_and_proxies_say(said, monkeypatch, tried):
    monkeypatch.setenv("HF_TOKEN", WORD)
    with pytest.raises(HubError) as caught, explained("Nothing was sent"):
        raise HubError(f"Nothing was sent: {said}", causes=[said], fix=said)
    for shown in (str(caught.value), safe_to_show(said), repr(caught.value)):
        assert not told(shown)
        assert WORD not in shown
        assert "eyJ" not in shown
    tried(PART, "A server or a proxy repeats a token or a password in its answer", "It is hidden")


def test_progress_names_layers_only():
    assert set(Progress.__dataclass_fields__) == {"done", "total", "layer", "text", "seconds"}
