"""A plugin for `make oldest`: model types that a version of transformers lacks are skipped.

With the versions of constraints.txt every type is there, and a missing one is a failure.
"""

from __future__ import annotations

import pytest
from tiny_models import CannotBuildTiny


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.excinfo and isinstance(call.excinfo.value, CannotBuildTiny):
        report.outcome = "skipped"
        reason = f"this version of transformers has no such model: {call.excinfo.value}"
        report.longrepr = (str(item.path), item.location[1], reason)
    return report
