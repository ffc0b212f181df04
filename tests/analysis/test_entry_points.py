"""Adapters of other packages are found by their entry point."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.metadata import EntryPoint

import pytest

from hf_ess import AdapterError, HfEssError, register_adapter
from model_adapters import MixerAdapter, registered_adapters, registry, unregister_adapter

GROUP = "hf_ess.adapters"
MIXER = "foreign mixer"


def load_adapter():
    """What importing the module of a package does."""

    @register_adapter
    class ForeignAdapter(MixerAdapter):
        mixer, models = MIXER, "models of another package"

        def watch(self, model, recorder):
            return nullcontext()


class _Entry:
    name, value = "foreign", "foreign_package.adapters"
    loads = 0

    def __init__(self, action):
        self.action = action

    def load(self):
        self.loads += 1
        self.action()


@pytest.fixture
def install(monkeypatch):
    """Pretends that a package with this entry point is installed."""
    monkeypatch.setattr(registry, "_loaded_entry_points", False)

    def add(*entries):
        def entry_points(*, group):
            return list(entries) if group == GROUP else []

        monkeypatch.setattr(registry, "entry_points", entry_points)

    return add


def test_an_adapter_is_loaded_once(install):
    entry = _Entry(load_adapter)
    install(entry)
    try:
        assert MIXER in [adapter.mixer for adapter in registered_adapters()]
        registered_adapters()
        assert entry.loads == 1
    finally:
        unregister_adapter(MIXER)


def test_a_broken_entry_point_is_named(install):
    install(EntryPoint("broken", "no_such_package.adapters:Adapter", GROUP))
    with pytest.raises(AdapterError) as caught:
        registered_adapters()
    assert "'broken'" in caught.value.what
    assert "no_such_package.adapters:Adapter" in caught.value.what
    assert "uninstall" in caught.value.fix
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    with pytest.raises(AdapterError):
        registered_adapters()


def test_a_broken_entry_point_stops_the_command(install, run_command):
    install(EntryPoint("broken", "no_such_package.adapters", GROUP))
    status, out, err = run_command("adapters")
    assert (status, out) == (1, "")
    assert err.startswith("error: The adapter 'broken' (no_such_package.adapters) cannot be loaded")
    assert issubclass(AdapterError, HfEssError)


def test_other_groups_are_left_alone(install, monkeypatch):
    install()
    monkeypatch.setattr(registry, "_loaded_entry_points", False)
    before = [adapter.mixer for adapter in registered_adapters()]
    assert MIXER not in before
    assert "softmax attention" in before
