"""What untrained mixers keep over texts of more and more tokens: products of decays, and ESS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hf_ess.analysis import analyze
from hf_ess.errors import ReportError
from hf_ess.operators import StateSpaceOperator
from hf_ess.synthetics import SyntheticConfig, build_model, multi_query_recall
from model_adapters import LayerOperator, record_operators

TEXTS = 4
# Positions in the middle of stretches of this share of a text, so that their mean is that of all.
STRETCHES = 16


def memory_rows(
    mixer: str,
    *,
    beta: float | None,
    lengths: Sequence[int],
    seeds: int,
    pairs: int,
    vocabulary: int,
    width: int,
    heads: int,
) -> list[dict[str, Any]]:
    """One untrained mixer on texts of recall that differ in length alone: a row for each and seed.

    Args:
        mixer: "LA", "GLA" or "WLA".
        beta: its decay temperature; None for LA, which has no decays.
        lengths: tokens.
        seeds: how many, from 0.
        pairs: of every text, whatever its length.
        vocabulary: of the texts.
        width: channels.
        heads: which share them.

    Returns:
        Rows with ess_per_pair (mean entropy-ESS of a channel over positions, texts and heads, over
        the number of pairs) and log10_product (`product_norm`).

    Raises:
        ReportError: the mixer could not be verified.

    Source: Parnichkun et al., ICML 2025, appendix A.
    """
    decays: dict[str, Any] = {} if beta is None else {"decay_temperature": beta}
    config = SyntheticConfig(
        [mixer], vocab_size=vocabulary, hidden_size=width, num_attention_heads=heads, **decays
    )
    cases = [(length, seed) for length in lengths for seed in range(seeds)]
    return [
        {"featurizer": mixer, "beta": beta, "length": length, "seed": seed, "pairs": pairs}
        | _measured(config, length, seed, pairs)
        for length, seed in cases
    ]


def product_norm(operator: StateSpaceOperator) -> float:
    """The common logarithm of the mean of `|A_L-1 .. A_0|_F` over samples and groups.

    Of logarithms, since products of decays over long texts are smaller than any float.

    Raises:
        UnsupportedMixerError: the transition is not diagonal.

    Source: Parnichkun et al., ICML 2025, appendix A.

    Example:
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator
        >>> key, decays = torch.rand(1, 1, 400, 4), torch.full((1, 1, 400), math.log(0.1))
        >>> round(product_norm(StateSpaceOperator(ScalarDecay(decays), key, key)), 3)
        -399.699
    """
    decay = operator.channels(slice(0, operator.groups), 0, operator.length).decay
    logarithms: Tensor = torch.logsumexp(2 * decay.abs().log().sum(2), -1) / 2
    mean = torch.logsumexp(logarithms.flatten(), 0) - math.log(logarithms.numel())
    return float(mean) / math.log(10)


def _measured(config: SyntheticConfig, length: int, seed: int, pairs: int) -> dict[str, float]:
    model = build_model(config, seed=seed).eval()
    ids = multi_query_recall(
        TEXTS, length=length, pairs=pairs, vocabulary=config.vocab_size, seed=seed
    ).input_ids
    every = max(1, length // STRETCHES)
    report = analyze(model, ids, positions=range(max(1, every // 2), length, every), progress=False)
    layer = report.layers[0] if report.layers else None
    if layer is None or not layer.verified:
        raise ReportError(f"{config.mixers[0]} could not be verified on {length} tokens.")
    norms: list[float] = []

    def keep(found: LayerOperator) -> None:
        if isinstance(found.operator, StateSpaceOperator):
            norms.append(product_norm(found.operator))

    with torch.no_grad(), record_operators(model, keep):
        model(input_ids=ids)
    return {
        "ess_per_pair": float(layer.entropy_ess.mean()) / pairs,
        "log10_product": norms[0],
    }
