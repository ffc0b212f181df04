"""What the documentation of the page says of options and limits is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from hf_ess import ESSReport
from hf_ess.space.app import Settings
from hf_ess.space.limits import PREFIX, Limits
from hf_ess.space.prompts import separator_prompt

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / name).read_text("utf-8") for name in ("docs/space.md", "spaces/README.md")}
SIZES = {"MiB": 2**20, "GiB": 2**30}


def test_every_limit_has_its_default():
    table = dict(re.findall(rf"\| `{PREFIX}(\w+)` \| ([\d,]+(?: \w+)?) \|", PAGES["docs/space.md"]))
    defaults = Limits()
    assert set(table) == {field.name.upper() for field in fields(Limits)}
    for name, words in table.items():
        number, _, unit = words.partition(" ")
        said = int(number.replace(",", "")) * SIZES.get(unit, 1)
        assert said == getattr(defaults, name.lower()), name


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_those_that_are_read(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()
    usual = Settings.of_space()
    assert usual.reports == ("examples",)
    values = {"MODELS": "a b", "ANY_MODEL": "1", "REPORTS": "x", "RESULTS": "r", "KEEP_TEXTS": "0"}
    for name, value in values.items():
        assert f"HF_ESS_{name}" in PAGES[page]
        monkeypatch.setenv(f"HF_ESS_{name}", value)
    chosen = Settings.of_space()
    assert (chosen.models, chosen.any_model, chosen.reports) == (("a", "b"), True, ("x",))
    assert (chosen.results, chosen.keep_texts) == (Path("r"), False)
    named = set(re.findall(rf"`{PREFIX}(\w+)`", PAGES[page]))
    assert named <= {field.name.upper() for field in fields(Limits)}


def test_the_example_of_the_space_is_the_beginning_of_the_separator_prompt():
    report = ESSReport.load(ROOT / "spaces" / "examples" / "separators-smollm2")
    text = "".join(report.samples[0].tokens)
    assert separator_prompt().startswith(text)
    assert text.count("<|endoftext|>") == 3
    assert report.positions.tolist() == list(range(1, report.samples[0].length))
    assert len(report.verified_layers) == len(report.layers) == 30
    assert report.layers[0].singular_values is not None
