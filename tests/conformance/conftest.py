"""The shared checks get pytest's own assert messages; tiny models run on one thread."""

from __future__ import annotations

import pytest
import torch

pytest.register_assert_rewrite("adapter_conformance", "recording_checks")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
