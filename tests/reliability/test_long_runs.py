"""Analyses of many texts that are ended in the middle come to the same numbers, to the bit."""

from __future__ import annotations

import json
import random
import signal

import pytest
from reliability.forked_commands import Commands

import hf_ess
from hf_ess.report import ESSReport

PART = "Long runs"
TEXTS = 12
# What ends a run: at which batch, and whether its file has its name already.
POINTS = [(0, True), (1, False), (4, True), (6, False), (7, True)]


@pytest.fixture(scope="module")
def commands():
    with Commands() as started:
        yield started


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Texts of four lengths, some of them with lines and words that the tokenizer does not know."""
    chance = random.Random(0)
    path = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    lengths = [9, 14, 14, 25, 9, 14, 11, 25, 25, 9, 14, 14]
    assert len(lengths) == TEXTS
    with open(path, "w") as file:
        for length in lengths:
            words = [f"w{chance.randrange(60)}" for _ in range(length)]
            file.write(json.dumps({"id": length, "text": " ".join(words)}) + "\n")
    return path


@pytest.fixture
def command(llama_folder, corpus):
    """The arguments of an analysis into a folder, 8 batches of at most two texts."""

    def arguments(out, *more):
        options = ["--dataset", corpus, "--out", out, "--no-plots", "--batch-size", 2]
        return ["analyze", llama_folder, *options, *more]

    return arguments


@pytest.fixture(scope="module")
def undisturbed(commands, llama_folder, corpus, tmp_path_factory):
    """The folder of a run that nothing ended."""
    out = tmp_path_factory.mktemp("undisturbed")
    options = ["--dataset", corpus, "--out", out / "report", "--no-plots", "--batch-size", 2]
    run = commands.start(["analyze", llama_folder, *options], out)
    assert run.ended() == 0, run.messages.read_text()
    return out


def outcome(out):
    """What a run leaves: its table, the content of its JSON, and its arrays."""
    content = json.loads((out / "report" / "report.json").read_text())["content"]
    arrays = (out / "report" / "arrays.safetensors").read_bytes()
    return (out / "stdout").read_text(), content, arrays


def kept(out):
    return len(list((out / "report" / "checkpoint").glob("batch-*")))


def go_on(commands, arguments, out):
    run = commands.start(arguments, out)
    assert run.ended() == 0, run.messages.read_text()
    return run.messages.read_text()


@pytest.mark.parametrize(("batch", "renamed"), POINTS)
def test_killed_and_gone_on(commands, command, undisturbed, tmp_path, tried, batch, renamed):
    arguments = command(tmp_path / "report")
    run = commands.start(arguments, tmp_path, f"batch-{batch:06d}", renamed=renamed)
    run.paused()
    assert run.end(signal.SIGKILL) == -signal.SIGKILL
    assert kept(tmp_path) == batch + renamed
    messages = go_on(commands, arguments, tmp_path)
    assert f"going on after {batch + renamed} finished" in messages or not batch + renamed
    assert outcome(tmp_path) == outcome(undisturbed)
    left = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert left == ["arrays.safetensors", "report.json"]
    tried(
        PART,
        "`hf-ess analyze --dataset` killed with SIGKILL: after a batch, while one is written, "
        "after the last one",
        "The same command goes on; table, JSON and arrays are those of a run that nothing ended, "
        "to the bit",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_other_signals(commands, command, undisturbed, tmp_path, tried, number):
    arguments = command(tmp_path / "report")
    run = commands.start(arguments, tmp_path, "batch-000003")
    run.paused()
    assert run.end(number) != 0
    assert kept(tmp_path) == 4
    if number == signal.SIGINT:
        messages = run.messages.read_text()
        assert "kept 4 finished batch(es)" in messages
        assert messages.endswith("interrupted\n")
    go_on(commands, arguments, tmp_path)
    assert outcome(tmp_path) == outcome(undisturbed)
    tried(
        PART,
        "`hf-ess analyze --dataset` ended by SIGTERM or Ctrl-C",
        "Ctrl-C says what is kept; the same command comes to the same numbers, to the bit",
    )


def test_killed_at_every_batch_and_while_the_report_is_written(
    commands, command, undisturbed, tmp_path, tried
):
    arguments = command(tmp_path / "report")
    names = [f"batch-{number:06d}" for number in range(8)]
    for name in [*names, "arrays.safetensors", "report.json"]:
        run = commands.start(arguments, tmp_path, name)
        run.paused()
        assert run.end(signal.SIGKILL) == -signal.SIGKILL
    assert kept(tmp_path) == 8
    go_on(commands, arguments, tmp_path)
    assert outcome(tmp_path) == outcome(undisturbed)
    tried(
        PART,
        "One run killed at every batch and at both files of the report, each time started again",
        "The numbers of a run that nothing ended, to the bit",
        times=len(names) + 2,
    )


def test_the_command_and_the_function_agree(undisturbed, llama_folder, corpus):
    report = hf_ess.analyze(
        str(llama_folder), hf_ess.read_texts(corpus), batch_size=2, progress=False
    )
    report.provenance |= {"dataset": {"files": [str(corpus)]}}
    assert report.fingerprint() == ESSReport.load(undisturbed / "report").fingerprint()


def test_one_process_at_a_time(commands, command, llama_folder, corpus, tmp_path, tried):
    run = commands.start(command(tmp_path / "report"), tmp_path, "batch-000001")
    run.paused()
    folder = tmp_path / "report" / "checkpoint"
    try:
        with pytest.raises(hf_ess.InvalidInputError, match="Another process is analysing in"):
            hf_ess.analyze(
                str(llama_folder),
                hf_ess.read_texts(corpus),
                batch_size=2,
                progress=False,
                checkpoint=folder,
            )
    finally:
        run.end(signal.SIGKILL)
    assert kept(tmp_path) == 2
    tried(
        PART,
        "Two processes with one folder for finished batches",
        "The second is refused by name; the first one's batches are unharmed",
    )


def test_other_work_is_refused_and_can_be_discarded(
    commands, command, undisturbed, tmp_path, tried
):
    run = commands.start(command(tmp_path / "report"), tmp_path, "batch-000002")
    run.paused()
    run.end(signal.SIGKILL)
    other = command(tmp_path / "report", "--positions", "3")
    refused = commands.start(other, tmp_path)
    assert refused.ended() == 1
    messages = refused.messages.read_text()
    assert "holds the checkpoint of another analysis, with 3 finished batch(es)" in messages
    assert "settings.positions: [1, 2, 3" in messages
    assert kept(tmp_path) == 3
    go_on(commands, [*command(tmp_path / "report"), "--fresh"], tmp_path)
    assert outcome(tmp_path) == outcome(undisturbed)
    tried(
        PART,
        "Going on with other options",
        "Refused by an error that lists what differs; `--fresh` begins anew",
    )
