"""Effective state-size the slow way: one SVD per block, averages in plain loops.

Nothing here comes from the package. Attention weights are computed from what the projections of
a Llama give, which hooks of our own read.
"""

from __future__ import annotations

import math
from statistics import mean, stdev

import numpy as np
import torch


def llama_operators(model, ids):
    """Attention weights of each layer, float64 `[H, L, L]`, for ids `[L]`; model in float64."""
    seen: dict[str, torch.Tensor] = {}
    rotation: list[torch.Tensor] = []

    def keep(name):
        return lambda _module, _args, output: seen.__setitem__(name, output.detach())

    def keep_rotation(_module, _args, output):
        rotation.extend(output)

    handles = [model.model.rotary_emb.register_forward_hook(keep_rotation)]
    for number, layer in enumerate(model.model.layers):
        for part in ("q_proj", "k_proj"):
            module = getattr(layer.self_attn, part)
            handles.append(module.register_forward_hook(keep(f"{number}.{part}")))
    with torch.no_grad():
        model(input_ids=ids[None], use_cache=False)
    for handle in handles:
        handle.remove()
    cosine, sine = (part[0].double().numpy() for part in rotation[:2])
    config = model.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    weights = []
    for number in range(len(model.model.layers)):
        query = _rotated(_by_head(seen[f"{number}.q_proj"][0], heads), cosine, sine)
        key = _rotated(_by_head(seen[f"{number}.k_proj"][0], kv_heads), cosine, sine)
        key = np.repeat(key, heads // kv_heads, axis=0)
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        weights.append(_causal_softmax(scores))
    return weights


def _by_head(features, heads):
    """`[L, H D]` as `[H, L, D]`."""
    assert features.dtype == torch.float64
    return features.numpy().reshape(len(features), heads, -1).transpose(1, 0, 2)


def _rotated(features, cosine, sine):
    half = features.shape[-1] // 2
    turned = np.concatenate([-features[..., half:], features[..., :half]], axis=-1)
    return features * cosine + turned * sine


def _causal_softmax(scores):
    weights = np.zeros_like(scores)
    for query in range(scores.shape[-1]):
        visible = scores[:, query, : query + 1]
        powers = np.exp(visible - visible.max(axis=-1, keepdims=True))
        weights[:, query, : query + 1] = powers / powers.sum(axis=-1, keepdims=True)
    return weights


def block(matrix, position, window=None):
    """`M[i:, :i]`, or `M[i:i+f, i-p:i]` cut off at the ends of the sequence."""
    if window is None:
        return matrix[position:, :position]
    future, past = window
    return matrix[position : position + future, max(0, position - past) : position]


def entropy(values):
    """Equation 3, from singular values."""
    total = sum(values)
    shares = [value / total for value in values if value > 0]
    return math.exp(-sum(share * math.log(share) for share in shares))


def count(values, tolerance, *, relative=False):
    """Equation 2, from singular values."""
    threshold = tolerance * max(values) if relative else tolerance
    return sum(value > threshold for value in values)


def ess_table(samples, positions, metric, window=None):
    """`table[layer][sample][head][position]`, None beyond the end of a sample.

    Args:
        samples: for each sample the operators of every layer, `[H, L, L]` each.
        metric: a function of the singular values of one block.
    """
    return [
        [
            [
                [
                    metric(_svd(layers[number][head], position, window))
                    if position < layers[number].shape[-1]
                    else None
                    for position in positions
                ]
                for head in range(len(layers[number]))
            ]
            for layers in samples
        ]
        for number in range(len(samples[0]))
    ]


def _svd(matrix, position, window):
    return np.linalg.svd(block(matrix, position, window), compute_uv=False).tolist()


def average(table):
    """Mean over layers, samples, heads and positions."""
    return mean(
        value
        for layer in table
        for sample in layer
        for head in sample
        for value in head
        if value is not None
    )


def standard_error(table):
    """Over samples of one length."""
    samples = len(table[0])
    means = [average([[layer[sample]] for layer in table]) for sample in range(samples)]
    return stdev(means) / math.sqrt(samples)


def totals_by_layer_and_position(table, multiplicity):
    """Sum over channels, mean over the samples that reach a position: `[layer][position]`."""
    rows = []
    for layer in table:
        row = []
        for place in range(len(layer[0][0])):
            sums = [
                sum(multiplicity * head[place] for head in sample)
                for sample in layer
                if sample[0][place] is not None
            ]
            row.append(mean(sums) if sums else math.nan)
        rows.append(row)
    return rows


def layer_totals(table, multiplicity):
    """Sum over channels, mean over all pairs of a sample and a position that exist."""
    return [
        mean(
            sum(multiplicity * head[place] for head in sample)
            for sample in layer
            for place in range(len(sample[0]))
            if sample[0][place] is not None
        )
        for layer in table
    ]
