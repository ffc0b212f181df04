"""docs/models.md is what docs/make_models_page.py writes."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from tiny_models import causal_lm_types

DOCS = Path(__file__).resolve().parents[2] / "docs"
SAMPLE = [
    "bloom", "blt", "cpmant", "deepseek_v4", "gemma4_assistant", "gpt_oss", "jamba", "llama",
    "mamba", "qwen3_next", "rwkv", "zamba2",
]  # fmt: skip
AGAIN = "run `python docs/make_models_page.py` and commit docs/models.md"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("make_models_page", DOCS / "make_models_page.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "models.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(page) -> dict[str, list[str]]:
    """The cells of each row, by model type."""
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines]
    assert {len(row) for row in cells} == {4}
    assert len({row[0] for row in cells}) == len(cells)
    return {row[0].strip("`"): row[1:] for row in cells}


def counted(cell: str) -> int:
    return sum(int(number) for number in re.findall(r"(\d+) x ", cell))


def test_each_type_has_one_row(rows) -> None:
    assert list(rows) == causal_lm_types()


def test_totals_are_those_of_the_rows(page, rows) -> None:
    unbuilt = {name for name, row in rows.items() if row[2].startswith("cannot be built: ")}
    measured = {name for name, row in rows.items() if row[0] != "-"}
    complete = {name for name in measured if rows[name][2] == "-"}
    refused = set(rows) - measured - unbuilt
    mixers = sum(counted(row[0]) for row in rows.values())
    for total in (
        f"each of the {len(rows)} model types",
        f"* {len(complete)} types: every mixer was analysed",
        f"* {len(measured - complete)} types: some mixers",
        f"* {len(refused)} types: no mixer is known",
        f"* {len(unbuilt)} types cannot be built",
        f"{mixers} mixers were analysed",
    ):
        assert total in page
    assert {rows[name][1] for name in measured} <= {"<= 2e-6", "<= 2e-5"}
    assert all(counted(rows[name][2]) > 0 for name in refused)


@pytest.mark.parametrize("model_type", SAMPLE)
def test_rows_are_what_the_generator_finds(generator, page, model_type: str) -> None:
    written = next(line for line in page.splitlines() if line.startswith(f"| `{model_type}` |"))
    assert generator.row_of(model_type).as_markdown() == written, AGAIN


def test_a_page_is_head_and_rows(generator, page) -> None:
    found = [generator.row_of(model_type) for model_type in ("gpt2", "gemma4_assistant", "mamba")]
    written = generator.page_of(found).splitlines()
    assert written[0] == page.splitlines()[0]
    assert [line for line in written if line.startswith("| `")] == [
        row.as_markdown() for row in found
    ]
    assert "each of the 3 model types" in "\n".join(written)
    assert "* 1 types cannot be built" in "\n".join(written)


def test_residuals_are_given_as_bounds(generator) -> None:
    residuals = (0.0, 1.9e-6, 2.1e-6, 9e-5, 1.0)
    bounds = [generator.residual_class(residual) for residual in residuals]
    assert bounds == ["<= 2e-6", "<= 2e-6", "<= 2e-5", "<= 1e-4", "> 1e-4"]
