"""Every benchmark runs with tiny parameters and gives the keys that the page reads."""

from __future__ import annotations

import math

import pytest

SHAPES = ["--channels", 3, "--heads", 2, "--head-size", 8, "--states", 4]
TINY_GPU = ["--device", "cpu", *SHAPES, "--positions", 3, "--listing-positions", 2]
NO_BASELINE = 1.0


def assert_positive(numbers) -> None:
    assert all(math.isfinite(number) and number > 0 for number in numbers)


@pytest.fixture
def rows(load_script):
    """What the page makes of an output: rows whose keys differ, with figures."""
    module = load_script("performance_rows")

    def make(kind: str, output) -> dict[str, str]:
        made = list(getattr(module, kind)(output))
        texts = {row.key: row.text for row in made}
        assert len(texts) == len(made) > 0
        assert all(texts.values())
        return texts

    return make


def check_attention(result, length: int, heads: int) -> None:
    assert (result["length"], result["heads"]) == (length, heads)
    methods = result["methods"]
    assert list(methods) == ["listing", "exact", "counts", "entropy", "certified"]
    sampled = result["listing_measured_at_positions"]
    assert [row["positions"] for row in methods.values()] == [sampled] * 2 + [length - 1] * 3
    for row in methods.values():
        assert_positive(value for key, value in row.items() if key != "largest_half_width")
    assert methods["listing"]["times_faster_than_listing"] == NO_BASELINE
    assert 0 < methods["certified"]["largest_half_width"] <= 0.01
    check = result["check"]
    assert check["counts"] == 3 * check["heads"] * (length - 1)
    assert check["intervals"] + check["decomposed"] == check["heads"] * (length - 1)
    assert check["intervals"] > 0
    assert check["raw_count_mismatches"] == check["certified_count_violations"] == 0
    assert check["interval_violations"] == 0
    assert 0 < check["largest_entropy_error"] <= check["largest_half_width"] * 1.02 <= 0.0102
    # Heads of random models are nearly of rank one, which Gram matrices resolve less well.
    assert check["largest_decomposed_error"] < 1e-5


def test_attention_on_synthetic_heads(run_script, rows) -> None:
    arguments = ["--lengths", 72, "--heads", 2, "--repeats", 1, "--check", "heads"]
    printed = run_script("attention_spectra", "--synthetic", *arguments)
    assert "(listing scaled)" in rows("attention", printed)["attention.72.counts"]
    (result,) = printed["results"]
    violations = rows("correctness", printed)["correctness.72.2-heads.interval_violations"]
    assert violations == f"0 of {result['check']['intervals']}"
    assert result["attention"] == "synthetic"
    check_attention(result, 72, 2)


def test_attention_of_a_model_all_heads_checked(run_script, llama_folder) -> None:
    arguments = ["--lengths", 64, "--heads", 2, "--repeats", 1, "--check", "all"]
    (result,) = run_script("attention_spectra", "--model", llama_folder, *arguments)["results"]
    assert result["attention"] == "real"
    assert result["check"]["heads"] > 2
    check_attention(result, 64, 2)


def test_listing_is_scaled_by_positions(load_script) -> None:
    script = load_script("attention_spectra")
    slow, fast = script.Cost(6.0, 4.0), script.Cost(1.0, 2.0)
    row = script._row(fast, slow, 5.0, 2)
    assert row["times_faster_than_listing"] == 30
    assert row["times_less_processor_than_listing"] == 10
    assert (row["ms_per_head"], row["processor_ms_per_head"]) == (500, 1000)


def test_wrong_counts_are_found(load_script, monkeypatch) -> None:
    script, heads = load_script("correctness"), load_script("attention_heads")
    right = script.counts_above
    monkeypatch.setattr(script, "counts_above", lambda *arguments: right(*arguments) + 1)
    compared = script.compare([heads.peaked_attention(1, 24)], [1e-3])
    assert compared.raw_count_mismatches == compared.counts == 23
    assert compared.certified_count_violations == 0


