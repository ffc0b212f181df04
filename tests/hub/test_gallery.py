"""The gallery shows reports of folders and of the Hub, and says what it could not read."""

from __future__ import annotations

import shutil

import pytest
from report.synthetic import make_report

from hf_ess.space.gallery import Gallery
from hf_ess.space.links import KEY


@pytest.fixture
def folder(tmp_path):
    make_report(2).save(tmp_path / "reports" / "one")
    make_report(3, lengths=(12, 9), seed=1).save(tmp_path / "reports" / "deeper" / "two")
    return tmp_path / "reports"


def _push(hub, name, folder, repo_type="model"):
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return hub.repo(name, files, repo_type=repo_type)


def test_folders_of_reports(folder):
    gallery = Gallery([str(folder), str(folder / "one")])
    titles = [entry.title for entry in gallery.entries()]
    assert titles == [
        "test/model: 2 texts, 12 tokens, 3 layers (two)",
        "test/model: 12 tokens, 2 layers (one)",
    ]
    assert gallery.problems() == []
    for entry, layers in zip(gallery.entries(), (3, 2), strict=True):
        assert KEY.fullmatch(entry.key)
        assert len(gallery.report(entry.key).layers) == layers
    assert gallery.report("0" * 32) is None


def test_keys_outlive_a_restart(folder, tmp_path):
    before = [entry.key for entry in Gallery([str(folder)]).entries()]
    shutil.move(folder, tmp_path / "moved")
    assert [entry.key for entry in Gallery([str(tmp_path / "moved")]).entries()] == before


def test_reports_of_the_hub(hub, folder):
    _push(hub, "me/model", folder)
    _push(hub, "me/data", folder, "dataset")
    whole = Gallery(["me/model"])
    assert len(whole.entries()) == 2
    part = Gallery(["datasets/me/data/one"])
    assert [entry.title for entry in part.entries()] == ["test/model: 12 tokens, 2 layers (one)"]
    assert len(part.report(part.entries()[0].key).layers) == 2
    assert [*part.problems(), *whole.problems()] == []


def test_problems_are_said_and_hide_nothing(hub, folder, tmp_path):
    hub.repo("me/empty", {"README.md": "nothing"})
    (tmp_path / "none").mkdir()
    broken = shutil.copytree(folder / "one", tmp_path / "broken")
    (broken / "report.json").write_text('{"content": 5}')
    sources = ["me/empty", str(tmp_path / "none"), str(broken), "me/gone", "a b c", str(folder)]
    gallery = Gallery(sources)
    assert len(gallery.entries()) == 2
    problems = gallery.problems()
    assert [problem.split(":")[0] for problem in problems] == sources[:5]
    assert "holds no report" in problems[0]
    assert "404" in problems[3]


def test_models_of_some_machine_show_no_path(tmp_path):
    report = make_report(1, provenance={"model": "/home/somebody/secret/<b>model"})
    report.save(tmp_path)
    (entry,) = Gallery([str(tmp_path)]).entries()
    assert "somebody" not in entry.title
    assert entry.title.startswith("<b>model: ")
