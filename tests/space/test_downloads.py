"""Zip files hold what was measured, lie where they should, and do not pile up."""

from __future__ import annotations

import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from report.synthetic import make_layer, make_report, unverified

from hf_ess import ESSReport, InvalidInputError
from hf_ess.space.downloads import Downloads

KEY = "0123456789abcdef"


def _opened(path, folder):
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        return archive.namelist()


def test_the_report_comes_back(tmp_path):
    local = {"model": "/home/somebody/models/tiny", "model_is_local": True}
    report = make_report(2, provenance=local)
    path = Downloads(tmp_path / "files").zip_of({KEY: report})
    names = _opened(path, tmp_path)
    assert {"README.txt", "report/report.json", "report/arrays.safetensors"} <= set(names)
    assert [name for name in names if name.endswith(".png")]
    loaded = ESSReport.load(tmp_path / "report")
    assert loaded.average_ess() == report.average_ess()
    assert loaded.samples[0].tokens == report.samples[0].tokens
    assert b"somebody" not in (tmp_path / "report" / "report.json").read_bytes()


def test_two_reports_that_are_compared(tmp_path):
    reports = {KEY: make_report(2), KEY[::-1]: make_report(3)}
    _opened(Downloads(tmp_path / "files").zip_of(reports), tmp_path)
    loaded = [ESSReport.load(tmp_path / f"report-{letter}") for letter in "ab"]
    assert [len(report.layers) for report in loaded] == [2, 3]


def test_no_plots_without_verified_layers(tmp_path):
    report = make_report([make_layer(0, **unverified())])
    names = _opened(Downloads(tmp_path / "files").zip_of({KEY: report}), tmp_path)
    assert not [name for name in names if name.endswith(".png")]
    assert ESSReport.load(tmp_path / "report").layers[0].verified is False


def test_the_oldest_go(tmp_path):
    downloads = Downloads(tmp_path / "files", kept=2)
    report = make_report(1)
    paths = [downloads.zip_of({f"{number:016d}": report}) for number in range(4)]
    assert [path.exists() for path in paths] == [False, False, True, True]
    downloads.zip_of({f"{2:016d}": report})
    downloads.zip_of({f"{4:016d}": report})
    assert [path.exists() for path in paths] == [False, False, True, False]
    downloads.close()
    assert not downloads.folder.exists()


def test_many_ask_for_one_report(tmp_path):
    downloads, report = Downloads(tmp_path / "files"), make_report(1)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: downloads.zip_of({KEY: report}), range(8)))
    (path,) = paths
    assert zipfile.ZipFile(path).testzip() is None
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("key", ["../escape-upwards", "/etc/passwd", "", "a" * 100])
def test_keys_that_are_paths(tmp_path, key):
    with pytest.raises(InvalidInputError):
        Downloads(tmp_path / "files").zip_of({key: make_report(1)})
    assert not (tmp_path / "files").exists()
