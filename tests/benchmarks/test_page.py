"""docs/performance.md is what benchmarks/performance_page.py makes of the committed results."""

from __future__ import annotations

import importlib.util
import json
import os
import re

import pytest

AGAIN = "run `make performance` and commit docs/performance.md"
HOST_OR_PATH = re.compile(r"/(home|work|tmp|root|Users)/")


@pytest.fixture(scope="module")
def page(load_script):
    return load_script("performance_page")


@pytest.fixture(scope="module")
def run_all(load_script):
    return load_script("run_all")


def attention_output(half_width: float = 0.006):
    row = {"ms_per_head": 50.0, "times_faster_than_listing": 20.0, "positions": 511}
    names = ("exact", "counts", "entropy", "certified")
    check = {
        "heads": 4,
        "counts": 6132,
        "raw_count_mismatches": 1,
        "undecided": 0,
        "certified_count_violations": 0,
        "decomposed": 184,
        "largest_decomposed_error": 3e-12,
        "intervals": 1860,
        "interval_violations": 0,
        "largest_entropy_error": 0.001,
        "largest_half_width": half_width,
    }
    result = {
        "length": 512,
        "threads": 1,
        "tolerances": [0.1, 0.001, 0.00001],
        "listing_measured_at_positions": 63,
        "methods": dict.fromkeys(names, row),
        "check": check,
    }
    return {"results": [result]}


def stored_with(**outputs):
    machine = {"processor": "Some CPU", "cores": 2, "torch": "2.13.0", "date": "2026-01-02"}
    return [{"machine": machine, "runs": {name: {"output": out} for name, out in outputs.items()}}]


def test_page_is_up_to_date(page) -> None:
    written = page.PAGE.read_text(encoding="utf-8")
    assert written == page.page_of(page.stored_results(), page.stored_targets()), AGAIN


def test_nothing_names_hosts_or_paths(page) -> None:
    texts = [page.PAGE, *page.RESULTS.glob("*.json")]
    assert len(texts) > 1
    for file in texts:
        text = file.read_text(encoding="utf-8")
        assert not HOST_OR_PATH.search(text)
        assert os.uname().nodename not in text.split()


def test_targets_belong_to_rows(page) -> None:
    stored = page.stored_results()
    runs = {run for section in page.SECTIONS for run, _ in section.runs}
    measured = runs <= {run for result in stored for run in result["runs"]} | {"gpu"}
    keys = {row.key for row in page.all_rows(stored)}
    strays = {key for key in set(page.stored_targets()) - keys if not key.startswith("gpu.")}
    assert not (measured and strays)
    for target in page.stored_targets().values():
        assert page.verdict(0.0, target)


def test_what_was_not_run_is_not_measured(page, run_all) -> None:
    text = page.page_of([], {})
    assert all(
        f"| `{name}` | not measured | | |" in text for name in run_all.RUNS if name != "products"
    )
    assert "python benchmarks/gpu_shapes.py --device cuda" in text
    assert "measured on a CPU" not in text


def test_rows_of_what_takes_long_to_run(load_script) -> None:
    rows = load_script("performance_rows")
    processes = {
        "processes": 2,
        "samples": 4,
        "tokens": 128,
        "speed_up": 1.8,
        "speed_up_in_processor_time": 1.9,
    }
    (row,) = rows.processes([processes])
    assert (row.value, row.text) == (1.8, "1.8 times faster, 1.9 in processor time")
    offload = {
        "weights": 1631.0,
        "peak_on_disk": 122.0,
        "peak_in_memory": 1702.0,
        "peak_on_disk_by_weights": 0.075,
        "same_report": True,
    }
    (row,) = rows.offload(offload)
    assert row.text.startswith("peak of 122 MiB; 1,702 MiB with")
    growth = {
        "channels": 64,
        "positions": 63,
        "seconds": {"1024": 0.1, "2048": 0.2},
        "largest_factor_per_doubling": 2.0,
    }
    million = {
        "channels": 16,
        "seconds_at_63_positions": 9.0,
        "processor_seconds_at_63_positions": 9.0,
        "peak_memory_mib_at_63_positions": 30.0,
        "of_that_result_mib_at_63_positions": 0.1,
    }
    doubling, long = rows.growth({"growth": growth, "million": million})
    assert doubling.what.endswith("each doubling from 1024 to 2048 tokens")
    assert long.text == "9 s; 0.1 MiB of results"


