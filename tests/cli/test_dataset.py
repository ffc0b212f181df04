"""`hf-ess analyze --dataset`: what it prints and keeps, and what it refuses."""

from __future__ import annotations

import json

import pytest
from tiny_checkpoints import some_text

import hf_ess
from hf_ess.report import ESSReport


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [{"text": some_text(14 + n % 2, seed=n)} for n in range(4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def fails(run_command, dataset, llama_folder):
    """Runs a command that must end with a named error, and returns the message."""

    def run(*options, model=llama_folder):
        status, out, err = run_command("analyze", model, *options)
        assert (status, out) == (1, "")
        assert "Traceback" not in err
        return err

    return run


def test_the_report_says_what_it_is_of(run_command, dataset, llama_folder, tmp_path):
    out = tmp_path / "report"
    options = ["--dataset", dataset, "--samples", 3, "--shuffle", 5, "--out", out, "--no-plots"]
    status, printed, err = run_command("analyze", llama_folder, *options, "--format", "json")
    assert status == 0, err
    assert "3 texts of texts.jsonl\n" in err
    assert len(json.loads(printed)["texts"]) == 3
    report = ESSReport.load(out)
    assert report.provenance["dataset"] == {"files": [str(dataset)], "samples": 3, "shuffle": 5}
    drawn = hf_ess.read_texts(dataset, samples=3, shuffle=5)
    same = hf_ess.analyze(str(llama_folder), drawn, progress=False)
    assert [x.text_sha256 for x in report.samples] == [x.text_sha256 for x in same.samples]
    assert sorted(path.name for path in out.iterdir()) == ["arrays.safetensors", "report.json"]


def test_without_a_folder_nothing_is_kept(run_command, dataset, llama_folder, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert run_command("analyze", llama_folder, "--dataset", dataset)[0] == 0
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "a"], "--column and --shuffle are for the texts of --dataset"),
        (["--shuffle", "1", "--text", "a b"], "--column and --shuffle are for the texts"),
        (["--dataset", "DATA", "--text", "a b"], "Give --text or --file or --dataset"),
        (["--dataset", "DATA", "--ids", "DATA"], "Give --ids or --dataset"),
        (["--dataset", "DATA", "--samples", "0"], "samples must be at least 1"),
        (["--dataset", "DATA", "--max-length", "1"], "max_length must be at least 2"),
        (["--dataset", "DATA", "--fresh"], "--fresh discards the checkpoint"),
        (["--dataset", "DATA", "--column", "b"], "Line 1 of DATA has no 'b': it has 'text'"),
        (["--dataset", "DATA", "--job", "cpu"], "lies on this machine"),
        (["--dataset", "none.jsonl"], "none.jsonl cannot be read: No such file"),
    ],
)
def test_refused(fails, dataset, options, message):
    words = [str(dataset) if word == "DATA" else word for word in options]
    assert message.replace("DATA", str(dataset)) in fails(*words)


def test_a_job_reads_no_files_of_this_machine(fails, dataset):
    message = fails("--dataset", dataset, "--job", "cpu", model="org/model")
    assert "--dataset names a file on this machine" in message


def test_a_checkpoint_trained_on_numbers_takes_no_words(fails, dataset):
    assert "was trained on numbers" in fails("--dataset", dataset, model="mqar-gla")


def test_the_line_of_a_text_that_fails_is_named(fails, dataset, tmp_path):
    with open(dataset, "a") as file:
        file.write('{"text": "w3"}\n')
    assert f"Line 5 of {dataset} has 1 token(s)" in fails("--dataset", dataset)


@pytest.mark.filterwarnings("ignore:1 of 5 texts")
def test_a_card_of_a_dataset_names_files_without_folders(
    run_command, dataset, llama_folder, tmp_path
):
    out = tmp_path / "report"
    with open(dataset, "a") as file:
        file.write('{"text": "w3"}\n')
    options = ["--dataset", dataset, "--leave-out-failing", "--out", out, "--no-plots"]
    status, _, err = run_command("analyze", llama_folder, *options)
    assert status == 0, err
    status, card, err = run_command("card", out)
    assert status == 0, err
    assert str(tmp_path) not in card
    assert "--dataset texts.jsonl" in card
    assert "1 of 5 texts could not be analysed" in card
    assert "Line 5 of texts.jsonl has 1 token" in card
