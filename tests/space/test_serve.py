"""`hf-ess serve` as a process: its address on stdout, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from space.serving import free_port
from tiny_checkpoints import save_llama

from hf_ess.cli import serve_command
from hf_ess.space.repository import space_files

PATIENCE = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_llama(tmp_path_factory.mktemp("models") / "tiny")


def _command(model, port, folder):
    serve = [sys.executable, "-m", "hf_ess", "serve", "--model", model, "--no-browser"]
    options = ["--port", port, "--results", folder / "results", "--reports", folder]
    return [str(each) for each in (*serve, *options)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_address_is_all_of_stdout_and_the_end_is_clean(folder, tmp_path, number):
    port = free_port()
    process = subprocess.Popen(
        _command(folder, port, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        url = process.stdout.readline().strip()
        assert url == f"http://127.0.0.1:{port}/"
        page = httpx.get(url)
        assert page.status_code == 200
        assert "Effective state-size" in page.text
        assert str(folder.parent) not in page.text
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, stdout) == (0, "")
    assert stderr.endswith("stopped\n")
    assert "Traceback" not in stderr


def test_a_taken_port_is_named(folder, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = subprocess.run(
            _command(folder, port, tmp_path), capture_output=True, text=True, check=False
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"cannot be served at port {port} of 127.0.0.1" in ended.stderr
    assert "another program" in ended.stderr


def test_without_the_extra_it_says_what_to_install(monkeypatch, run_command):
    monkeypatch.setattr(serve_command, "find_spec", lambda _: None)
    status, stdout, stderr = run_command("serve")
    assert (status, stdout) == (1, "")
    assert "pip install 'hf-ess[space]'" in stderr


@pytest.mark.parametrize("model", ["../nowhere", "file:///etc", "a b"])
def test_models_that_are_none(model, tmp_path, run_command):
    status, _, stderr = run_command("serve", "--model", model, "--results", tmp_path)
    assert status == 1
    assert "Give a folder or file that exists" in stderr


def test_the_rest_of_the_package_needs_no_gradio():
    code = (
        "import sys, hf_ess, hf_ess.cli, hf_ess.analysis, hf_ess.hub, hf_ess.space.instrument;"
        "sys.exit('gradio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_pushed_runs_as_a_space_with_login(folder, tmp_path):
    for name, content in space_files().items():
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    port = free_port()
    space = {
        "SYSTEM": "spaces",
        "SPACE_ID": "me/memory",
        "OAUTH_CLIENT_ID": "client",
        "OAUTH_CLIENT_SECRET": "secret",
        "OAUTH_SCOPES": "openid profile write-repos",
        "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
        "GRADIO_SERVER_PORT": str(port),
        "HF_ESS_MODELS": str(folder),
        "HF_ESS_RESULTS": str(tmp_path / "results"),
        "HF_ESS_MAX_TOKENS": "77",
    }
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path / "space",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | space,
    )
    try:
        page = _answer_of(f"http://127.0.0.1:{port}/", process)
        assert "Open a pull request" in page
        assert "Up to 77 tokens" in page
        assert str(folder.parent) not in page
        assert "secret" not in page
        process.terminate()
        _, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, stderr


def _answer_of(url, process):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            return httpx.get(url, timeout=PATIENCE).text
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(process.stderr.read())
