"""Means over layers hide nothing that a layer lacks."""

from __future__ import annotations

import pandas as pd

from hf_ess.lab.paper.runs import by_run


def test_a_mean_over_layers_needs_them_all():
    names = ["run", "step", "accuracy", "index", "mixer", "state_size", "entropy_ess", "verified"]
    table = pd.DataFrame(
        [
            ("a", 0, 0.1, 0, "gla", 4, 1.0, True),
            ("a", 0, 0.1, 1, "gla", 8, 2.0, True),
            ("a", 5, 0.7, 0, "gla", 4, 1.0, True),
            ("a", 5, 0.7, 1, "gla", None, None, False),
            ("b", 0, 0.2, 0, "gla", 4, 3.0, True),
            ("b", 0, 0.2, 1, "attention", None, 5.0, True),
        ],
        columns=names,
    )
    rows = by_run(table.astype({"state_size": object}))
    expected = pd.DataFrame(
        [
            ("a", 0, 0.1, 6.0, 1.5, True),
            ("a", 5, 0.7, None, None, False),
            ("b", 0, 0.2, None, 4.0, True),
        ],
        columns=["run", "step", "accuracy", "state_size", "entropy_ess", "verified"],
    )
    pd.testing.assert_frame_equal(rows, expected)
