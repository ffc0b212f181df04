"""The stated oldest versions are one list, and older packages are refused before they fail."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_ess import MissingDependencyError, versions

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([\w-]+)==([\d.]+)", re.M)
BOUND = re.compile(r'^    "([\w-]+)(?:\[\w+\])?>=([\d.]+)"', re.M)
# An import of hf_ess in an interpreter whose metadata tells of another version.
PRETENDED = """
import importlib.metadata as metadata
true = metadata.version
metadata.version = lambda name: {version!r} if name == {package!r} else true(name)
import hf_ess
try:
    {use}
except hf_ess.HfEssError as error:
    print(error)
"""


def _release(text):
    return versions._release(text)


def _core_bounds():
    text = (ROOT / "pyproject.toml").read_text()
    core = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    return dict(BOUND.findall(core))


def test_stated_bounds_are_those_that_are_checked():
    bounds = _core_bounds()
    assert {name: bounds[name] for name in versions.OLDEST} == versions.OLDEST


def test_the_oldest_versions_that_are_tested_are_the_bounds():
    pins = PIN.findall((ROOT / "constraints-oldest.txt").read_text())
    pinned = {name.lower(): _release(pin) for name, pin in pins}
    bounds = {name: _release(bound) for name, bound in _core_bounds().items()}
    assert len(bounds) >= 15
    assert {name: pinned[name][: len(bound)] for name, bound in bounds.items()} == bounds


@pytest.mark.parametrize(
    ("found", "oldest", "refused"),
    [
        ("4.57.6", "5.15", True),
        ("5.14.1", "5.15", True),
        ("5.15.0", "5.15", False),
        ("5.15.0.dev0", "5.15", False),
        ("5.9.0", "5.15", True),
        ("6.0.0rc1", "5.15", False),
        ("5", "5.0.0", False),
    ],
)
def test_versions_are_compared_as_numbers(found, oldest, refused, monkeypatch):
    monkeypatch.setattr(versions, "version", {"transformers": found}.__getitem__)
    monkeypatch.setitem(versions.OLDEST, "transformers", oldest)
    if not refused:
        versions.require_supported("transformers")
        return
    with pytest.raises(MissingDependencyError) as caught:
        versions.require_supported("transformers")
    assert caught.value.what.startswith(f"transformers {found} is installed")
    assert caught.value.fix == f"pip install --upgrade 'transformers>={oldest}'"
    assert isinstance(caught.value, ImportError)


def test_a_package_without_metadata_is_let_through(monkeypatch):
    monkeypatch.setitem(versions.OLDEST, "no-such-package-here", "1")
    versions.require_supported("no-such-package-here")


@pytest.mark.parametrize(
    ("package", "version", "use"),
    [
        ("transformers", "4.57.6", "hf_ess.record_operators"),
        ("torch", "2.5.1", "hf_ess.block_singular_values"),
        ("transformers", "4.57.6", "import hf_ess.synthetics"),
        ("huggingface_hub", "0.36.0", "import hf_ess.hub.push"),
    ],
)
def test_old_packages_are_named_where_they_are_first_used(package, version, use):
    ended = subprocess.run(
        [sys.executable, "-c", PRETENDED.format(package=package, version=version, use=use)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    first, *_, last = ended.stdout.splitlines()
    oldest = versions.OLDEST[package]
    assert first == f"{package} {version} is installed; hf_ess needs {oldest} or newer."
    assert last == f"What to do: pip install --upgrade '{package}>={oldest}'"
