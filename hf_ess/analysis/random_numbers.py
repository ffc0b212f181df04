"""Models that throw dice in evaluation mode, and must not move those of their user."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from model_adapters.weights import execution_devices


@contextmanager
def same_random_numbers(model: nn.Module) -> Iterator[None]:
    """Gives back the random state of Python, numpy and torch, on the CPU and the model's devices.

    Example:
        >>> import torch
        >>> from hf_ess.analysis.random_numbers import same_random_numbers
        >>> model = torch.nn.Linear(2, 2)
        >>> before = torch.get_rng_state()
        >>> with same_random_numbers(model):
        ...     _ = torch.rand(3)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    devices = {device for device in execution_devices(model).values() if device.type != "meta"}
    # The global one of numpy is what models use.
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            for kind in {device.type for device in devices} - {"cpu"}:
                same = [device for device in devices if device.type == kind]
                stack.enter_context(torch.random.fork_rng(devices=same, device_type=kind))
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
