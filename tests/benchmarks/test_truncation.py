"""Truncation of a trained model: all ways at all sizes, and no block above its certificate."""

from __future__ import annotations

import pytest
from trained_checkpoints import TEST_SAMPLES, save_trained

from hf_ess.synthetics import TrainedCheckpoint


def test_every_way_is_measured_and_certified(run_script, tmp_path) -> None:
    folder = save_trained(tmp_path / "mixed", "GLA", "S6", "SA")
    (result,) = run_script("truncation", folder, "--sizes", 2, 8, "--seeds", 3, "--texts", 3)
    assert (result["checkpoint"], result["state_size"]) == ("mixed", 8)
    assert result["accuracy"] == TrainedCheckpoint.read(folder).accuracy
    rows = {(row["size"], row["way"]): row for row in result["rows"]}
    ways = ("operator", "magnitude", "random", "plan")
    assert list(rows) == [(size, way) for size in (2, 8) for way in ways]
    for (size, way), row in rows.items():
        per_text = 15 * (2 + 16)  # blocks of two heads of GLA, and of 16 channels of S6
        assert row["blocks"] == 2 * per_text * (3 if way == "random" else 1)
        assert row["violations"] == 0
        assert 0 <= row["tightest"] <= 1
        assert row["state_numbers"] <= 16 * (min(size, 8) + min(size, 4))
        if size == 8:
            assert row["accuracy"] == pytest.approx(result["accuracy"], abs=1e-12)
            assert row["relative_error"] < 1e-5
    assert rows[2, "random"]["standard_error"] >= 0
    assert rows[2, "operator"]["relative_error"] < rows[2, "random"]["relative_error"]
    assert TEST_SAMPLES > 2


def test_fits_make_up_for_more(run_script, tmp_path) -> None:
    folder = save_trained(tmp_path / "small", "GLA", "S6")
    arguments = ["truncation", folder, "--sizes", 2, "--seeds", 1, "--texts", 4]
    factors, fits = (run_script(*arguments, *more)[0]["rows"] for more in ((), ("--refit",)))
    for one, other in zip(factors, fits, strict=True):
        assert other["relative_error"] < one["relative_error"]
        assert other["violations"] == 0


def test_the_table(load_script, run_script, tmp_path) -> None:
    folder = save_trained(tmp_path / "small", "LA")
    results = run_script("truncation", folder, "--seeds", 1, "--texts", 2, "--no-rescale")
    assert [row["size"] for row in results[0]["rows"]][::4] == [4, 2]
    lines = load_script("truncation").table(results).splitlines()
    assert "small: accuracy" in lines[1]
    assert sum("0 of 60 above their bound" in line for line in lines) == 8
