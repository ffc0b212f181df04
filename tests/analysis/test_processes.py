"""Several processes share one analysis: the report of one, and an end for all when one ends."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from launching import ENVIRONMENT, PATIENCE, torchrun
from tiny_checkpoints import some_text

import hf_ess
from hf_ess.analysis.sharding import SomeGroups, SomeLayers, WholeBatches, share_of

SCRIPT = Path(__file__).parent / "shared_work.py"


@pytest.fixture(scope="module", params=[2, 4])
def outcomes(request, tmp_path_factory):
    """What each of two or four processes says of every case, by rank; made once for all workers."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / f"outcomes of {request.param}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            ended = torchrun(request.param, SCRIPT, folder, "work")
            (folder / "stderr").write_text(f"{ended.returncode} {ended.stderr}")
    said = (folder / "stderr").read_text()
    assert said.startswith("0 "), said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(request.param)]


CASES = ["samples", "layers", "heads", "hybrid", "hybrid with convolutions", "channels"]


@pytest.mark.parametrize("case", [*CASES, "whole Jacobian"])
def test_the_report_of_a_single_process(outcomes, case):
    results = [outcome[case] for outcome in outcomes]
    assert {result["shared"] for result in results} == {results[0]["alone"]}
    assert len({result["created"] for result in results}) == 1


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_measured_twice(outcomes, case):
    measured = [outcome[case]["measured"] for outcome in outcomes]
    samples_at_once = {"samples": 5 / 4}.get(case, 1)
    groups = sum(groups for one in measured for _, groups in one)
    assert groups * samples_at_once == outcomes[0][case]["all groups"]
    assert all(measured)


def test_warnings_are_heard_once(outcomes):
    heard = [outcome["samples"]["heard"] for outcome in outcomes]
    assert heard[0] == outcomes[0]["samples"]["report warnings"] > 0
    assert not any(heard[1:])


def test_an_error_in_one_process_is_known_to_all(outcomes):
    results = [outcome["not a number"] for outcome in outcomes]
    own = [rank for rank, result in enumerate(results) if result["error"] == "NonFiniteError"]
    others = [result for rank, result in enumerate(results) if rank not in own]
    assert own
    assert others or len(outcomes) > 2
    for result in others:
        assert result["error"] == "ProcessFailedError"
        assert f"of {len(outcomes)} failed: NonFiniteError: " in result["message"]
        # Layers are shared out, and which process fails first is a race: one that owns the broken
        # layer sees its inputs, one that owns none sees the output of the whole model.
        assert re.search(
            r"NonFiniteError: The (inputs of layer model\.layers\.|model's output is NaN)",
            result["message"],
        )
        assert "model.embed_tokens.weight" in result["message"]
        assert any(f"Process {rank} " in result["message"] for rank in own)


def test_an_interrupt_ends_all(outcomes):
    results = [outcome["interrupted"] for outcome in outcomes]
    assert results[1]["error"] == "AnalysisInterrupted"
    for result in results[:1] + results[2:]:
        assert result["error"] == "ProcessFailedError"
        assert result["message"].startswith(f"Process 1 of {len(outcomes)} failed: it was inter")


def test_processes_with_different_texts_are_refused(outcomes):
    for outcome in outcomes:
        assert outcome["other texts"]["error"] == "InvalidInputError"
        assert "distributed=False" in outcome["other texts"]["message"]
        assert outcome["other texts, alone"] == {"layers": 2}


def test_after_a_failure_all_is_as_before(outcomes):
    for outcome in outcomes:
        assert "Position 61" in outcome["bad option"]["message"]
        assert outcome["afterwards"] == {"layers": 2}


def test_a_report_that_cannot_be_made_is_known_to_all(outcomes):
    first, *others = [outcome["no report"] for outcome in outcomes]
    assert first == {"error": "MemoryBudgetError", "message": "no room for a report"}
    for result in others:
        assert result["error"] == "ProcessFailedError"
        assert result["message"].endswith("failed: MemoryBudgetError: no room for a report")


def test_the_first_process_is_told_of_its_share_and_may_end_all(outcomes):
    told = [outcome["told"] for outcome in outcomes]
    assert told[0]
    assert told[0][-1] == [len(told[0])] * 2
    assert not any(told[1:])
    first, *others = [outcome["stopped"] for outcome in outcomes]
    assert first == {"error": "ReportError", "message": "seen enough"}
    for result in others:
        assert result["error"] == "ProcessFailedError"
        assert result["message"].endswith("failed: ReportError: seen enough")


