"""`hf-ess push` and `hf-ess card`: addresses on stdout, remarks on stderr, nothing half-done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from report.synthetic import make_report

import hf_ess
from hf_ess.hub.card_markers import BEGIN, END
from hf_ess.hub.card_text import without_addition

pytestmark = [
    pytest.mark.usefixtures("quick_plots"),
    # The client sends large files in a way that its own HTTP library has deprecated.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning"),
]

CARD = b"---\nlicense: mit\n---\n# A model\n"


@pytest.fixture
def saved(tmp_path):
    return make_report().save(tmp_path / "report")


@pytest.fixture
def model(hub):
    return hub.repo("me/model", {"README.md": CARD})


def test_push(hub, model, saved, run_command):
    status, out, err = run_command("push", saved, "me/model", "--message", "Measured")
    assert status == 0
    assert out == f"{hub.url}/me/model/commit/{model.head()}\n"
    assert "wrote ess/report.json\n" in err
    assert model.commits[-1].message == "Measured"
    assert hub.me.token not in out + err


def test_nothing_to_push(hub, model, saved, run_command):
    run_command("push", saved, "me/model")
    status, out, err = run_command("push", saved, "me/model")
    assert (status, out) == (0, "")
    assert "me/model holds this report already; nothing was sent" in err
    assert len(model.commits) == 3


def test_pull_requests(hub, model, saved, run_command):
    for _ in range(2):
        status, out, _ = run_command("push", saved, "me/model", "--create-pr")
        assert (status, out) == (0, f"{hub.url}/me/model/discussions/1\n")
    assert len(model.pull_requests) == 1


def test_a_dry_run(hub, model, saved, run_command):
    status, out, err = run_command("push", saved, "me/model", "--dry-run")
    assert status == 0
    assert out.startswith("--- a/README.md\n+++ b/README.md\n")
    assert "would write README.md, ess/arrays.safetensors" in err
    assert len(model.commits) == 2


def test_json(hub, model, saved, run_command):
    status, out, _ = run_command("push", saved, "me/model", "--format", "json", "--no-card")
    result = json.loads(out)
    assert (status, result["changed"], result["repo_id"]) == (0, True, "me/model")
    assert result["oid"] == model.head()
    assert "README.md" not in result["paths"]
    assert model.files()["README.md"] == CARD


def test_other_options(hub, saved, run_command):
    benchmark = ["--benchmark-dataset", "org/bench", "--benchmark-task", "memory"]
    status, _, _ = run_command("push", saved, "me/new", "--private", "--include-text", *benchmark)
    repo = hub.repos["me/new"]
    assert (status, repo.private) == (0, True)
    assert b"word3" in repo.files()["ess/report.json"]
    assert b"org/bench" in repo.files()[".eval_results/hf_ess.yaml"]
    repo.branch("next")
    status, _, _ = run_command("push", saved, "me/new", "--revision", "next")
    assert status == 0
    assert repo.head("next") != repo.head()


def test_half_a_benchmark(hub, model, saved, run_command):
    status, _, err = run_command("push", saved, "me/model", "--benchmark-dataset", "org/bench")
    assert status == 1
    assert "--benchmark-task" in err
    assert not hub.requests


def test_a_report_of_the_hub_goes_to_its_model(hub, model, saved, run_command):
    runs = hub.repo("me/runs", repo_type="dataset")
    for path in saved.iterdir():
        runs.write(f"one/{path.name}", path.read_bytes())
    assert run_command("push", "datasets/me/runs/one", "me/model")[0] == 0
    status, out, err = run_command("push", "me/model", "me/model")
    assert (status, out) == (0, "")
    assert "already" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["no/report", "me/model"], "no folder of that name here"),
        (["./report", "me/model"], "Cannot read"),
        (["{saved}", "datasets/me/model"], "repositories of models only"),
        (["{saved}", "me/other"], "--private or --public"),
    ],
)
def test_errors(hub, model, saved, run_command, options, said):
    given = [option.format(saved=saved) for option in options]
    status, out, err = run_command("push", *given)
    assert (status, out) == (1, "")
    assert said in err[err.index("error: ") :]
    assert len(model.commits) == 2


def test_the_section_alone(hub, saved, run_command):
    status, out, err = run_command("card", saved, "--repo", "me/model")
    assert (status, err) == (0, "")
    assert out.startswith(f"{BEGIN}\n\n## ")
    assert out.endswith(f"\n\n{END}\n")
    assert "word3" not in out
    assert not hub.requests


def test_the_section_is_what_is_pushed(hub, model, saved, run_command):
    _, section, _ = run_command("card", saved, "--repo", "me/model")
    run_command("push", saved, "me/model")
    inside = section.removeprefix(BEGIN).removesuffix(f"{END}\n").strip()
    assert inside in model.files()["README.md"].decode()


def test_a_section_that_was_pasted_is_found(hub, model, saved, run_command):
    _, section, _ = run_command("card", saved)
    model.write("README.md", CARD + b"\n" + section.encode() + b"\nMore.\n")
    run_command("push", saved, "me/model")
    card = model.files()["README.md"]
    assert card.count(b"hf_ess:begin") == 1
    assert b"More.\n" in without_addition(card)


def test_as_a_process(hub, model, saved):
    """HF_ENDPOINT and HF_TOKEN decide, and stdout holds the address alone."""
    ended = subprocess.run(
        [sys.executable, "-m", "hf_ess", "push", str(saved), "me/model"],
        env=hub.environment(hub.me, PYTHONPATH=str(Path(hf_ess.__file__).parents[1])),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{hub.url}/me/model/commit/{model.head()}\n"
    plots = [file for path, file in model.files().items() if path.endswith(".png")]
    assert len(plots) == 3
    assert min(map(len, plots)) > 10_000
    assert hub.me.token not in ended.stderr
    assert "Traceback" not in ended.stderr
