"""Shipped checkpoints are what their records say: files, accuracy and ESS, measured again.

The same is asked of a checkpoint that is made here.
"""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from lab.small_runs import small_config

import hf_ess
from hf_ess.lab import RunConfig, train
from hf_ess.lab.shipping import as_checkpoint
from hf_ess.synthetics import TrainedCheckpoint, accuracy, checkpoint_names
from hf_ess.training.few_positions import training_positions

# Whoever adds or removes a checkpoint of hf_ess/data/checkpoints says so here.
EXPECTED = ("mqar-gla", "mqar-hybrid", "mqar-hyena", "mqar-mamba", "mqar-sa")
FILES = {"config.json", "model.safetensors", "results.json", "run.json"}
MOST_BYTES = 10**6
MADE = "made here"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint of a training of a second."""
    folder = tmp_path_factory.mktemp("runs")
    train(small_config(), folder / "run", progress=False)
    return as_checkpoint(folder / "run", folder / "small").folder


@pytest.fixture(params=[MADE, *checkpoint_names()])
def source(request):
    """A shipped name, or the folder of the one that is made here."""
    return request.getfixturevalue("made") if request.param == MADE else request.param


def test_the_shipped_ones_are_there() -> None:
    assert checkpoint_names() == EXPECTED


def test_files_are_few_and_small(source) -> None:
    folder = TrainedCheckpoint.read(source).folder
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(files) == FILES
    assert max(files.values()) < MOST_BYTES


def test_the_accuracy_is_the_recorded_one(source) -> None:
    checkpoint = TrainedCheckpoint.read(source)
    config, model = RunConfig.from_dict(checkpoint.run), checkpoint.model()
    right = asked = 0.0
    batches = [torch.split(tensor, config.batch_size) for tensor in checkpoint.texts()]
    for ids, labels in zip(*batches, strict=True):
        count = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            right += count * accuracy(model(input_ids=ids).logits, labels)
        asked += count
    assert right / asked == pytest.approx(checkpoint.accuracy, abs=1e-12)


def test_ess_is_the_recorded_one(source) -> None:
    checkpoint = TrainedCheckpoint.read(source)
    config, recorded = RunConfig.from_dict(checkpoint.run), checkpoint.results["layers"]
    probe = checkpoint.texts(config.probe_samples).input_ids
    report = hf_ess.analyze(
        checkpoint.folder,
        probe,
        positions=training_positions(config.probe_positions, probe.shape[1]),
        tolerances=config.tolerances,
        progress=False,
    )
    rows = report.to_pandas("layer").to_dict("records")
    assert [row["mixer"] for row in rows] == [layer["mixer"] for layer in recorded]
    assert all(layer.verified for layer in report.layers)
    for row, layer in zip(rows, recorded, strict=True):
        assert layer["state_size"] == (row["state_size"] if row["state_size"] > 0 else None)
        assert row["average_entropy_ess"] == pytest.approx(layer["entropy_ess"], rel=1e-6)
        for tolerance in config.tolerances:
            name = report.metric_column(tolerance)
            assert row[f"average_{name}"] == pytest.approx(layer[name], rel=1e-12)


def test_it_says_how_to_make_it_again(source, tmp_path) -> None:
    checkpoint = TrainedCheckpoint.read(source)
    config = RunConfig.read(checkpoint.folder / "run.json")
    assert checkpoint.command == "hf-ess lab train run.json --out FOLDER"
    assert (config.seed, config.task) == (checkpoint.seed, checkpoint.task)
    assert checkpoint.model().config.mixers == config.model_config().mixers


def test_the_command_makes_the_same_weights(made, run_command, tmp_path) -> None:
    status, _, err = run_command("lab", "train", made / "run.json", "--out", tmp_path / "again")
    assert status == 0, err
    weights = (tmp_path / "again" / "model" / "model.safetensors").read_bytes()
    assert weights == (made / "model.safetensors").read_bytes()


def test_the_folder_of_a_run_is_taken_as_it_is(made, run_command) -> None:
    run = made.parent / "run"
    raw, flat = TrainedCheckpoint.read(run), TrainedCheckpoint.read(made)
    assert (raw.task, raw.seed, raw.accuracy) == (flat.task, flat.seed, flat.accuracy)
    assert raw.model().lm_head.weight.equal(flat.model().lm_head.weight)
    found = []
    for folder in (run, made):
        status, said, messages = run_command("analyze", folder, "--samples", "2", "--format=json")
        assert status == 0, messages
        assert "test set of multi_query_recall" in messages
        found.append(json.loads(said)["layers"])
    assert found[0] == found[1]


def test_a_run_that_is_not_finished_says_so(made, run_command, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made.parent / "run", run)
    (run / "results.json").unlink()
    status, _, messages = run_command("analyze", run)
    assert status == 1
    assert f"The training in {str(run)!r} is not finished." in messages
    assert f"hf-ess lab train {run / 'run.yaml'} --out {run}" in messages
    with pytest.raises(hf_ess.ModelLoadError, match="is not finished"):
        hf_ess.analyze(run, torch.ones(1, 8, dtype=torch.long), progress=False)


def test_damaged_records_of_a_run(made, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made.parent / "run", run)
    numbers = json.loads((run / "results.json").read_text())
    for config in (None, {"seed": 0}):
        (run / "results.json").write_text(json.dumps(numbers | {"config": config}))
        with pytest.raises(hf_ess.ModelLoadError, match=r"results\.json .* cannot be read"):
            TrainedCheckpoint.read(run)


def test_an_existing_folder_is_left_alone(made, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(hf_ess.InvalidInputError, match="exists already"):
        as_checkpoint(made.parent / "run", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_without_a_run(tmp_path) -> None:
    with pytest.raises(hf_ess.ReportError, match="holds no finished run"):
        as_checkpoint(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
