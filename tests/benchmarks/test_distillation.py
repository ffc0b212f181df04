"""Distillation of every layer of a trained model: what is measured, printed and drawn."""

from __future__ import annotations

from trained_checkpoints import save_trained

from hf_ess.synthetics import TrainedCheckpoint

QUICK = ("--sizes", 4, 2, "--steps", 2, 3, "--texts", 20)


def test_every_layer_with_a_state_is_distilled(run_script, tmp_path) -> None:
    folder = save_trained(tmp_path / "mixed", "GLA", "S6", "SA")
    drawn = tmp_path / "figure.png"
    (result,) = run_script("distillation", folder, *QUICK, "--plot", drawn)
    assert result["accuracy"] == TrainedCheckpoint.read(folder).accuracy
    found = [(row["layer"], row["size"], row["begins"]) for row in result["rows"]]
    # The state of GLA has 8 channels, that of S6 has 4.
    sizes = [(0, 4), (0, 2), (1, 2)]
    assert found == [(*one, begins) for one in sizes for begins in ("new", "truncated")]
    for row in result["rows"]:
        assert 1 <= row["entropy_ess"] <= 8
        assert min(row["operator_error"], row["activation_error"]) > 0
        assert row["operator_error_matched"] != row["operator_error_before"]
        assert row["operator_error_matched"] < 2 * row["operator_error_before"]
        assert 0 <= row["accuracy"] <= 1
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_the_table(load_script, run_script, tmp_path) -> None:
    folder = save_trained(tmp_path / "small", "LA")
    results = run_script("distillation", folder, *QUICK)
    lines = load_script("distillation").table(results).splitlines()
    assert "small: accuracy" in lines[1]
    assert [line.split()[3:5] for line in lines[3:]] == [
        ["4", "new"],
        ["4", "truncated"],
        ["2", "new"],
        ["2", "truncated"],
    ]