def test_targets_are_met_or_not(page) -> None:
    stored = stored_with(attention=attention_output())
    key = "attention.512.certified"
    for bound, verdict in ((10, "at least 10: met"), (30, "at least 30: **not met**")):
        text = page.page_of(stored, {key: {"at_least": bound}})
        assert verdict in text
    text = page.page_of(stored, {"correctness.512.4-heads.raw_count_mismatches": {"at_most": 0}})
    assert "| 1 of 6,132 | at most 0: **not met** | 1 |" in text
    assert "| `attention-2048` | not measured" in text
    with pytest.raises(ValueError, match="at_least"):
        page.page_of(stored, {key: {"about": 10}})


def test_projection_takes_what_was_measured(page, load_script) -> None:
    models = load_script("performance_models")
    runs = stored_with(
        attention=attention_output(), products={"threads": 1, "gflops": {"1024": 100.0}}
    )[0]["runs"]
    shifts, half = 16, 256
    flops = 2 * (16 / 7 + 104 / 63 * shifts) * half**3
    assert models.efficiency_of(runs) == {"dividing": pytest.approx(flops / 50e-3 / 100e9)}
    text = "\n".join(models.models_section([{"runs": runs}]))
    assert "measured on a CPU" in text
    assert "0.1, assumed" in text
    assert text.index("Projection, not measured") > text.index("## Cost models")


def test_cost_of_divide_and_conquer_is_that_of_its_tree(load_script) -> None:
    costs = load_script("cost_models")
    halves = [2.0**-depth for depth in range(1, 40)]
    eliminated = sum((1 / part - 1) * part**3 for part in halves) * 26 / 3
    assert pytest.approx(eliminated) == costs.FLOPS_PER_SHIFT
    assert pytest.approx(2 + sum(2 * part**3 for part in halves)) == costs.FLOPS_ONCE


def test_results_are_kept_beside_older_ones(run_all, tmp_path, monkeypatch, capsys) -> None:
    file = tmp_path / "some.json"
    described = {"processor": "Some CPU @ 2 GHz", "cores": 2, "torch": "1", "date": "2026-01-02"}
    monkeypatch.setitem(run_all.RUNS, "products", "products.py --sizes 8 --repetitions 1")
    monkeypatch.setitem(run_all.RUNS, "windows", "no_such_script.py")
    run_all.keep(file, described, "falcon-layer", {"old": 1})
    assert run_all.run_some(["products", "windows"], file, described) == ["windows"]
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert set(kept["runs"]) == {"falcon-layer", "products"}
    assert kept["runs"]["products"]["output"]["gflops"]["8"] > 0
    assert kept["runs"]["products"]["command"].startswith("python benchmarks/products.py")
    assert run_all.results_file(described).name == "some-cpu-2-ghz-2-cores.json"
    assert "windows failed" in capsys.readouterr().err


def test_machine_is_named_in_neutral_words(run_all) -> None:
    described = run_all.machine()
    assert {"processor", "cores", "torch", "date"} <= set(described)
    assert os.uname().nodename not in str(described).split()


@pytest.mark.parametrize("name", ["performance_page", "performance_rows", "cost_models"])
def test_commands_and_examples_exist(run_all, load_script, name) -> None:
    import doctest

    assert doctest.testmod(load_script(name)).failed == 0
    for command in run_all.RUNS.values():
        script = run_all.FOLDER / command.split()[0]
        assert importlib.util.spec_from_file_location("script", script)
        assert script.exists()
