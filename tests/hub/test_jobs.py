"""`hf-ess analyze --job` with the real client, against a small Hub on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hub.jobs_server import JobsServer
from hub.local_server import serving
from huggingface_hub import HfApi, constants
from trained_checkpoints import save_trained

import hf_ess
from hf_ess.hub import JobRequest, follow_job, submit_job
from hf_ess.hub.jobs import IMAGE, MOST_TEXT_BYTES

TOKEN = "hf_a_secret_token"
PACKAGE = f"hf-ess=={hf_ess.__version__}"
RUN = ["uv", "run", "--with", PACKAGE]


@pytest.fixture
def server(clean_client, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(JobsServer()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def submit(server, run_command):
    """Runs `hf-ess analyze` with a job; status, stdout, stderr, none of which shows the token."""

    def run(*options, flavor="cpu-basic"):
        ended = run_command("analyze", "org/model", "--job", flavor, *options)
        assert TOKEN not in ended[1] + ended[2]
        return ended

    return run


def test_what_arrives(server, submit):
    status, stdout, stderr = submit("--text", "a text", "--job-timeout", "90m")
    assert (status, stdout) == (0, f"job 68b1f0: {server.url}/jobs/me/68b1f0\n")
    assert "--job-output also keeps the report" in stderr
    (job,) = server.jobs
    assert (job["namespace"], job["authorization"]) == ("me", f"Bearer {TOKEN}")
    name = job["json"]["labels"].pop("name")
    assert name.startswith("uv-python3-12-bookworm")
    assert job["json"] == {
        "command": [*RUN, "hf-ess", "analyze", "org/model", "--text=a text"],
        "arguments": [],
        "environment": {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        "secrets": {"HF_TOKEN": TOKEN},
        "flavor": "cpu-basic",
        "timeoutSeconds": 5400,
        "labels": {"hf-ess": "analyze"},
        "dockerImage": IMAGE,
    }


def test_every_option_goes_along(server, submit, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("--a text\nof two lines", encoding="utf-8-sig")
    options = [
        *("--positions", "8,16", "--tolerance", "0.1", "--tolerance", "1e-5", "--relative"),
        *("--window", "4,8", "--layers", "0,2-3", "--batch-size", "2", "--no-plots"),
        *("--format", "json", "--device", "cuda", "--trust-remote-code", "--scope", "mixer"),
    ]
    texts = ["--file", file, "--text", "first"]
    assert submit(*options, *texts, "--job-namespace", "our-team", flavor="a10g-small")[0] == 0
    (job,) = server.jobs
    assert job["namespace"] == "our-team"
    command = job["json"]["command"]
    assert command[: len(RUN) + 3] == [*RUN, "hf-ess", "analyze", "org/model"]
    sent = command[len(RUN) + 3 :]
    assert sent[-2:] == ["--text=first", "--text=--a text\nof two lines"]
    assert sorted(sent[:-2]) == sorted(
        [
            *("--positions=8,16", "--tolerance=0.1", "--tolerance=1e-05", "--relative"),
            *("--window=4,8", "--layers=0,2-3", "--batch-size=2", "--no-plots"),
            *("--format=json", "--device=cuda", "--trust-remote-code", "--scope=mixer"),
        ]
    )


def test_the_sent_command_is_understood(server, submit, run_command, llama_folder):
    """What the job would run, run here, on a model that is here."""
    given = ["--positions", "2,3", "--no-plots", "--format", "json"]
    texts = ["--text", "w1 w2 w3 w4 w5", "--text", "- w6 w7 w8 w9"]
    submit(*given, *texts)
    command = server.jobs[0]["json"]["command"]
    sent = command[command.index("analyze") + 2 :]
    there, here = (
        run_command("analyze", llama_folder, *words) for words in (sent, [*given, *texts])
    )
    assert there[0] == here[0] == 0
    assert json.loads(there[1])["layers"] == json.loads(here[1])["layers"]


def test_the_report_goes_into_a_repository(server, submit):
    assert submit("--text", "it's", "--job-output", "me/reports/2026")[2] == ""
    command = server.jobs[0]["json"]["command"]
    assert command[: len(RUN) + 2] == [*RUN, "sh", "-c"]
    script, *arguments = command[len(RUN) + 2 :]
    assert script == (
        'hf-ess "$@" --out /tmp/hf_ess_report && '
        "hf upload me/reports /tmp/hf_ess_report 2026 --repo-type dataset --private"
    )
    assert arguments == ["hf-ess", "analyze", "org/model", "--text=it's"]


def test_the_script_keeps_what_the_user_wrote(tmp_path):
    """Run by a real shell, with programs that only say what they were called with."""
    for name in ("hf-ess", "hf"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name}\nprintf "<%s>\\n" "$@"\n')
        program.chmod(0o755)
    nasty = '--text=it\'s $HOME; "quoted" `x`\nand more'
    request = JobRequest("cpu-basic", ["org/model", nasty], "hf-ess", output="me/reports")
    shell = request.command[request.command.index("sh") :]
    ended = subprocess.run(
        shell, env={"PATH": f"{tmp_path}:/bin:/usr/bin"}, capture_output=True, text=True, check=True
    )
    first, second = ended.stdout.split("hf\n<")
    assert first == f"hf-ess\n<analyze>\n<org/model>\n<{nasty}>\n<--out>\n</tmp/hf_ess_report>\n"
    assert second.startswith("upload>\n<me/reports>\n</tmp/hf_ess_report>\n<org--model>\n")


def test_json(server, submit):
    _, stdout, _ = submit("--text", "a", "--format", "json")
    expected = {"id": "68b1f0", "url": f"{server.url}/jobs/me/68b1f0", "flavor": "cpu-basic"}
    assert json.loads(stdout) == expected


def test_the_log_is_followed(server, submit):
    server.stages = ["RUNNING", "COMPLETED"]
    status, stdout, stderr = submit("--text", "a", "--job-wait")
    assert (status, stdout) == (0, "layer  entropy-ESS\n0  29.75\n")
    assert stderr == f"job 68b1f0: {server.url}/jobs/me/68b1f0\n"


@pytest.mark.parametrize("stage", ["ERROR", "CANCELED", "DELETED"])
def test_a_job_that_fails(server, submit, stage):
    server.stages, server.message = [stage], "Out of memory"
    status, _, stderr = submit("--text", "a", "--job-wait")
    assert status == 1
    assert f"The job 68b1f0 ended with {stage}: Out of memory." in stderr
    assert f"{server.url}/jobs/me/68b1f0" in stderr


def test_an_interrupt_leaves_the_job(server, submit, monkeypatch):
    def press(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(HfApi, "fetch_job_logs", press)
    status, _, stderr = submit("--text", "a", "--job-wait")
    assert status == 130
    assert "`hf jobs cancel 68b1f0` ends it" in stderr


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "hf auth login"),
        (402, "settings/billing"),
        (403, "job.write"),
        (404, "--job-namespace"),
        (422, "Change what the answer names"),
        (429, "Wait some minutes"),
        (500, "Try again later"),
        (503, "Try again later"),
    ],
)
def test_refusals(server, submit, status, said):
    server.refusal = status, "The Hub says no"
    ended, stdout, stderr = submit("--text", "a")
    assert (ended, stdout) == (1, "")
    assert f"error: The job was not started: the Hub answered {status}, " in stderr
    assert "The Hub says no" in stderr
    assert said in stderr
    assert not server.jobs


def test_an_unknown_flavor(server, submit):
    status, _, stderr = submit("--text", "a", flavor="h1000")
    assert status == 1
    assert "no machine of flavor 'h1000'" in stderr
    assert "cpu-basic, a10g-small" in stderr
    assert not server.jobs


def test_a_gpu_is_not_paid_for_to_stand_idle(server, submit):
    status, _, stderr = submit("--text", "a", flavor="a10g-small")
    assert status == 1
    assert "Give --device cuda" in stderr
    assert not server.jobs
    assert submit("--text", "a", "--device", "cpu", flavor="a10g-small")[0] == 0


def test_no_token(server, submit, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    status, _, stderr = submit("--text", "a")
    assert status == 1
    assert "hf auth login" in stderr
    assert not server.jobs


def test_no_network(server, submit, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    status, _, stderr = submit("--text", "a")
    assert status == 1
    assert "The job was not started: the Hub cannot be reached (ConnectError" in stderr


def test_offline(server, submit, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, _, stderr = submit("--text", "a")
    assert status == 1
    assert "Unset HF_HUB_OFFLINE" in stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "report"], "--job-output"),
        (["--job-output", "reports"], "user/name"),
        (["--job-timeout", "soon"], "is no time"),
        (["--text", "x" * MOST_TEXT_BYTES], "one file per job"),
    ],
)
def test_what_a_job_cannot_do(server, submit, options, said):
    status, _, stderr = submit("--text", "a", *options)
    assert status == 1
    assert said in stderr
    assert not server.jobs


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_models_of_this_machine_are_refused(server, run_command, llama_folder, kind):
    model = llama_folder if kind == "folder" else "somewhere/model.gguf"
    status, _, stderr = run_command("analyze", model, "--text", "a", "--job", "cpu-basic")
    assert status == 1
    assert "hf upload" in stderr
    assert not server.jobs


def test_a_shipped_checkpoint_is_there_too(server, run_command, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_ess.shipped.SHIPPED", tmp_path)
    save_trained(tmp_path / "small-gla")
    status, _, stderr = run_command("analyze", "small-gla", "--samples", "2", "--job", "cpu-basic")
    assert status == 0, stderr
    (job,) = server.jobs
    assert job["json"]["command"] == [*RUN, "hf-ess", "analyze", "small-gla", "--samples=2"]


def test_options_of_a_job_without_a_job(run_command):
    status, _, stderr = run_command("analyze", "org/model", "--text", "a", "--job-wait")
    assert status == 1
    assert "without --job" in stderr


def test_from_python(server):
    api = HfApi(endpoint=server.url, token=TOKEN)
    job = submit_job(JobRequest("cpu-basic", ["org/model", "--text=a"], "hf-ess"), api)
    lines = []
    follow_job(job, api, lines.append)
    assert lines == server.log[1:]
    server.stages = ["ERROR"]
    with pytest.raises(hf_ess.JobError, match="ended with ERROR"):
        follow_job(job, api, lines.append)


def test_as_a_process(server):
    """HF_ENDPOINT decides, as for everything else of the Hub."""
    options = ["org/model", "--text", "a", "--job", "cpu-basic"]
    ended = subprocess.run(
        [sys.executable, "-m", "hf_ess", "analyze", *options],
        env=os.environ
        | {
            "HF_ENDPOINT": server.url,
            "HF_HUB_OFFLINE": "0",
            "PYTHONPATH": str(Path(hf_ess.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"job 68b1f0: {server.url}/jobs/me/68b1f0\n"
    assert TOKEN not in ended.stderr
    assert len(server.jobs) == 1
