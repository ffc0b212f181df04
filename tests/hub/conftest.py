"""A stub Hub for each test, which the real client takes for the Hub."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hub.local_server import serving
from hub.pushing import CARD, REPO
from hub.stub_hub import StubHub
from hub.stub_xet import XetStorage
from huggingface_hub import constants
from huggingface_hub.utils import _http, close_session

from hf_ess import ESSReport
from hf_ess.hub import patience


@pytest.fixture
def clean_client(monkeypatch, tmp_path):
    """The client online, with a cache, a home and a session of this test, and without a token."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    # hf_xet would speak to a storage of its own; this way large files go over basic LFS.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    close_session()
    yield
    close_session()


@pytest.fixture
def hub(clean_client, monkeypatch):
    """A stub Hub with the user `me`, who is logged in; `hub.me` is that user."""
    with serving(StubHub()) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        # With it the client knows repositories by their address, which for the Hub is https.
        ours = re.compile(_http.REPO_API_REGEX.pattern.replace("https:", "https?:"), re.VERBOSE)
        monkeypatch.setattr(_http, "REPO_API_REGEX", ours)
        server.me = server.user("me")
        monkeypatch.setenv("HF_TOKEN", server.me.token)
        yield server
        # Connections of the client end before the server does, and its threads with them.
        close_session()
    assert server.troubles == []
    for request in server.requests:
        assert not any(token in request.target for token in server.users)
        assert request.authorization is None or "/stored/" not in request.target


@pytest.fixture
def xet(hub, monkeypatch, tmp_path):
    """The client uses `hf_xet` for large files, as it does for users, and the Hub knows of it."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.xet = XetStorage(tmp_path / "xet")
    return hub.xet


@pytest.fixture
def quick_plots(monkeypatch):
    """Plots that cost nothing; like real ones they are the same for the same numbers."""

    def draw(report, folder):
        paths = [Path(folder, f"{name}.png") for name in ("heatmap", "profile", "positions")]
        for path in paths:
            path.write_bytes(b"\x89PNG\0" + f"{path.name} {report.average_ess()}".encode())
        return paths

    monkeypatch.setattr(ESSReport, "plot_all", draw)


@pytest.fixture
def hurried(monkeypatch):
    """Pushes wait for hundredths of seconds where they would wait for seconds."""
    hurried = patience.Patience(first_wait=0.02, longest_wait=0.2)
    monkeypatch.setattr(patience, "PATIENCE", hurried)
    return hurried


@pytest.fixture
def impatient(hurried, monkeypatch):
    """Pushes that also give up soon on a Hub that says nothing; returns after how many seconds."""
    silence = 1
    monkeypatch.setattr(patience, "PATIENCE", replace(hurried, silence=silence))
    # Downloads have limits of their own.
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", silence)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", silence)
    return silence


@pytest.fixture
def model(hub):
    """A model of the user who is logged in, with a card."""
    return hub.repo(REPO, {"README.md": CARD})
