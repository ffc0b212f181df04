"""Random models, texts and arguments: every number against an SVD, and nothing is left behind."""

from __future__ import annotations

from collections import Counter

import pytest
from reliability.fuzzing.checks import Outcome
from reliability.fuzzing.choices import COMPOSED, SYNTHETIC, TRANSFORMERS, drawn
from reliability.fuzzing.reproduction import checked

CASES = 200
CASES_OF_A_TEST = 10
PART = "Random models"
FAMILIES = {
    TRANSFORMERS: "Causal language models of transformers: type, heads, grouped keys, windows, "
    "caps, states and order of layers drawn at random",
    SYNTHETIC: "Hybrids of the eight mixers of hf_ess.synthetics in any order, states 1 to 64",
    COMPOSED: "Attention written by hand (sinks, caps, windows, ALiBi, QK norm, partial rotary) "
    "between mixers that nobody knows",
}
MEASURED = (
    "Every known mixer verified, every unknown one named; spectra, entropies and counts are those "
    "of an SVD; logits unchanged bit for bit; no hook, patch, thread, file or tensor left"
)
REFUSED = "Refused by a named error that is right; the model is left as it was"


@pytest.mark.usefixtures("young_objects")
def test_random_models(seeds, tried, note_outcomes):
    outcomes = [(drawn(seed).family, checked(drawn(seed))) for seed in seeds]
    for family, outcome in outcomes:
        assert outcome.refused or outcome.mixers
        tried(PART, FAMILIES[family], REFUSED if outcome.refused else MEASURED)
    if blocks := sum(outcome.blocks for _, outcome in outcomes):
        what = "Blocks of their operators, decomposed again by numpy in float64"
        tried(PART, what, "Entropy-ESS, tolerance-ESS and attainable size agree", times=blocks)
    note_outcomes(_rows(outcomes))


def _rows(outcomes: list[tuple[str, Outcome]]) -> Counter[tuple[str, ...]]:
    rows: Counter[tuple[str, ...]] = Counter()
    for family, outcome in outcomes:
        case = f"refused, {outcome.refused}" if outcome.refused else "analysed"
        rows["cases", family, case] += 1
        for (mixer, happened), count in outcome.mixers.items():
            rows["mixers", family, f"{mixer}: {happened}"] += count
    return rows
