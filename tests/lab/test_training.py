"""A training against a plain loop, and what it says about its model."""

from __future__ import annotations

import json
import math

import pytest
import torch
from lab.small_runs import MODEL, TASK, outcome, small_config
from transformers.utils import logging

import hf_ess
from hf_ess.lab import RunResult, train
from hf_ess.lab.batches import seed_of_step
from hf_ess.lab.run_config import MOST_SEEDS, MOST_STEPS
from hf_ess.synthetics import SyntheticConfig, build_model, multi_query_recall

TEXTS = {"length": 12, "pairs": 2, "vocabulary": 12}
TEST_SEED = 2**32 - 1


def _weights(result):
    return dict(result.model().state_dict())


def _plain_loop(steps=12):
    """What `small_config` describes, written out."""
    model = build_model(SyntheticConfig(**MODEL, vocab_size=12), seed=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.1)
    losses = []
    for step in range(steps):
        rate = 1e-2 * (step + 1) / 3
        if step >= 3:
            rate = 1e-2 * (1 + math.cos(math.pi * (step - 3) / 9)) / 2
        optimizer.param_groups[0]["lr"] = rate
        texts = multi_query_recall(4, **TEXTS, seed=step)
        loss = model(input_ids=texts.input_ids, labels=texts.labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return train(small_config(), tmp_path_factory.mktemp("run"), progress=False)


def test_a_plain_loop_gives_the_same_weights(result):
    model, losses = _plain_loop()
    expected = model.state_dict()
    found = _weights(result)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    log = result.log().drop_duplicates("step").set_index("step")
    assert log.index.tolist() == [0, 4, 6, 8, 12]
    assert math.isnan(log.loss[0])
    assert log.loss[6] == pytest.approx(sum(losses[4:6]) / 2, rel=1e-14)
    assert log.loss[12] == pytest.approx(sum(losses[8:]) / 4, rel=1e-14)


def test_loss_and_accuracy_are_those_of_the_saved_model(result):
    texts = multi_query_recall(10, **TEXTS, seed=TEST_SEED)
    with torch.no_grad():
        logits = result.model()(input_ids=texts.input_ids).logits.double()[:, :-1]
    answers = texts.labels[:, 1:]
    asked = answers >= 0
    right = (logits.argmax(-1) == answers)[asked].double().mean().item()
    loss = torch.nn.functional.cross_entropy(logits[asked], answers[asked]).item()
    assert result.accuracy == pytest.approx(right, abs=1e-12)
    assert result.loss == pytest.approx(loss, rel=1e-6)  # the training's is in float32


def test_ess_is_what_analyze_measures(result):
    texts = multi_query_recall(10, **TEXTS, seed=TEST_SEED)
    report = hf_ess.analyze(
        result.model(), texts.input_ids[:2], positions=[2, 5, 7, 10], progress=False
    )
    expected = report.to_pandas(level="layer")
    measured = [0, 6, 12]
    log = result.log()
    assert log.dropna(subset="mixer").step.tolist() == [step for step in measured for _ in "ab"]
    last = log[log.step == 12].reset_index(drop=True)
    assert last.mixer.tolist() == ["gated linear attention", "softmax attention"]
    for name in ("entropy_ess", "tolerance_ess_0.1", "tolerance_ess_0.001"):
        assert last[name].tolist() == pytest.approx(expected[f"average_{name}"].tolist(), abs=1e-8)
    entropy = expected.average_entropy_ess
    assert last.entropy_ess_per_pair.tolist() == pytest.approx((entropy / 2).tolist(), abs=1e-8)
    share = expected.utilization_entropy_ess.tolist()
    assert last.utilization.tolist() == pytest.approx(share, abs=1e-8)
    assert last.verified.all()
    assert last.state_size.tolist()[0] == 4


def test_measuring_changes_nothing(result, tmp_path):
    quiet = small_config(evaluate_every=None, measure_every=None, save_every=None)
    loud = small_config(evaluate_every=1, measure_every=1, save_every=1, probe_positions=1)
    weights = {}
    for name, config in {"quiet": quiet, "loud": loud}.items():
        weights[name] = outcome(train(config, tmp_path / name, progress=False).folder)["weights"]
    assert weights["quiet"] == weights["loud"] == outcome(result.folder)["weights"]


def test_a_regularizer_trains_and_one_of_no_weight_does_not(result, tmp_path):
    outcomes = {}
    for weight in (0.0, 0.5):
        penalty = {"name": "ess", "target": 0.9, "weight": weight, "layers": [0]}
        run = train(small_config(regularizer=penalty), tmp_path / str(weight), progress=False)
        outcomes[weight] = outcome(run.folder)["weights"], run.log().penalty.tolist()[-1]
    assert outcomes[0.0] == (outcome(result.folder)["weights"], 0.0)
    assert outcomes[0.5][0] != outcomes[0.0][0]
    assert outcomes[0.5][1] > 0


def test_other_seeds_have_other_weights_and_batches(result, tmp_path):
    other = train(small_config(seed=1), tmp_path, progress=False)
    assert outcome(other.folder)["weights"] != outcome(result.folder)["weights"]
    assert other.log().loss.tolist()[-1] != result.log().loss.tolist()[-1]


def test_no_two_steps_share_a_seed():
    # torch's generator for the CPU tells 2^32 seeds from each other.
    steps = [0, 1, 2, MOST_STEPS - 2, MOST_STEPS - 1]
    seeds = {seed_of_step(seed, step) for seed in (0, 1, 2, MOST_SEEDS - 1) for step in steps}
    assert len(seeds) == 20
    assert 0 <= min(seeds) <= max(seeds) < TEST_SEED
    batches = [TASK.texts(4, seed=seed).input_ids for seed in seeds]
    tests = TASK.test_texts(4).input_ids
    assert not any(torch.equal(batch, tests) for batch in batches)
    distinct = {tuple(batch.flatten().tolist()) for batch in batches}
    assert len(distinct) == len(batches)


def test_settings_of_the_process_are_as_before(tmp_path):
    threads, state, bars = (
        torch.get_num_threads(),
        torch.get_rng_state(),
        logging.is_progress_bar_enabled(),
    )
    train(small_config(steps=1, threads=threads + 1), tmp_path, progress=False)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.is_progress_bar_enabled() == bars


def test_double_precision(tmp_path):
    run = train(small_config(dtype="float64", steps=2), tmp_path, progress=False)
    stored = {value.dtype for value in _weights(run).values()}
    assert stored == {torch.float64}


def test_the_bar_is_on_stderr(tmp_path, capfd):
    train(small_config(steps=2), tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Training: " in err
    assert "shards" not in err


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(hf_ess.ReportError, match="holds no finished run"):
        RunResult.load(tmp_path)


def test_results_name_what_made_them(result):
    numbers = json.loads((result.folder / "results.json").read_text())
    assert numbers["command"].startswith("hf-ess lab train run.yaml")
    assert numbers["config"] == small_config().to_dict()
    assert numbers["versions"]["torch"] == torch.__version__
    assert numbers["device"] == "cpu"
    assert numbers["parameters"] == sum(value.numel() for value in result.model().parameters())
    assert str(result.folder) not in json.dumps(numbers)
