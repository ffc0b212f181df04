"""Before training, which mixers turn a larger state into use?"""

from __future__ import annotations

import re
from copy import copy
from pathlib import Path

import pytest
import torch

import hf_ess
from hf_ess.lab.paper.noise_probe import builder

STATES = (16, 64)
# Measured on the paper's mixers without this code: L = 256, mean over positions.
GLA = (11.5, 20.4)
SLOW = (12.9, 25.8)
# GLA-S6 with alpha 1 by the same measurement, of one seed.
READ_BEFORE_UPDATE = {16: 1.4, 32: 1.4, 64: 1.3, 128: 1.2}


def test_capacity_becomes_use_in_gla_and_not_in_s6(run_script, tmp_path) -> None:
    plot = tmp_path / "initialization.png"
    printed = run_script("initialization", "--states", *STATES, "--seeds", 2, "--plot", plot)
    rows, verdicts = printed["rows"], printed["verdicts"]
    means = {name: [row[str(state)]["mean"] for state in STATES] for name, row in rows.items()}
    assert means["GLA"] == pytest.approx(GLA, rel=0.02)
    assert means["GLA-S6, alpha = 1024"] == pytest.approx(SLOW, rel=0.02)
    assert means["GLA-S6, alpha = 1"] == pytest.approx((1.44, 1.44), abs=0.06)
    assert means["S6, alpha = 1"] == pytest.approx((6.0, 6.8), abs=0.6)
    assert means["S6, alpha = 1024"] == pytest.approx((12.0, 27.3), rel=0.03)
    kinds = {name: (verdict["kind"], verdict["remedy"]) for name, verdict in verdicts.items()}
    assert kinds == {"S6": ("unused", 1024), "GLA": ("used", None), "GLA-S6": ("unused", 1024)}
    errors = [row[str(state)]["standard_error"] for row in rows.values() for state in STATES]
    assert all(0 < error < 1 for error in errors)
    assert plot.stat().st_size > 10_000


def test_the_table_of_the_page_is_that_of_the_script(run_script) -> None:
    page = (Path(__file__).parents[2] / "docs" / "initialization.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\S.*?) \| (\S.*) \|$", page, re.MULTILINE))
    columns = table["N"].split(" | ")
    chosen = ["--states", *STATES, "--mixers", "GLA", "GLA-S6", "--seeds", 5]
    for name, row in run_script("initialization", *chosen)["rows"].items():
        cells = dict(zip(columns, table[name].split(" | "), strict=True))
        for state, figures in row.items():
            mean, error = map(float, cells[state].split(" ± "))
            assert mean == pytest.approx(figures["mean"], abs=0.051)
            assert error == pytest.approx(figures["standard_error"], abs=0.051)


def mean_ess(build, state: int, reads: str) -> float:
    found = []

    def measure(layer) -> None:
        operator = copy(layer.operator)
        operator.reads = reads
        values = hf_ess.block_singular_values(operator, range(1, 256, 4)).values
        found.append(float(hf_ess.entropy_ess(values).mean()))

    for seed in range(5):
        noise = torch.randn(1, 256, 128, generator=torch.Generator().manual_seed(seed))
        model = build(state, seed)
        with torch.no_grad(), hf_ess.record_operators(model, measure):
            model(inputs_embeds=noise)
    return sum(found) / len(found)


def test_a_state_read_before_its_update_is_why_the_figures_fall() -> None:
    """The paper's `M_ij = C_i A_{i-1} .. A_{j+1} B_j`; software has `A_i .. A_{j+1}`."""
    build = builder("GLA-S6")
    before = {state: mean_ess(build, state, "before") for state in READ_BEFORE_UPDATE}
    assert before == pytest.approx(READ_BEFORE_UPDATE, abs=0.09)
    assert sorted(before.values(), reverse=True) == list(before.values())
    assert mean_ess(build, 128, "after") > before[128] + 0.15
