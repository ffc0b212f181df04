"""`hf-ess space push`: one commit, the same again is none, and the work of others stays."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from hub import stub_access, stub_api
from hub.stub_replies import Reply
from setuptools import build_meta

from hf_ess import InvalidInputError, OutputPathError
from hf_ess.shipped import checkpoint_names
from hf_ess.space import repository
from hf_ess.space.repository import is_ours, space_files

SPACE = "me/memory"
OTHERS = {"notes.txt": "mine", "data/own.py": "print()\n"}


@pytest.fixture
def spaces(hub, monkeypatch):
    """The Hub with what the stub does not know of Spaces: their machines, and who sees them."""
    hub.runtimes, hub.settings = {}, {}

    def runtime(hub, repo, request, rest):
        flavor = hub.runtimes.get(repo.id, "cpu-basic")
        hardware = {"current": flavor, "requested": flavor}
        return Reply({"stage": "RUNNING", "hardware": hardware, "storage": None, "gcTimeout": 1})

    def hardware(hub, repo, request, rest):
        stub_access.changeable(repo, request, "main")
        hub.runtimes[repo.id] = request.json["flavor"]
        return runtime(hub, repo, request, rest)

    def settings(hub, repo, request, rest):
        hub.settings[repo.id] = request.json
        return Reply({})

    monkeypatch.setitem(stub_api.ACTIONS, ("GET", "runtime"), runtime)
    monkeypatch.setitem(stub_api.ACTIONS, ("POST", "hardware"), hardware)
    monkeypatch.setitem(stub_api.ACTIONS, ("PUT", "settings"), settings)
    return hub


@pytest.fixture
def push(spaces, run_command):
    def run(*options, name=SPACE):
        status, stdout, stderr = run_command("space", "push", name, *options)
        assert not any(token in stdout + stderr for token in spaces.users)
        return status, stdout, stderr

    return run


def _files(hub):
    repo = hub.repos[f"spaces/{SPACE}"]
    return {path: file.content for path, file in repo.tree("main").items()}


def test_new_space(hub, push):
    status, stdout, stderr = push()
    assert (status, stdout) == (0, f"{hub.url}/spaces/{SPACE}\n")
    (created,) = hub.asked("POST", "repos/create")
    asked = created.json
    assert (asked["type"], asked["sdk"], asked["visibility"]) == ("space", "gradio", "private")
    files = _files(hub)
    assert {path: files[path] for path in space_files()} == space_files()
    assert (
        files["hf_ess/space/push.py"] == Path(repository.__file__).with_name("push.py").read_bytes()
    )
    assert b"gradio" in files["requirements.txt"]
    assert not any(path.endswith(".pyc") for path in files)
    assert len(hub.asked("POST", "/commit/")) == 1
    assert f"{len(space_files())} file(s) written" in stderr


def test_the_same_again_is_no_commit(hub, push):
    push()
    _, _, stderr = push()
    assert stderr == "nothing to change\n"
    assert len(hub.asked("POST", "/commit/")) == 1
    assert len(hub.asked("POST", "repos/create")) == 1


def test_an_update_changes_what_is_ours_and_nothing_else(hub, push):
    repo = hub.repo(SPACE, OTHERS | {"hf_ess/gone.py": "", "app.py": "old"}, repo_type="space")
    status, _, stderr = push("--format", "json")
    assert (status, stderr) == (0, "")
    files = _files(hub)
    assert "hf_ess/gone.py" not in files
    assert files["app.py"] == space_files()["app.py"]
    assert {path: files[path].decode() for path in OTHERS} == OTHERS
    assert repo.commits[-1].message == "Effective state-size: the page of hf_ess"
    touched = ("secrets", "variables", "settings", "hardware")
    assert not [each for each in hub.requests if any(word in each.target for word in touched)]


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ("---\ntitle: Mine\nsdk: gradio\n---\nMy own words.\n", True),
        ("---\nsdk: gradio\n---\n<!-- Written by `hf-ess space push`. -->\nold\n", False),
        ("---\nsdk: gradio\n---\nhttps://huggingface.co/docs/hub/spaces-config-reference\n", False),
    ],
)
def test_own_page(hub, push, page, kept):
    hub.repo(SPACE, {"README.md": page}, repo_type="space")
    _, _, stderr = push()
    assert (_files(hub)["README.md"].decode() == page) is kept
    assert ("kept README.md" in stderr) is kept


def test_dry_run_sends_nothing(hub, push):
    status, stdout, stderr = push("--dry-run", "--hardware", "cpu-upgrade")
    assert (status, stdout) == (0, f"{hub.url}/spaces/{SPACE}\n")
    assert "would write app.py" in stderr
    assert "would ask for cpu-upgrade" in stderr
    assert f"spaces/{SPACE}" not in hub.repos
    assert {each.method for each in hub.requests} <= {"GET", "HEAD"}


def test_checkpoints_stay_at_home():
    assert checkpoint_names()
    names = space_files()
    assert "hf_ess/data/demo.txt" in names
    assert not [name for name in names if "checkpoints/" in name]


def test_package_instead_of_sources(hub, push):
    push()
    _, stdout, _ = push("--package", "hf-ess==9.9", "--format", "json")
    said = json.loads(stdout)
    assert "hf_ess/__init__.py" in said["removed"]
    assert _files(hub)["requirements.txt"] == b"hf-ess[space]==9.9\n"
    assert not [path for path in _files(hub) if is_ours(path)]


def test_machine_and_visibility(hub, push):
    hub.repo(SPACE, repo_type="space")
    push("--hardware", "t4-small", "--private")
    assert hub.runtimes == {SPACE: "t4-small"}
    assert hub.settings == {SPACE: {"visibility": "private"}}
    _, _, stderr = push("--hardware", "t4-small")
    assert stderr == "nothing to change\n"
    assert len(hub.asked("POST", "hardware")) == 1


@pytest.mark.parametrize("name", ["memory", "datasets/me/memory", "me/memory/folder", "a b/c", ""])
def test_names_that_are_no_space(hub, push, name):
    status, stdout, stderr = push(name=name)
    assert (status, stdout) == (1, "")
    assert "What to do" in stderr
    assert not hub.requests


def test_refusals_are_explained(hub, push, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.user("me", role="read").token)
    status, _, stderr = push()
    assert status == 1
    assert "403" in stderr
    assert "may only read" in stderr
    status, _, stderr = push("--package", "not a package!")
    assert (status, "nothing that pip installs" in stderr) == (1, True)


def test_stale_metadata_is_noticed(monkeypatch):
    monkeypatch.setattr(repository.metadata, "distributions", lambda **_: [])
    with pytest.raises(OutputPathError, match="What the sources need is not known"):
        space_files()
    with pytest.raises(InvalidInputError, match="nothing that pip installs"):
        space_files("==1")


def test_front_matter_is_what_the_hub_reads():
    page = space_files("hf-ess")["README.md"].decode()
    front = yaml.safe_load(page.split("---")[1])
    assert (front["sdk"], front["app_file"], front["license"]) == ("gradio", "app.py", "apache-2.0")
    assert len(front["short_description"]) <= 60
    assert front["hf_oauth"] is True
    constraints = (Path(__file__).parents[2] / "constraints.txt").read_text()
    assert f"gradio=={front['sdk_version']}" in constraints.splitlines()


def test_a_wheel_brings_the_files_of_the_space(tmp_path, monkeypatch):
    root = Path(__file__).parents[2]
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "tests", "benchmarks", "docs", "build")
    shutil.copytree(root, copy, ignore=ignored)
    monkeypatch.chdir(copy)
    wheel = tmp_path / build_meta.build_wheel(str(tmp_path))
    names = zipfile.ZipFile(wheel).namelist()
    brought = {name.split("/share/hf_ess/space/")[1] for name in names if "/share/" in name}
    sent = set(space_files("hf-ess"))
    assert brought == sent
    assert "hf_ess/py.typed" in names
    assert any(name.startswith("hf_ess/space/static/") for name in names)
