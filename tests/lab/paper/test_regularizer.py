"""Loss terms: rows of the second mixer, products of decays by hand, and the verdicts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from lab.paper.minutes import assert_goes_on_and_is_read_again, made_in_a_minute

import hf_ess
from hf_ess.lab import EXPERIMENTS
from hf_ess.lab.paper.experiment import Scale, Verdict
from hf_ess.lab.paper.memory_by_length import memory_rows, product_norm
from hf_ess.lab.sweep_points import points_of
from hf_ess.operators import DiagonalDecay, StateSpaceOperator
from hf_ess.synthetics import SyntheticConfig, build_model, multi_query_recall

REGULARIZER = EXPERIMENTS["regularizer"]
BY_TERM, BY_LENGTH = (
    "By loss term and learning rate, ESS of the second mixer",
    "Before training, by the length of texts",
)
TRANSITION, OURS = "transition, weight 8", "ess, weight 1"
SMALL = {"pairs": 2, "vocabulary": 12, "width": 8, "heads": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    yield from made_in_a_minute("regularizer", tmp_path_factory.mktemp("regularizer"))


def test_a_minute_goes_on_and_is_read_again(made):
    assert_goes_on_and_is_read_again(made, runs=6)


def test_trained_rows_are_those_of_the_second_mixer_in_the_log(made):
    one, out, _ = made
    rows = one.rows[one.rows["part"] == "trained"]
    assert list(rows["featurizer"] + ": " + rows["term"]) == [
        "GLA: none",
        f"GLA: {TRANSITION}",
        f"GLA: {OURS}",
        "WLA: none",
        f"WLA: {TRANSITION}",
        "LA: none",
    ]
    log = pd.read_csv(out / "minute" / "trainings" / "regularizer-WLA" / "results.csv")
    last = log[(log["step"] == log["step"].max()) & (log["index"] == 1)]
    wla = rows[rows["featurizer"] == "WLA"]
    assert list(wla["beta"]) == [0.25, 0.25]
    for name, other in {
        "accuracy": last["accuracy"],
        "ess_per_pair": last["entropy_ess"] / 2,
        "tolerance_ess_per_pair": last["tolerance_ess_0.1"] / 2,
    }.items():
        assert list(wla[name]) == pytest.approx(list(other), rel=1e-5)


def test_untrained_rows_against_dense_operators():
    """Products of the decays that sigmoids give, and singular values of dense blocks."""
    rows = memory_rows("WLA", beta=2.0, lengths=[16], seeds=2, **SMALL)
    model = build_model(
        SyntheticConfig(
            ["WLA"], vocab_size=12, hidden_size=8, num_attention_heads=2, decay_temperature=2.0
        ),
        seed=1,
    ).eval()
    # Learned decays are sigmoid(0) ** (1 / 2) at the start, in each of 4 channels of 16 steps.
    assert rows[1]["log10_product"] == pytest.approx(math.log10(2 * 0.5 ** (16 / 2)), rel=1e-6)
    ids = multi_query_recall(4, length=16, pairs=2, vocabulary=12, seed=1).input_ids
    found = []

    def measure(layer):
        for matrix in layer.operator.to_dense().flatten(0, 1).double():
            for position in range(1, 16):
                values = torch.linalg.svdvals(matrix[position:, :position])
                shares = values / values.sum()
                found.append(float(torch.exp(-torch.xlogy(shares, shares).sum())))

    with torch.no_grad(), hf_ess.record_operators(model, measure):
        model(input_ids=ids)
    assert rows[1]["ess_per_pair"] == pytest.approx(np.mean(found) / 2, rel=1e-6)
    assert [row["seed"] for row in rows] == [0, 1]


def test_norms_of_products_are_means_over_groups():
    decays = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    ones = torch.ones(1, 1, 5, 4)
    operator = StateSpaceOperator(DiagonalDecay(decays), ones, ones)
    expected = np.log10(np.linalg.norm(decays.numpy().prod(2), axis=-1).mean())
    assert product_norm(operator) == pytest.approx(expected, rel=1e-12)


def trained_of(kind, term, accuracies, rate=3e-3, ess=0.5):
    return [
        {"part": "trained", "featurizer": kind, "term": term, "learning_rate": rate, "seed": seed}
        | {"beta": None if kind == "LA" else 0.25, "pairs": 8, "accuracy": accuracy}
        | {"test_loss": 1.0, "ess_per_pair": ess, "tolerance_ess_per_pair": 1.0 + 0.1 * seed}
        for seed, accuracy in enumerate(accuracies)
    ]


def untrained_of(kind, beta, by_length):
    """Three seeds about ESS/kv and the logarithm of the norm of the product, by length."""
    return [
        {"part": "untrained", "featurizer": kind, "beta": beta, "length": length, "seed": seed}
        | {"pairs": 8, "ess_per_pair": ess + 0.001 * seed, "log10_product": product}
        for length, (ess, product) in by_length.items()
        for seed in range(3)
    ]


def rows_of(*, linear, plain, term, falls):
    """Accuracies of LA, and of GLA and WLA without and with the paper's term."""
    rows = trained_of("LA", "none", linear)
    rows += untrained_of("LA", None, {32: (0.8, 0.75), 2048: (0.9, 0.75)})
    for kind in ("GLA", "WLA"):
        rows += trained_of(kind, "none", plain) + trained_of(kind, TRANSITION, term)
        rows += trained_of(kind, "none", [0.0, 0.0], rate=1e-3)
        ends = [(0.8, 0.1), (0.3, -30.0)]
        short, long = ends if falls else ends[::-1]
        rows += untrained_of(kind, 16.0, {32: short, 2048: long})
        rows += untrained_of(kind, 0.25, {32: (0.1, -30.0), 2048: (0.1, -2000.0)})
    # Rates that LA was not trained with do not count, whatever they give.
    rows += trained_of("GLA", TRANSITION, [1.0, 1.0], rate=1e-2)
    return pd.DataFrame(rows + trained_of("GLA", OURS, [0.99, 1.0]))


