"""What an analysis could leave behind: hooks, patches, threads, files, tensors, other settings."""

from __future__ import annotations

import gc
import os
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from analysis.model_state import state_of
from recording_checks import footprint
from torch import Tensor, nn
from torch.nn.modules import module as module_code
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# Where functions live that models call, and that a recording may watch.
OWNERS = ("torch", "torch.Tensor", "torch.nn.functional", "torch.nn.Module", "torch.autograd.graph")
CODE = ("transformers.", "hf_ess.synthetics", "reliability.fuzzing", "analysis.handmade")


def settings_of(model: nn.Module) -> dict[str, Any]:
    """Everything that has to be the same afterwards."""
    return {
        **state_of(model),
        "python's random numbers": random.getstate(),
        "numpy's random numbers": repr(np.random.get_state()),  # noqa: NPY002 - the global one
        "attention functions": dict(ALL_ATTENTION_FUNCTIONS.items()),
        "global hooks": {
            name: len(hooks)
            for name, hooks in vars(module_code).items()
            if name.startswith("_global_") and hasattr(hooks, "__len__")
        },
        "hooks and methods": footprint(model),
        "parameters": {name: weight._version for name, weight in model.named_parameters()},
        "buffers": {name: (id(b), b._version) for name, b in model.named_buffers()},
    }


def names_of() -> dict[str, int]:
    """Which object each name of the models' code and of torch stands for."""
    owners = {name: vars(_owner(name)) for name in OWNERS}
    owners |= {
        name: vars(code)
        for name, code in list(sys.modules.items())
        if name.startswith(CODE) and hasattr(code, "__dict__")
    }
    return {
        f"{o}.{name}": id(value) for o, names in owners.items() for name, value in names.items()
    }


def _owner(path: str) -> Any:
    parent, _, last = path.rpartition(".")
    return sys.modules.get(path) or getattr(_owner(parent), last)


def what_is_open() -> Counter[str]:
    """Threads by name and open files by target."""
    found = Counter(f"thread {thread.name}" for thread in threading.enumerate())
    folder = Path("/proc/self/fd")
    for entry in os.listdir(folder) if folder.exists() else ():
        try:
            found[f"file {os.readlink(folder / entry)}"] += 1
        except FileNotFoundError:  # the one that listed the folder
            continue
    return found


def live_tensors() -> dict[int, Tensor]:
    """Tensors that are alive and younger than the last `gc.freeze()`."""
    gc.collect()
    return {id(thing): thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)}


@contextmanager
def older_objects_aside() -> Iterator[None]:
    """Looks for tensors only among those that come; among all objects it takes far longer."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Before:
    """The state before an analysis.

    Args:
        model: what is analysed.
        folder: an empty one, where temporary files go meanwhile.
    """

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self.settings = settings_of(model)
        self.open = what_is_open()
        self.tensors = set(live_tensors())
        # Last: what the lines above import or make is there already.
        self.names = names_of()

    @contextmanager
    def files_here(self) -> Iterator[None]:
        """Temporary files go into the folder."""
        usual, tempfile.tempdir = tempfile.tempdir, str(self.folder)
        try:
            yield
        finally:
            tempfile.tempdir = usual

    def changed(self) -> list[str]:
        """What is not as it was; names that are new (a module was imported) do no harm."""
        names, after = names_of(), settings_of(self.model)
        found = [name for name, value in self.settings.items() if after[name] != value]
        found += [name for name, value in self.names.items() if names.get(name) != value]
        found += [f"open: {name}" for name in what_is_open() - self.open]
        return found + [f"file {path.name}" for path in self.folder.iterdir()]

    def tensors_left(self, known: set[int]) -> list[str]:
        """Shapes of tensors that are new, besides known ones.

        What a model itself keeps of its latest run, under names that it had before, is its own.
        """
        of_model = {id(value) for part in self.model.modules() for value in vars(part).values()}
        return [
            f"{type(tensor).__name__}{list(tensor.shape)} {tensor.dtype}"
            for key, tensor in live_tensors().items()
            if key not in self.tensors | known | of_model
        ]
