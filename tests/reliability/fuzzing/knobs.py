"""Which configurations random models have: of transformers, of hf_ess.synthetics, and composed."""

from __future__ import annotations

import dataclasses
from functools import cache
from random import Random
from typing import Any

from reliability.fuzzing.knob_exceptions import (
    ALTERNATIVES,
    FIXED_FIELDS,
    FIXED_HEADS,
    FIXED_ORDER,
    NOT_CAUSAL,
)
from tiny_model_overrides import CANNOT_BUILD, HIDDEN
from tiny_models import causal_lm_types, tiny_config

STATES = (1, 2, 3, 5, 8, 16, 64)
WINDOWS = (2, 3, 5, 8, 16, 40)
SWITCH = (False, True)
KNOBS: dict[str, tuple[Any, ...]] = {
    # windows and chunks
    "sliding_window": WINDOWS,
    "window_size": WINDOWS,
    "attention_window_size": WINDOWS,
    "sliding_window_size": WINDOWS,
    "keep_window_size": WINDOWS,
    "local_attention": (4, 8, 16),
    "attention_chunk_size": (4, 8, 16),
    # scores
    "attn_logit_softcapping": (None, 1.0, 20.0),
    "final_logit_softcapping": (None, 5.0),
    # With 1.0 large scores round by more than the bound of half precision.
    "attention_multiplier": (0.05, 0.5),
    "query_pre_attn_scalar": (1, 64),
    "scale_attn_by_inverse_layer_idx": SWITCH,
    "scale_attn_weights": SWITCH,
    "reorder_and_upcast_attn": SWITCH,
    "clip_qkv": (None, 0.5),
    "alibi": SWITCH,
    "multi_query": SWITCH,
    "new_decoder_architecture": SWITCH,
    # projections and norms
    "attention_bias": SWITCH,
    "qkv_bias": SWITCH,
    "use_qkv_bias": SWITCH,
    "use_bias": SWITCH,
    "use_qk_norm": SWITCH,
    "qk_layernorm": SWITCH,
    "rotary_dim": (4, 8),
    # states
    "state_size": STATES,
    "ssm_state_size": STATES,
    "mamba_d_state": STATES,
    "mamba_n_groups": (1, 2),
    "mamba_ngroups": (1, 2),
    "linear_num_key_heads": (1, 2),
    "linear_num_value_heads": (2, 4),
    "linear_key_head_dim": (4, 8, 16),
    "linear_value_head_dim": (4, 8, 16),
    "linear_head_dim": (4, 8, 16),
    "qk_dim_factor": (0.5, 1.0),
    # convolutions
    "conv_kernel": (2, 3, 4),
    "mamba_d_conv": (2, 3, 4),
    "conv_L_cache": (2, 3, 5),
    "linear_conv_kernel_dim": (2, 3, 4),
    "short_conv_kernel_size": (2, 3, 4),
    "conv1d_width": (2, 3, 4),
    "conv_bias": SWITCH,
    "mamba_conv_bias": SWITCH,
    "mamba_proj_bias": SWITCH,
    "use_conv_bias": SWITCH,
    # how a recurrence is computed
    "chunk_size": (4, 16, 256),
    "mamba_chunk_size": (4, 16, 256),
    "block_size": (4, 16, 64),
    "time_step_limit": ((0.0, 100.0), (0.01, 0.1)),
    # other
    "num_hidden_layers": (1, 2, 3),
    "n_layer": (1, 2, 3),
}
KIND_FIELDS = ("layer_types", "layers_block_type")
MOST_LAYERS = 5
SHARE = 0.4


@cache
def model_types() -> tuple[str, ...]:
    """Types of transformers that can be built and are causal."""
    left_out = {*CANNOT_BUILD, *NOT_CAUSAL}
    return tuple(name for name in causal_lm_types() if name not in left_out)


