"""A stub Hub for each test, which the real client takes for the Hub."""

from __future__ import annotations

import re

import pytest
from hub.local_server import serving
from hub.stub_hub import StubHub
from hub.stub_xet import XetStorage
from huggingface_hub import constants
from huggingface_hub.utils import _http, close_session


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


@pytest.fixture
def xet(hub, monkeypatch, tmp_path):
    """The client uses `hf_xet` for large files, as it does for users, and the Hub knows of it."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.xet = XetStorage(tmp_path / "xet")
    return hub.xet
