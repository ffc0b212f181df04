"""Adapters and how they are found: one class per mixer family, one decorator, one entry point."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import TypeVar

from torch import nn

from hf_ess.errors import AdapterError
from model_adapters.recorder import Recorder

ENTRY_POINT_GROUP = "hf_ess.adapters"


class MixerAdapter(ABC):
    """What hf_ess must know about one family of mixers.

    `hf_ess.register_adapter` makes it known; most derive from `FunctionAdapter` or `ModuleAdapter`.

    A subclass says its `mixer` (the word in reports), its `models` (in words, for listings), and
    how to watch mixers of its family: `watch` installs whatever it needs while the context is
    open, removes it afterwards, and calls `recorder.record` with the operator, its inputs and
    its outputs each time that such a mixer runs. The state size is the operator's.

    An adapter that also says `keeps_graph = True` passes what the model computed on as it is,
    wherever `recorder.keep_graph` asks for it (`recorder.kept`), so that autograd follows its
    operators back to the weights.
    """

    mixer: str
    models: str
    keeps_graph: bool = False

    @abstractmethod
    def watch(self, model: nn.Module, recorder: Recorder) -> AbstractContextManager[None]:
        """Watches every mixer of the family in the model while the context is open."""


_ADAPTERS: dict[str, MixerAdapter] = {}
_loaded_entry_points = False

AdapterClass = TypeVar("AdapterClass", bound=type[MixerAdapter])


def register_adapter(adapter: AdapterClass) -> AdapterClass:
    """Class decorator that adds an adapter to those which `hf_ess.analyze` asks.

    Packages register theirs by an entry point of group `hf_ess.adapters` whose value is the
    decorated class or its module. `docs/adding-a-mixer.md` is a whole example.

    Args:
        adapter: a subclass of `MixerAdapter` that can be made without arguments.

    Returns:
        The class as it was.

    Raises:
        AdapterError: the class is incomplete, or its mixer is registered by another class.

    Example:
        >>> from contextlib import nullcontext
        >>> import hf_ess
        >>> from model_adapters import MixerAdapter, unregister_adapter
        >>> @hf_ess.register_adapter
        ... class Nothing(MixerAdapter):
        ...     mixer, models = "nothing", "no model at all"
        ...     def watch(self, model, recorder): return nullcontext()
        >>> unregister_adapter("nothing")
    """
    if not inspect.isclass(adapter) or not issubclass(adapter, MixerAdapter):
        raise AdapterError(
            f"{adapter!r} is not a subclass of MixerAdapter.",
            fix="Derive the adapter from model_adapters.MixerAdapter.",
        )
    if inspect.isabstract(adapter) or not all(
        isinstance(getattr(adapter, name, None), str) for name in ("mixer", "models")
    ):
        raise AdapterError(
            f"The adapter {adapter.__name__} is incomplete.",
            fix="Set `mixer` and `models`, and define `watch`.",
        )
    known = _ADAPTERS.get(adapter.mixer)
    if known is not None and _place(type(known)) != _place(adapter):
        raise AdapterError(
            f"The mixer {adapter.mixer!r} is registered by {'.'.join(_place(type(known)))}.",
            fix="Choose another name, or call unregister_adapter first.",
        )
    _ADAPTERS[adapter.mixer] = adapter()
    return adapter


def _place(adapter: type) -> tuple[str, str]:
    """Where a class is defined: the same again where a notebook runs a cell twice."""
    return adapter.__module__, adapter.__qualname__


def unregister_adapter(mixer: str) -> None:
    """Takes an adapter out again that `hf_ess.register_adapter` added.

    Args:
        mixer: the word of its reports.

    Raises:
        AdapterError: no adapter of that name.
    """
    if _ADAPTERS.pop(mixer, None) is None:
        raise AdapterError(f"No adapter {mixer!r} is registered; there are {sorted(_ADAPTERS)}.")


def registered_adapters() -> list[MixerAdapter]:
    """Every adapter, those of installed packages included, by name of their mixer.

    `hf_ess.register_adapter` adds one.

    Raises:
        AdapterError: the entry point of a package cannot be loaded.
    """
    _load_entry_points()
    return [_ADAPTERS[mixer] for mixer in sorted(_ADAPTERS)]


def _load_entry_points() -> None:
    global _loaded_entry_points
    if _loaded_entry_points:
        return
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()
        except Exception as error:
            raise AdapterError(
                f"The adapter {entry.name!r} ({entry.value}) cannot be loaded: {error}",
                fix="Repair or uninstall the package that provides it.",
            ) from error
    _loaded_entry_points = True
