"""The page publishes with the login of the visitor, and never with a token of the server."""

from __future__ import annotations

import gradio as gr
import pytest
from report.synthetic import make_report

from hf_ess.space.app import can_log_in
from hf_ess.space.downloads import Downloads
from hf_ess.space.taking import Taking

KEY = "0123456789abcdef" * 2


class _Kept:
    """Keeps one report, as an instrument does."""

    def report(self, key):
        assert key == KEY
        return make_report(2, provenance={"model": "me/model", "model_is_local": False})


@pytest.fixture
def publish(hub, tmp_path):
    hub.repo("visitor/model", {"README.md": "# Mine\n"})

    def push(token, repository="visitor/model", keys=(KEY,), with_text=False):
        taking = Taking(_Kept(), Downloads(tmp_path / "files"))
        login = None if token is None else gr.OAuthToken(token, "write-repos", 2_000_000_000)
        return taking.publish(list(keys), repository, with_text, login)

    return push


def test_a_pull_request_with_the_login_of_the_visitor(hub, publish):
    visitor = hub.user("visitor")
    said = publish(visitor.token)
    (opened,) = hub.repos["visitor/model"].pull_requests
    assert f"/visitor/model/discussions/{opened.num}" in said
    assert opened.author == "visitor"
    writing = [each for each in hub.requests if each.method == "POST"]
    assert writing
    assert {each.authorization for each in writing} == {f"Bearer {visitor.token}"}
    assert hub.me.token not in said


def test_nothing_goes_with_the_token_of_the_server(hub, publish):
    assert "needs your own login" in publish(None)
    assert "The token is empty" in publish("")
    assert not hub.requests


def test_what_the_hub_refuses_is_said_as_text(hub, publish):
    reader = hub.user("visitor", role="read")
    said = publish(reader.token)
    assert 'role="alert"' in said
    assert "403" in said
    said = publish(reader.token, repository="<img src=x>/y")
    assert "<img" not in said
    assert "&lt;img" in said
    assert "Nothing is shown yet" in publish(reader.token, keys=())


def test_only_spaces_with_login_offer_it(monkeypatch):
    monkeypatch.delenv("SYSTEM", raising=False)
    monkeypatch.setenv("OAUTH_CLIENT_ID", "client")
    assert not can_log_in()
    monkeypatch.setenv("SYSTEM", "spaces")
    assert can_log_in()
    monkeypatch.delenv("OAUTH_CLIENT_ID")
    assert not can_log_in()
