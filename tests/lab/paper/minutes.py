"""An experiment at the minute scale: made once for a module, and what holds for every one."""

from __future__ import annotations

import pandas as pd
import pytest
from lab.in_this_process import train_here

from hf_ess.lab import Reproduction, reproduce
from hf_ess.lab.paper.experiment import Verdict


def made_in_a_minute(name, out):
    """The experiment, its folder, and the names of the runs that are trained, now and later."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        trained = train_here(monkeypatch)
        one = reproduce(name, scale="minute", out=out, processes=1, progress=False)
        yield one, out, trained


def assert_goes_on_and_is_read_again(made, runs):
    one, out, trained = made
    name = one.experiment.name
    assert len(trained) == runs
    again = reproduce(name, scale="minute", out=out, processes=1, progress=False)
    assert len(trained) == runs
    read = Reproduction.read(out / "minute" / name)
    assert read.to_dict() == one.to_dict() == again.to_dict()
    assert one.finding.verdict is Verdict.undecidable
    for title, table in one.finding.tables.items():
        pd.testing.assert_frame_equal(read.finding.tables[title], table)
