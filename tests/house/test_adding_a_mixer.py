"""The files of docs/adding-a-mixer.md, as they stand there, are a mixer that hf_ess measures."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import pytest
import torch
from house.markdown_pages import ROOT

import hf_ess
from model_adapters import register_adapter, registered_adapters, registry, unregister_adapter

PAGE = ROOT / "docs" / "adding-a-mixer.md"
TITLED = re.compile(r'^```(?:python|toml) title="(.+?)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
FILES = dict(TITLED.findall(PAGE.read_text(encoding="utf-8")))
MIXER = "gated average"
LONGEST = 45


def module_of(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, str(PAGE), "exec"), vars(module))
    return module


module_of("gated_average", FILES["gated_average.py"])
ADAPTER = module_of("gated_average_adapter", FILES["gated_average_adapter.py"])
# Other tests of this process count the adapters.
unregister_adapter(MIXER)


@pytest.fixture(autouse=True)
def registered():
    register_adapter(ADAPTER.GatedAverageAdapter)
    yield
    unregister_adapter(MIXER)


class TestGatedAverage(
    module_of("test_gated_average", FILES["test_gated_average.py"]).TestGatedAverage
):
    """What the page inherits."""


def test_the_mixer_is_measured_and_verified():
    found = vars(module_of("measure", FILES["measure.py"]))
    assert [layer.verified for layer in found["report"].layers] == [True, True]
    assert not found["report"].unsupported


def test_a_mistake_in_the_adapter_is_seen():
    unregister_adapter(MIXER)
    right = FILES["gated_average_adapter.py"]
    wrong = right.replace("write_scale=torch.sigmoid(-gate.double()),", "")
    assert wrong != right
    module_of("mistaken_adapter", wrong)
    model = sys.modules["gated_average"].GatedAverageLM().eval()
    with pytest.warns(hf_ess.UnverifiedOperatorWarning):
        report = hf_ess.analyze(model, torch.arange(40)[None], progress=False)
    assert [layer.verified for layer in report.layers] == [False, False]
    with pytest.raises(hf_ess.ReportError):
        report.average_ess()


def test_an_installed_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    unregister_adapter(MIXER)
    group, entry = re.search(r'entry-points\."(.+?)"\]\n(.+)\n', FILES["pyproject.toml"]).groups()
    installed = tmp_path / "gated_average-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: gated-average\nVersion: 0.1\n"
    )
    (installed / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    (tmp_path / "gated_average_adapter.py").write_text(FILES["gated_average_adapter.py"])
    monkeypatch.delitem(sys.modules, "gated_average_adapter")
    monkeypatch.setattr(registry, "_loaded_entry_points", False)
    monkeypatch.syspath_prepend(tmp_path)
    assert MIXER in [adapter.mixer for adapter in registered_adapters()]


def test_the_example_is_short():
    own = FILES["gated_average_adapter.py"] + FILES["test_gated_average.py"]
    lines = [line for line in own.splitlines() if line and "import" not in line]
    assert len(lines) <= LONGEST


def test_files_in_pages_are_run_here():
    for page in sorted((ROOT / "docs").glob("*.md")):
        titled = re.findall(r"^```\w+ title=", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert page == PAGE or not titled
