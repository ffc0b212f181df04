"""Means over layers hide nothing that a layer lacks."""

from __future__ import annotations

import pandas as pd

from hf_ess.lab.paper.runs import by_run, complete


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


def test_texts_of_several_numbers_of_pairs_are_rows_apart():
    layer = {"run": "a", "step": 5, "mixer": "gla", "state_size": 4, "verified": True}
    table = pd.DataFrame(
        layer | {"pairs": pairs, "index": index, "accuracy": 1 / pairs, "entropy_ess": ess}
        for pairs, esses in {8: (1.0, 2.0), 2: (3.0, 5.0)}.items()
        for index, ess in enumerate(esses)
    )
    rows = by_run(table)
    assert list(rows["pairs"]) == [8, 2]
    assert list(rows["accuracy"]) == [0.125, 0.5]
    assert list(rows["entropy_ess"]) == [1.5, 4.0]


def test_a_run_that_lacks_something_in_one_layer_is_named_and_left_out():
    run = {"model.mixers": "LA", "beta": None, "learning_rate": 2e-3, "seed": 0, "ess": 1.0}
    rows = pd.DataFrame(
        [
            run | {"verified": True},
            run | {"verified": False},
            run | {"seed": 1, "verified": True},
            run | {"seed": 2, "verified": True, "ess": None},
            run | {"seed": 3, "verified": None},
            run | {"seed": 4, "verified": True, "beta": 16.0, "ess": None},
        ]
    )
    names = ["model.mixers", "beta", "learning_rate", "seed"]
    whole, words = complete(rows, ["ess"], names)
    assert list(whole["seed"]) == [1]
    assert words == (
        " Left out, not measured or not verified: "
        "mixers LA, learning rate 0.002, seed 0; mixers LA, learning rate 0.002, seed 2; "
        "mixers LA, learning rate 0.002, seed 3; "
        "mixers LA, beta 16, learning rate 0.002, seed 4."
    )
    assert complete(whole, ["ess"], names)[1] == ""
    assert len(complete(rows.drop(columns="verified"), ["ess"], names)[0]) == 4
    assert complete(rows[:0], ["ess"], names)[1] == ""