def without_launcher(folder, scenario, ranks):
    """Statuses of processes that nobody supervises; two are announced, some are started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    announced = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), scenario],
            env=ENVIRONMENT | announced | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in ranks
    ]
    try:
        return [process.wait(timeout=PATIENCE) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_killed_process_ends_the_others_in_any_launcher(tmp_path):
    """Also in a program that has a process group of its own."""
    assert without_launcher(tmp_path, "guest", [0, 1]) == [0, -9]
    survivor = json.loads((tmp_path / "0.json").read_text())
    assert survivor["killed"]["error"] == "ProcessFailedError"
    assert survivor["killed"]["message"].startswith("A process is gone")
    assert (survivor["auto"], survivor["asked for"]) == (8, 4)


def test_a_process_that_never_comes(tmp_path):
    assert without_launcher(tmp_path, "lonely", [0]) == [0]
    lonely = json.loads((tmp_path / "0.json").read_text())["lonely"]
    assert lonely["error"] == "ProcessFailedError"
    assert "not all of them came to analyze within 1 seconds" in lonely["message"]


def test_a_killed_process_under_torchrun(tmp_path):
    begin = time.monotonic()
    ended = torchrun(2, SCRIPT, tmp_path, "killed")
    assert ended.returncode != 0
    assert "SIGKILL" in ended.stderr
    assert not (tmp_path / "1.json").exists()
    assert time.monotonic() - begin < PATIENCE


def test_the_command_prints_and_writes_once(run_command, llama_folder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(some_text(40))
    options = ["analyze", llama_folder, "--file", text, "--no-plots", "--format", "json", "--out"]
    assert run_command(*options, tmp_path / "alone")[0] == 0
    ended = torchrun(2, "-m", "hf_ess", *options, tmp_path / "shared")
    assert ended.returncode == 0, ended.stderr
    alone, shared = (hf_ess.ESSReport.load(tmp_path / name) for name in ("alone", "shared"))
    assert json.loads(ended.stdout)["layers"]
    assert ended.stderr.count("wrote ") == 2
    assert len(re.findall(r"Loading weights: +0%", ended.stderr)) == 1
    assert len(re.findall(r"Analysing: +0%", ended.stderr)) == 1
    assert [layer.name for layer in shared.layers] == [layer.name for layer in alone.layers]
    assert abs(shared.average_ess() - alone.average_ess()) < 1e-6


@pytest.mark.parametrize("words", [[], ["--file", "-"]])
def test_several_processes_have_no_stdin(run_command, monkeypatch, words):
    launcher = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    for name, value in (launcher | quiet).items():
        monkeypatch.setenv(name, value)
    status, stdout, stderr = run_command("analyze", "model", *words)
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error in process 1 of 2: Several processes cannot read one stdin.")


def test_an_unknown_way_to_share(tiny_llama):
    with pytest.raises(hf_ess.InvalidInputError, match=r"distributed must be .*'yes'"):
        hf_ess.analyze(tiny_llama, "text", None, distributed="yes")


def test_sharing_without_other_processes_is_no_sharing(tiny_llama):
    import torch

    ids = torch.arange(8, 20)[None]
    alone, asked = (
        hf_ess.analyze(tiny_llama, ids, progress=False, distributed=way) for way in (False, True)
    )
    assert asked.fingerprint() == alone.fingerprint()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("processes", "batches", "layers", "kind"),
    [(2, 2, 1, WholeBatches), (4, 3, 2, SomeLayers), (4, 1, 4, SomeLayers), (4, 1, 3, SomeGroups)],
)
def test_what_is_shared_out(processes, batches, layers, kind):
    shares = [share_of(rank, processes, [1.0] * batches, layers) for rank in range(processes)]
    assert {type(share) for share in shares} == {kind}


def test_long_texts_are_spread():
    costs = [1.0, 9.0, 1.0, 9.0, 4.0, 4.0]
    shares = [share_of(rank, 2, costs, 1).batches for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(6))
    assert [sum(costs[batch] for batch in share) for share in shares] == [14.0, 14.0]