def of_transformers(random: Random, model_type: str) -> dict[str, Any]:
    """Random fields for a type, of those that it has and that go together."""
    declared, kinds = _facts(model_type)
    fixed = FIXED_FIELDS.get(model_type, ())
    config = {
        name: random.choice(values)
        for name, values in KNOBS.items()
        if name in declared and name not in fixed and random.random() < SHARE
    }
    if random.random() < SHARE and model_type not in FIXED_HEADS:
        config |= _heads(random, declared)
    if random.random() < 2 * SHARE and kinds and model_type not in FIXED_ORDER:
        name, names = kinds
        order = [random.choice(names) for _ in range(random.randint(1, MOST_LAYERS))]
        config |= {name: order, "num_hidden_layers": len(order)}
    if model_type in ALTERNATIVES and random.random() < 2 * SHARE:
        config |= random.choice(ALTERNATIVES[model_type])
    return config


@cache
def _facts(model_type: str) -> tuple[frozenset[str], tuple[str, tuple[str, ...]] | None]:
    """Fields of the configuration of a type; where it lists kinds of layers, and which."""
    config = tiny_config(model_type).get_text_config(decoder=True)
    declared = frozenset(field.name for field in dataclasses.fields(type(config)))
    for name in KIND_FIELDS:
        kinds = tuple(dict.fromkeys(getattr(config, name, None) or ()))
        if name in declared and len(kinds) > 1:
            return declared, (name, kinds)
    return declared, None


def _heads(random: Random, declared: frozenset[str]) -> dict[str, Any]:
    """Heads, and heads of keys that divide them; any number where heads have a width."""
    if "kv_lora_rank" in declared:
        return {}
    own_width = {"head_dim", "num_attention_heads", "num_key_value_heads"} <= declared
    heads = random.choice((1, 2, 3, 4, 5, 6, 7) if own_width else (1, 2, 4, 8))
    config: dict[str, Any] = {"num_attention_heads": heads}
    if "num_attention_heads" not in declared:
        return {"n_head": heads} if "n_head" in declared else {}
    if "num_key_value_heads" in declared:
        divisors = [number for number in range(1, heads + 1) if heads % number == 0]
        config["num_key_value_heads"] = random.choice(divisors)
    if own_width:
        config["head_dim"] = random.choice((4, 6, 8, 12, 16, 20))
        if HIDDEN % heads:
            config["hidden_size"] = 12 * heads
    return config


def synthetic(random: Random) -> dict[str, Any]:
    """Any order of the mixers of hf_ess.synthetics."""
    mixers = ("LA", "GLA", "WLA", "SA", "S6", "GLA-S6", "Mamba", "Hyena")
    heads = random.randint(1, 5)
    return {
        "mixers": [random.choice(mixers) for _ in range(random.randint(1, MOST_LAYERS))],
        "num_attention_heads": heads,
        "hidden_size": heads * random.choice((2, 4, 6, 8)),
        "state_size": random.choice(STATES),
        "alpha": random.choice((0.5, 1.0, 8.0, 64.0)),
        "decay_temperature": random.choice((1.0, 16.0)),
        "conv_kernel": random.choice((1, 2, 4)),
        "filter_length": random.choice((4, 64)),
        "own_state": random.choice((None, None, 2, 6)),
    }


def composed(random: Random) -> dict[str, Any]:
    """Attention written by hand between mixers that nobody knows."""
    kinds = ("attention", "attention", "fused", "shared", "pointwise", "lstm", "sum", "mean")
    kv_heads = random.randint(1, 3)
    width = random.choice((2, 4, 6, 8))
    return {
        "mixers": [random.choice(kinds) for _ in range(random.randint(1, MOST_LAYERS))],
        "kv_heads": kv_heads,
        "shared_by": random.randint(1, 3),
        "width": width,
        "window": random.choice((None, None, *WINDOWS)),
        "soft_cap": random.choice((None, None, 1.0, 20.0)),
        "sinks": random.choice(SWITCH),
        "qk_norm": random.choice(SWITCH),
        "rotary": random.choice((0, 2, width)),
        "alibi": random.choice(SWITCH),
    }
