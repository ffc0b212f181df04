"""`import hf_ess` costs nothing, and a saved report needs neither torch nor transformers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from tiny_models import build_tiny

import hf_ess

HEAVY = {"torch", "transformers", "gradio", "datasets", "matplotlib", "pandas", "scipy", "gguf"}
LONGEST_IMPORT = 0.5
# What measuring loads beyond torch and transformers: first-use names pull in the whole house.
LONGEST_FIRST_USE = 1.5
FIRST_USE = (
    "import hf_ess\n"
    "hf_ess.analyze, hf_ess.record_operators, hf_ess.block_singular_values, hf_ess.ESSReport"
)


def _modules_after(code, before="pass"):
    """What a fresh interpreter imports by the code, and the seconds that it computes for it."""
    script = (
        "import json, sys, time\n"
        f"{before}\n"
        "known = set(sys.modules)\n"
        "start = time.process_time()\n"
        f"{code}\n"
        "seconds = time.process_time() - start\n"
        "print(json.dumps([seconds, [name.split('.')[0] for name in set(sys.modules) - known]]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    seconds, names = json.loads(ended.stdout.splitlines()[-1])
    return seconds, set(names)


def test_import_is_fast_and_light():
    seconds, modules = _modules_after("import hf_ess; dir(hf_ess); hf_ess.InvalidInputError")
    assert "hf_ess" in modules
    assert not modules & (HEAVY | {"numpy", "typer", "huggingface_hub", "model_adapters"})
    assert seconds < LONGEST_IMPORT


def test_the_first_use_loads_little_beyond_torch_and_transformers():
    before = "from transformers import AttentionInterface, AutoModelForCausalLM, LlamaForCausalLM"
    tries = []
    # A machine that does much else may be slow once; it computes no less.
    while len(tries) < 3 and (not tries or min(tries) >= LONGEST_FIRST_USE):
        seconds, modules = _modules_after(FIRST_USE, before)
        tries.append(seconds)
    assert "model_adapters" in modules
    assert not modules & (HEAVY | {"typer", "rich"})
    assert min(tries) < LONGEST_FIRST_USE


def test_the_command_line_starts_without_models():
    seconds, modules = _modules_after("import hf_ess.cli")
    assert "typer" in modules
    assert not modules & HEAVY
    assert seconds < 2 * LONGEST_IMPORT


def test_a_saved_report_is_read_without_models(tmp_path):
    ids = torch.arange(2, 14)[None]
    report = hf_ess.analyze(build_tiny("llama"), ids, progress=False)
    report.save(tmp_path)
    _, modules = _modules_after(
        "import hf_ess\n"
        f"report = hf_ess.ESSReport.load({str(tmp_path)!r})\n"
        f"assert report.fingerprint() == {report.fingerprint()!r}\n"
        f"assert report.average_ess() == {report.average_ess()!r}\n"
        "report.summary(); report.to_dict(); report.total_ess_by_position()"
    )
    assert "hf_ess" in modules
    assert not modules & HEAVY


@pytest.mark.parametrize("name", sorted(hf_ess.__all__))
def test_every_public_name_is_there_and_documented(name):
    value = getattr(hf_ess, name)
    assert name in dir(hf_ess)
    assert name == "__version__" or value.__doc__.strip()


def test_lazy_names_are_the_public_ones():
    assert set(hf_ess._HOME_OF) < set(hf_ess.__all__)
    assert len(set(hf_ess.__all__)) == len(hf_ess.__all__)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'hf_ess' has no attribute 'nonsense'"):
        hf_ess.nonsense  # noqa: B018
