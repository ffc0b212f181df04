"""Reports that lie on the Hub are read as those of a folder, and all of one commit."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from huggingface_hub import constants
from report.synthetic import make_report

import hf_ess
from hf_ess.hub import read_report, report_from_hub
from hf_ess.hub.reading import PUBLISHED_FOLDER

FILES = ("report.json", "arrays.safetensors")


def put(repo, report, folder, tmp_path, revision="main"):
    """Commits a report into a folder of a repository, and returns the commit."""
    saved = report.save(tmp_path / f"saved{len(repo.commits)}")
    for name in FILES:
        path = f"{folder}/{name}" if folder else name
        commit = repo.write(path, (saved / name).read_bytes(), revision=revision)
    return commit


@pytest.fixture
def model(hub):
    return hub.repo("me/model", {"README.md": "# A model\n"})


def test_what_was_published(model, tmp_path):
    report = make_report()
    put(model, report, PUBLISHED_FOLDER, tmp_path)
    read = hf_ess.ESSReport.from_hub("me/model")
    assert read.fingerprint() == report.fingerprint()
    for ours, theirs in zip(read.layers, report.layers, strict=True):
        np.testing.assert_array_equal(ours.entropy_ess, theirs.entropy_ess)


def test_both_files_are_of_one_commit(hub, model, tmp_path):
    """Another report is pushed between the two downloads."""
    first, second = make_report(seed=0), make_report(seed=1)
    put(model, first, PUBLISHED_FOLDER, tmp_path)
    hub.before("HEAD", "arrays", lambda: put(model, second, PUBLISHED_FOLDER, tmp_path))
    assert report_from_hub("me/model").fingerprint() == first.fingerprint()
    assert report_from_hub("me/model").fingerprint() == second.fingerprint()


def test_revisions(model, tmp_path):
    first, second = make_report(seed=0), make_report(seed=1)
    old = put(model, first, PUBLISHED_FOLDER, tmp_path)
    model.branch("next")
    put(model, second, PUBLISHED_FOLDER, tmp_path, revision="next")
    assert report_from_hub("me/model").fingerprint() == first.fingerprint()
    assert report_from_hub("me/model", revision="next").fingerprint() == second.fingerprint()
    assert read_report(f"me/model@{old.oid}").fingerprint() == first.fingerprint()
    assert read_report("me/model@next").fingerprint() == second.fingerprint()
    with pytest.raises(hf_ess.HubError, match="has no branch, tag or commit 'old'"):
        report_from_hub("me/model", revision="old")


@pytest.mark.parametrize(
    "name", ["me/model", "models/me/model", "hf://me/model", "{hub}/me/model", "me/model/ess"]
)
def test_names_of_a_model(hub, model, tmp_path, name):
    report = make_report()
    put(model, report, PUBLISHED_FOLDER, tmp_path)
    assert read_report(name.format(hub=hub.url)).fingerprint() == report.fingerprint()


def test_what_jobs_keep(hub, tmp_path):
    report = make_report()
    repo = hub.repo("me/runs", repo_type="dataset", private=True)
    put(repo, report, "org--model", tmp_path)
    put(repo, make_report(seed=1), "", tmp_path)
    assert read_report("datasets/me/runs/org--model").fingerprint() == report.fingerprint()
    assert read_report("datasets/me/runs").fingerprint() == make_report(seed=1).fingerprint()
    with pytest.raises(hf_ess.HubError, match="datasets/me/runs/org--model"):
        read_report("datasets/me/runs/other")


def test_folders_come_first(model, tmp_path, monkeypatch):
    put(model, make_report(seed=1), PUBLISHED_FOLDER, tmp_path)
    report = make_report(seed=2)
    monkeypatch.chdir(tmp_path)
    report.save("me/model")
    assert read_report("me/model").fingerprint() == report.fingerprint()
    assert read_report(tmp_path / "me" / "model").fingerprint() == report.fingerprint()
    shutil.rmtree("me")
    assert read_report("me/model").fingerprint() == make_report(seed=1).fingerprint()


@pytest.mark.parametrize("name", ["./me/model", "../me/model", "/me/model", "~/me/model", "."])
def test_paths_are_never_names(hub, model, tmp_path, name):
    put(model, make_report(), PUBLISHED_FOLDER, tmp_path)
    with pytest.raises(hf_ess.ReportError, match="Cannot read"):
        read_report(name)
    assert not hub.requests


def test_what_is_neither(hub):
    with pytest.raises(hf_ess.InvalidInputError, match=r"neither a folder .* nor a repository"):
        read_report("no such folder")
    with pytest.raises(hf_ess.HubError, match="no folder of that name here"):
        read_report("me/nothing")
    with pytest.raises(hf_ess.InvalidInputError, match="holds no reports"):
        report_from_hub("buckets/me/things")


def test_a_model_without_a_report(model):
    with pytest.raises(hf_ess.HubError, match="hf-ess push report me/model") as error:
        report_from_hub("me/model")
    assert "hf-ess analyze me/model" in error.value.fix


def test_a_damaged_report(model, tmp_path):
    put(model, make_report(), PUBLISHED_FOLDER, tmp_path)
    model.write("ess/arrays.safetensors", lambda content: content[:-1])
    with pytest.raises(hf_ess.ReportError, match=r"The report of me/model cannot be used: .*bytes"):
        report_from_hub("me/model")


def test_a_report_of_the_future(model, tmp_path):
    put(model, make_report(), PUBLISHED_FOLDER, tmp_path)
    version = b'"schema_version": '
    model.write("ess/report.json", lambda content: content.replace(version, version + b"9"))
    with pytest.raises(hf_ess.ReportError, match="pip install --upgrade hf-ess"):
        report_from_hub("me/model")


def test_private_repositories(hub, tmp_path, monkeypatch):
    repo = hub.repo("me/secret", private=True)
    put(repo, make_report(), PUBLISHED_FOLDER, tmp_path)
    token = os.environ["HF_TOKEN"]
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(hf_ess.HubError, match="it is private, and you are not logged in"):
        report_from_hub("me/secret")
    assert report_from_hub("me/secret", token=token).layers
    with pytest.raises(hf_ess.HubError, match="401") as error:
        report_from_hub("me/secret", token="hf_not_a_known_token")
    assert "hf_not_a_known_token" not in str(error.value)


def test_gated_repositories(hub, tmp_path):
    hub.user("you")
    put(hub.repo("you/model", gated="manual"), make_report(), PUBLISHED_FOLDER, tmp_path)
    with pytest.raises(hf_ess.HubError, match="Ask for access on its page"):
        report_from_hub("you/model")


def test_tokens_that_cannot_be_sent(model):
    with pytest.raises(hf_ess.InvalidInputError, match="characters that no token has") as error:
        report_from_hub("me/model", token="hf_secret\n")
    assert "hf_secret" not in str(error.value)


def test_offline(hub, model, tmp_path, monkeypatch):
    report = make_report()
    put(model, report, PUBLISHED_FOLDER, tmp_path)
    report_from_hub("me/model")
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert report_from_hub("me/model").fingerprint() == report.fingerprint()
    assert len(hub.requests) == asked
    with pytest.raises(hf_ess.HubError, match="Unset HF_HUB_OFFLINE"):
        report_from_hub("me/other")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/models/me/model"), ("HEAD", "/resolve/")]
)
def test_what_passes_is_waited_for(hub, model, tmp_path, method, path):
    put(model, make_report(), PUBLISHED_FOLDER, tmp_path)
    fault = hub.fail(method, path, 503, times=2)
    assert report_from_hub("me/model").layers
    assert len(fault.hits) == 2
