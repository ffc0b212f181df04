"""Before training, which mixers turn a larger state into use?"""

from __future__ import annotations

import pytest

STATES = (16, 64)
# Measured on the paper's mixers without this code: L = 256, mean over positions.
GLA = (11.5, 20.4)
SLOW = (12.9, 25.8)


def test_capacity_becomes_use_in_gla_and_not_in_s6(run_script) -> None:
    rows = run_script("initialization", "--states", *STATES, "--seeds", 2)
    means = {name: [row[str(state)]["mean"] for state in STATES] for name, row in rows.items()}
    assert means["GLA"] == pytest.approx(GLA, rel=0.03)
    assert means["GLA-S6, alpha 1024"] == pytest.approx(SLOW, rel=0.03)
    assert means["GLA-S6, alpha 1"] == pytest.approx((1.4, 1.3), abs=0.25)
    assert all(3.5 < mean < 8.5 for mean in means["S6"])
    assert max(means["S6"]) < 1.7 * min(means["S6"])
    errors = [row[str(state)]["standard_error"] for row in rows.values() for state in STATES]
    assert all(0 < error < 2 for error in errors)
