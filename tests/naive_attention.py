"""Attention weights as the papers define them, number by number, from a model's own weights.

Nothing here knows hf_ess. Loops over samples, heads and tokens are the point: this is the truth
that operators are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from tiny_models import build_tiny
from torch import Tensor, nn

# Of head h, query i, key j and the product of their features: what enters the softmax.
Rule = Callable[[int, int, int, float], float]
Inputs = tuple[Any, Tensor, dict[str, Any]]


def attention_weights(
    query: Tensor,
    key: Tensor,
    score: Rule,
    *,
    window: int | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """`M[b, h, i, j] = exp(score) / (sum over visible j of exp(score) + exp(sink))`.

    Args:
        query: `[B, H, L, D]`.
        key: `[B, Hkv, L, D]`; H / Hkv neighbouring query heads share a key head.
        score: what enters the softmax.
        window: how many tokens a query sees, itself included; all earlier ones if None.
        sinks: for each head the score of an extra key without a value.
    """
    query, key = query.double(), key.double()
    batch, heads, length, _ = query.shape
    shared_by = heads // key.shape[1]
    weights = torch.zeros(batch, heads, length, length, dtype=torch.float64)
    for b, h, i in product(range(batch), range(heads), range(length)):
        first = 0 if window is None else max(0, i - window + 1)
        scores = {
            j: score(h, i, j, float(query[b, h, i] @ key[b, h // shared_by, j]))
            for j in range(first, i + 1)
        }
        total = math.fsum(math.exp(s) for s in scores.values())
        if sinks is not None:
            total += math.exp(float(sinks[h]))
        for j, s in scores.items():
            weights[b, h, i, j] = math.exp(s) / total
    return weights


def inputs_of(model: nn.Module, ids: Tensor, ending: str) -> Iterator[Inputs]:
    """Each module whose name ends so, with the hidden states and keyword arguments it gets."""
    seen: list[Inputs] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.append((module, hidden, kwargs))

    handles = [
        module.register_forward_pre_hook(note, with_kwargs=True)
        for name, module in model.named_modules()
        if name.endswith(ending)
    ]
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    assert seen
    yield from seen


def heads_of(features: Tensor, width: int) -> Tensor:
    """`[B, L, H * D]` as `[B, H, L, D]`."""
    return features.unflatten(-1, (-1, width)).transpose(1, 2)


def scaled(scale: float) -> Rule:
    def score(h: int, i: int, j: int, product: float) -> float:
        return scale * product

    return score


def rotated(features: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding: the pair `(d, d + D/2)` turned by the angle of its token."""
    half = features.shape[-1] // 2
    cos, sin = cos[..., :half].unsqueeze(1), sin[..., :half].unsqueeze(1)
    first, second = features[..., :half], features[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def check_angles(cos: Tensor, sin: Tensor, theta: float, width: int) -> None:
    """Plain rotary angles are `i * theta**(-2 d / D)`; models compute them in float32."""
    length = cos.shape[1]
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    torch.testing.assert_close(cos[0, :, : width // 2].double(), angles.cos(), rtol=0, atol=3e-6)
    torch.testing.assert_close(sin[0, :, : width // 2].double(), angles.sin(), rtol=0, atol=3e-6)


def rotary_models(
    model: nn.Module, ids: Tensor, *, rule: Rule, plain_angles: bool = True
) -> list[Tensor]:
    """Llama and its kin: rotary, grouped heads; windows and sinks where the module has them."""
    operators = []
    for module, hidden, kwargs in inputs_of(model, ids, ".self_attn"):
        query = heads_of(module.q_proj(hidden), module.head_dim)
        key = heads_of(module.k_proj(hidden), module.head_dim)
        if kwargs["position_embeddings"] is not None:
            cos, sin = kwargs["position_embeddings"]
            if plain_angles:
                theta = module.config.rope_parameters["rope_theta"]
                check_angles(cos, sin, theta, module.head_dim)
            query, key = rotated(query, cos, sin), rotated(key, cos, sin)
        kinds = getattr(module.config, "layer_types", None)
        kind = kinds[module.layer_idx] if kinds else "full_attention"
        window = module.config.sliding_window if kind == "sliding_attention" else None
        sinks = getattr(module, "sinks", None)
        operators.append(attention_weights(query, key, rule, window=window, sinks=sinks))
    return operators


def naive_llama(model: nn.Module, ids: Tensor) -> list[Tensor]:
    return rotary_models(model, ids, rule=scaled(model.config.head_dim**-0.5))


def naive_mistral(model: nn.Module, ids: Tensor) -> list[Tensor]:
    model.config.layer_types = ["sliding_attention"] * model.config.num_hidden_layers
    operators = naive_llama(model, ids)
    del model.config.layer_types
    return operators


def naive_gpt_oss(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Sinks are in `attention_weights`; YaRN moves the angles."""
    return rotary_models(model, ids, rule=scaled(model.config.head_dim**-0.5), plain_angles=False)


def naive_granite_swa(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """`sigmoid(logsumexp(scores) - sink)` times the softmax: the sink is one more key."""
    scale = model.config.attention_multiplier
    return rotary_models(model, ids, rule=scaled(scale))


def naive_gemma2(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Scores pass `c tanh(s / c)` before the softmax."""
    cap, scale = model.config.attn_logit_softcapping, model.config.query_pre_attn_scalar**-0.5

    def capped(h: int, i: int, j: int, product: float) -> float:
        return cap * math.tanh(product * scale / cap)

    return rotary_models(model, ids, rule=capped)


def naive_gpt2(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Also openai-gpt: one Conv1D gives queries, keys and values, each of the model's width."""
    operators = []
    for module, hidden, _ in inputs_of(model, ids, ".attn"):
        features = hidden @ module.c_attn.weight + module.c_attn.bias
        query, key, _ = features.chunk(3, dim=-1)
        width = query.shape[-1] // model.config.n_head
        query, key = heads_of(query, width), heads_of(key, width)
        operators.append(attention_weights(query, key, scaled(width**-0.5)))
    return operators


def naive_gpt_bigcode(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """All query heads share one key head."""
    operators = []
    for module, hidden, _ in inputs_of(model, ids, ".attn"):
        features = module.c_attn(hidden)
        width = hidden.shape[-1] // model.config.n_head
        query = heads_of(features[..., : hidden.shape[-1]], width)
        key = heads_of(features[..., hidden.shape[-1] : hidden.shape[-1] + width], width)
        operators.append(attention_weights(query, key, scaled(width**-0.5)))
    return operators


def naive_bloom(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """ALiBi: head h of H adds `-2**(-8 (h + 1) / H)` per token of distance."""
    operators = []
    heads = model.config.n_head
    for module, hidden, _ in inputs_of(model, ids, ".self_attention"):
        # Rows of the fused projection: for each head its queries, its keys, its values.
        features = module.query_key_value(hidden).unflatten(-1, (heads, 3, -1))
        query, key = features[..., 0, :].transpose(1, 2), features[..., 1, :].transpose(1, 2)
        operators.append(attention_weights(query, key, with_alibi(query.shape[-1], heads)))
    return operators


def naive_falcon_with_alibi(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """One key head for all; the position of the key is added before the scale, not the distance."""
    operators = []
    heads = model.config.num_attention_heads
    for module, hidden, _ in inputs_of(model, ids, ".self_attention"):
        features = module.query_key_value(hidden).unflatten(-1, (heads + 2, -1)).transpose(1, 2)
        width = features.shape[-1]

        def score(h: int, i: int, j: int, product: float, width: int = width) -> float:
            return (product + 2.0 ** (-8 * (h + 1) / heads) * j) * width**-0.5

        operators.append(attention_weights(features[:, :heads], features[:, heads, None], score))
    return operators


def naive_mpt(model: nn.Module, ids: Tensor) -> list[Tensor]:
    operators = []
    heads = model.config.n_heads
    for module, hidden, _ in inputs_of(model, ids, ".attn"):
        query, key, _ = module.Wqkv(hidden).chunk(3, dim=-1)
        width = query.shape[-1] // heads
        query, key = heads_of(query, width), heads_of(key, width)
        operators.append(attention_weights(query, key, with_alibi(width, heads)))
    return operators


def with_alibi(width: int, heads: int) -> Rule:
    def score(h: int, i: int, j: int, product: float) -> float:
        return product * width**-0.5 - 2.0 ** (-8 * (h + 1) / heads) * (i - j)

    return score


def naive_gpt_neo(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """No scale on the scores; every second layer looks at a window."""
    operators = []
    for module, hidden, _ in inputs_of(model, ids, ".attn.attention"):
        query = heads_of(module.q_proj(hidden), module.head_dim)
        key = heads_of(module.k_proj(hidden), module.head_dim)
        local = model.config.attention_layers[module.layer_id] == "local"
        window = model.config.window_size if local else None
        operators.append(attention_weights(query, key, scaled(1.0), window=window))
    return operators


def eager_weights(model_type: str) -> Callable[[nn.Module, Tensor], list[Tensor]]:
    """The weights that a twin of the model with eager attention returns (float32)."""

    def naive(model: nn.Module, ids: Tensor) -> list[Tensor]:
        twin = build_tiny(model_type, attn_implementation="eager")
        twin.load_state_dict(model.state_dict())
        return returned_weights(twin, ids)

    return naive


def returned_weights(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """The attention weights that a model returns when it is asked for them."""
    with torch.no_grad():
        output = model(input_ids=ids, use_cache=False, output_attentions=True)
    return [weights.double() for weights in output.attentions]
