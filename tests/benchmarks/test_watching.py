"""What watching a training costs is measured as the page says."""

from __future__ import annotations


def test_the_script_trains_and_measures(run_script, tmp_path) -> None:
    plot = tmp_path / "watching.png"
    tiny = ["--length", 16, "--batch", 4, "--probe", 1, "--steps", 3, "--width", 16]
    found = run_script("watching", "--mixers", "GLA", *tiny, "--plot", plot)
    assert plot.stat().st_size > 10_000
    assert found["mixers"] == ["GLA"]
    assert found["steps"] == [0, 3]
    assert found["step_seconds"] > 0
    assert found["measurement_seconds"] > 0
    assert found["share"] > 0