def test_violated_intervals_are_found(load_script, monkeypatch) -> None:
    script, heads = load_script("correctness"), load_script("attention_heads")
    right = script.entropy_ess
    monkeypatch.setattr(script, "entropy_ess", lambda values: 1.1 * right(values))
    compared = script.compare([heads.peaked_attention(1, 64)], [1e-3])
    assert compared.interval_violations == compared.intervals > 0


def test_whole_model(run_script, rows, llama_folder) -> None:
    arguments = ["--tokens", 40, "--repetitions", 1, "--threads", 1, "--model", llama_folder]
    printed = run_script("whole_model", *arguments)
    assert set(rows("whole_model", printed)) == {"whole-model.40.exact", "whole-model.40.certified"}
    exact, certified = printed["results"]
    assert (exact["accuracy"], certified["accuracy"]) == ("exact", "certified")
    assert certified["positions"] == 39
    for result in (exact, certified):
        assert result["tokens"] == 40
        assert "/" not in result["model"]
        assert_positive([result["multiple_of_forward"], result["multiple_in_processor_time"]])
        assert result["peak_memory_above_model"] >= 0


@pytest.mark.parametrize(("positions", "expected"), [("5", 5), ("all", 39), ("auto", 39)])
def test_whole_model_at_chosen_positions(run_script, llama_folder, positions, expected) -> None:
    arguments = ["--tokens", 40, "--repetitions", 1, "--model", llama_folder]
    (result,) = run_script("whole_model", *arguments, "--positions", positions)["results"]
    assert result["positions"] == expected
    (result,) = run_script("whole_model", *arguments, "--accuracy", "exact")["results"]
    assert result["accuracy"] == "exact"


def test_products(run_script) -> None:
    result = run_script("products", "--sizes", 16, 32, "--repetitions", 1)
    assert list(result["gflops"]) == ["16", "32"]
    assert_positive(result["gflops"].values())


def test_shapes_of_large_models_on_any_device(run_script, rows) -> None:
    printed = run_script("gpu_shapes", *TINY_GPU, "--length", 40, "--memory-budget", 2**24)
    assert printed["device"] == "cpu"
    assert set(rows("gpu", printed)) == {
        "gpu.falcon.exact",
        "gpu.llama.exact",
        "gpu.llama.certified",
    }
    results = printed["results"]
    assert set(results["falcon"]) == {"exact"}
    assert set(results["llama"]) == {"exact", "certified"}
    for part, layers in (("falcon", 64), ("llama", 32)):
        for result in results[part].values():
            assert (result["layers"], result["layers_measured"]) == (layers, 1)
            assert result["scaled"]
            per_layer = result["seconds_per_layer"]
            assert result["seconds_of_all_layers"] == pytest.approx(layers * per_layer)
            assert_positive([per_layer, result["times_faster_than_listing"]])
    assert results["llama"]["certified"]["positions"] == 39
    assert results["llama"]["exact"]["positions"] == 3


def test_recurrence(run_script, rows) -> None:
    arguments = ["--channels", 3, "--states", 4, "--length", 48, "--baseline-channels", 1]
    results = run_script("recurrent", "speed", "every", *arguments, "--repetitions", 1)
    assert results["speed"]["largest_error_relative_to_s1"] < 1e-10
    assert results["every"]["positions"] == 47
    assert "times faster" in rows("recurrence", results)["recurrence.svdvals"]


def test_windows(run_script, rows) -> None:
    arguments = ["--lengths", 256, "--windows", 8, "--positions", 8, "--repetitions", 1]
    printed = run_script("windows", *arguments)
    (result,) = printed["results"]
    assert_positive([result["spectra_ms"], result["rows_ms"]])
    assert list(printed["growth"]) == ["8"]
    assert set(rows("windows", printed)) == {"windows.8.256", "windows.8.growth"}


def test_a_layer_of_falcon(run_script, rows) -> None:
    printed = run_script("recurrent", "falcon", "--falcon-channels", 2)
    assert printed["falcon"]["positions"] == 64
    assert set(rows("falcon", printed)) == {"falcon-layer.seconds"}