AS_THE_PAPER = rows_of(linear=[0.6, 0.62], plain=[0.3, 0.31], term=[0.9, 0.92], falls=True)


@pytest.mark.parametrize(
    ("rows", "verdict", "words"),
    [
        (AS_THE_PAPER, Verdict.reproduced, "Not so here: nothing."),
        (
            rows_of(linear=[0.6, 0.62], plain=[0.3, 0.31], term=[0.9, 0.92], falls=False),
            Verdict.partly,
            "ESS/kv falls with length in GLA; ESS/kv falls with length in WLA.",
        ),
        (
            rows_of(linear=[0.9, 0.92], plain=[0.3, 0.31], term=[0.3, 0.4], falls=True),
            Verdict.contradicted,
            "Not so here: with the paper's term GLA beats LA; with the paper's term WLA beats LA.",
        ),
        (
            rows_of(linear=[0.13, 0.14], plain=[0.12, 0.13], term=[0.15, 0.16], falls=True),
            Verdict.undecidable,
            "Not decided: with the paper's term GLA beats LA; with the paper's term WLA beats LA",
        ),
    ],
)
def test_verdicts(rows, verdict, words):
    finding = REGULARIZER.judge(rows)
    assert finding.verdict is verdict
    assert words in finding.words


def test_seeds_that_differ_much_decide_nothing():
    finding = REGULARIZER.judge(
        rows_of(linear=[0.6, 0.62], plain=[0.3, 0.31], term=[0.4, 1.0], falls=True)
    )
    assert finding.verdict is Verdict.undecidable


def test_means_and_standard_errors():
    tables = REGULARIZER.judge(AS_THE_PAPER).tables
    table = tables[BY_TERM]
    own = table[(table["mixers"] == "WLA") & (table["loss term"] == TRANSITION)].iloc[0]
    assert own["accuracy"] == "0.91 ± 0.01"
    assert own["tolerance-ESS(0.1) / kv"] == "1.05 ± 0.05"
    assert own["seeds"] == 2
    assert len(table) == 1 + 2 * 3 + 2
    lengths = tables[BY_LENGTH]
    assert list(lengths["beta"]) == ["", "", "16", "16", "0.25", "0.25", "16", "16", "0.25", "0.25"]
    assert list(lengths["tokens"][:2]) == ["32", "2048"]
    assert lengths["entropy-ESS / kv"].iloc[3] == "0.30 ± 0.00"


def test_what_was_not_measured_is_named():
    rows = AS_THE_PAPER.copy()
    lacks = (rows["featurizer"] == "LA") & (rows["part"] == "trained") & (rows["seed"] == 1)
    rows.loc[lacks, "accuracy"] = None
    finding = REGULARIZER.judge(rows)
    assert "not verified: featurizer LA, term none, learning rate 0.003, seed 1." in finding.words
    # One seed has no standard error.
    assert finding.verdict is Verdict.undecidable


def test_figure_shows_every_term_and_mixer():
    accuracy, ess, norm, memory = REGULARIZER.draw(AS_THE_PAPER).axes
    names = [label.get_text() for label in accuracy.get_yticklabels()]
    assert names[0] == "LA, none\n(rate 0.003)"
    assert f"GLA, {OURS}\n(rate 0.003)" in names
    assert [bar.get_width() for bar in accuracy.patches][:3] == pytest.approx([0.61, 0.305, 0.91])
    assert [bar.get_width() for bar in ess.patches] == [0.5] * 6
    curves = {line.get_label(): list(line.get_ydata()) for line in memory.lines}
    assert curves["WLA, beta 16"] == pytest.approx([0.801, 0.301])
    assert len(norm.lines) == 5


@pytest.mark.parametrize("scale", Scale)
def test_every_configuration_is_accepted(scale):
    runs = {
        trainings.name: len(points_of(trainings.base, trainings.axes))
        for trainings in REGULARIZER.trainings(scale)
    }
    counts = {"minute": (3, 2, 1), "small": (36, 12, 4), "paper": (56, 48, 8)}[scale.value]
    names = ("regularizer", "regularizer-WLA", "regularizer-LA")
    assert runs == dict(zip(names, counts, strict=True))
