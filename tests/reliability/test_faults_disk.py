"""Disks that are full: every writer keeps the earlier file, and leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import contextmanager

import pytest
from lab.small_runs import small_config
from report.synthetic import make_report

from hf_ess.errors import OutputPathError
from hf_ess.lab import train
from hf_ess.lab.shipping import as_checkpoint
from hf_ess.report import ESSReport
from hf_ess.report.folders import replace_file
from hf_ess.space.downloads import Downloads
from hf_ess.space.results import ResultStore

KEY = "0123456789abcdef" * 2
MESSAGE = "File too large"


@contextmanager
def bytes_per_file(most):
    """The system itself refuses to write more into any file of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _files(folder):
    """Every file below a folder, and what is in it."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _refused(write, most, match=MESSAGE):
    with (
        bytes_per_file(most),
        pytest.raises(OutputPathError, match=match) as caught,
    ):
        write()
    assert isinstance(caught.value, OSError)
    assert "What to do: Free some space" in str(caught.value)


def _sizes(largest, tries):
    return sorted({*range(0, largest, -(-largest // tries)), largest - 1})


@pytest.mark.parametrize("existing", [True, False], ids=["over an old report", "a new one"])
def test_reports(tmp_path, existing, tried):
    folder = tmp_path / "report"
    if existing:
        make_report(seed=1).save(folder)
    before = _files(tmp_path)
    report = make_report(6, lengths=(40,) * 3, positions=range(1, 40))
    largest = max(map(len, _files(report.save(tmp_path.parent / f"whole {existing}")).values()))
    limits = _sizes(largest, 40)
    for most in limits:
        _refused(lambda: report.save(folder), most)
        assert _files(tmp_path) == before
    if existing:
        assert ESSReport.load(folder).fingerprint() == make_report(seed=1).fingerprint()
    assert ESSReport.load(report.save(folder)).fingerprint() == report.fingerprint()
    tried(
        "Faults",
        "The disk takes no more than the first n bytes of a file while a report is saved",
        "OutputPathError with what to do; the earlier report as it was, nothing half-written",
        times=len(limits),
    )


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("existing", [True, False], ids=["over an old report", "a new one"])
def test_reports_and_every_single_call(tmp_path, call, existing, monkeypatch, tried):
    """The n-th call of one kind finds no space, for every n that saving gets to."""
    folder, original = tmp_path / "report", getattr(os, call)
    if existing:
        make_report(seed=1).save(folder)
    before, calls = _files(tmp_path), []

    def sometimes(*args):
        calls.append(args)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args)

    monkeypatch.setattr(os, call, sometimes)
    failing, other = 0, tmp_path.parent / f"other {call} {existing}"
    for _ in range(1 + existing):
        calls.clear()
        make_report().save(other)
    needed = len(calls)
    for failing in range(1, needed + 1):  # noqa: B007 - `sometimes` looks at it
        calls.clear()
        with pytest.raises(OutputPathError, match="No space left"):
            make_report(seed=2).save(folder)
        assert _files(tmp_path) == before
    tried(
        "Faults",
        f"The n-th call of {call}() finds no space while a report is saved, for every n",
        "OutputPathError; the earlier report as it was, nothing half-written",
        times=needed,
    )


def test_plots(tmp_path, tried):
    report, path = make_report(), tmp_path / "plot.png"
    path.write_bytes(b"an earlier picture")
    before = _files(tmp_path)
    whole = len(_files_of_plot(report, tmp_path.parent / "whole.png"))
    limits = _sizes(whole, 4)
    for most in limits:
        _refused(lambda: report.plot(path=path), most)
        assert _files(tmp_path) == before
    report.plot(path=path)
    assert len(path.read_bytes()) == whole
    tried(
        "Faults",
        "The disk takes no more than the first n bytes of a plot",
        "OutputPathError with what to do; the earlier plot as it was, nothing half-written",
        times=len(limits),
    )


def _files_of_plot(report, path):
    report.plot(path=path)
    return path.read_bytes()


def test_files_that_are_replaced(tmp_path, tried):
    path, data = tmp_path / "a" / "checkpoint", bytes(range(100))
    replace_file(path, b"old")
    for most in range(len(data)):
        _refused(lambda: replace_file(path, data), most)
        assert _files(tmp_path) == {"a/checkpoint": b"old"}
    tried(
        "Faults",
        "The disk takes no more than the first n bytes of a checkpoint",
        "OutputPathError with what to do; the earlier one as it was, nothing half-written",
        times=len(data),
    )


def test_results_and_downloads_of_the_page(tmp_path, tried):
    report = make_report()
    results = ResultStore(tmp_path / "results", 2**20)
    results.put(KEY, make_report(seed=1))
    downloads = Downloads(tmp_path / "downloads")
    before = _files(tmp_path)
    for most in (0, 1000, 4000):
        _refused(lambda: results.put(KEY, report), most)
        _refused(lambda: downloads.zip_of({KEY: report}), most)
        assert _files(tmp_path) == before
    assert results.get(KEY).fingerprint() == make_report(seed=1).fingerprint()
    results.put(KEY, report)
    assert downloads.zip_of({KEY: report}).exists()
    tried(
        "Faults",
        "The disk is full while the page keeps a result or packs a download",
        "OutputPathError with what to do; the earlier result as it was, nothing half-written",
        times=6,
    )


def test_trained_checkpoints(tmp_path, tried):
    run = tmp_path / "run"
    train(small_config(steps=1, warmup_steps=0), run, progress=False)
    before = _files(tmp_path)
    for most in (0, 100, 2000):
        _refused(lambda: as_checkpoint(run, tmp_path / "new"), most)
        assert _files(tmp_path) == before
        assert not (tmp_path / "new").exists()
    assert as_checkpoint(run, tmp_path / "new").folder == tmp_path / "new"
    tried(
        "Faults",
        "The disk is full while a trained checkpoint is written",
        "OutputPathError with what to do; no folder is left",
        times=3,
    )
