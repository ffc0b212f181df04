"""A plugin for `make oldest`: models that old versions lack, or cannot run, are skipped.

With the versions of constraints.txt every model type is there and runs, and one that does not is
a failure.
"""

from __future__ import annotations

import pytest
from tiny_models import CannotBuildTiny

# What the models themselves end with on the oldest torch, without hf_ess too.
NOT_WITH_OLD_TORCH = {"scatter(): Expected dtype int64 for index": "qwen4_exp wants a newer torch"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    reason = _reason(call.excinfo.value) if call.excinfo else None
    if reason:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1], reason)
    return report


def _reason(error):
    if isinstance(error, CannotBuildTiny):
        return f"this version of transformers has no such model: {error}"
    return NOT_WITH_OLD_TORCH.get(str(error))
