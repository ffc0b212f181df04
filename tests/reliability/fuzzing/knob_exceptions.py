"""What the models of transformers themselves do not allow to be chosen freely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_CAUSAL = ("cpmant", "reformer")
"""Early tokens see later ones: refused as such, which the conformance tests show."""

_SHARED_KEYS = ("gemma3n", "gemma3n_text")
_SHARED_KEYS_TOO = ("gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text")
_NO_CAP = ("final_logit_softcapping",)

FIXED_FIELDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_SHARED_KEYS, ("num_hidden_layers", *_NO_CAP)),
    **dict.fromkeys(_SHARED_KEYS_TOO, ("num_hidden_layers",)),
    "falcon": ("multi_query", "new_decoder_architecture"),
    "inkling2_text": _NO_CAP,
    "internlm3": ("attention_bias",),
    "minimax_m3_vl_text": ("rotary_dim",),
    "olmo_hybrid": ("num_hidden_layers",),
    "qwen4_exp": ("num_hidden_layers",),
    "qwen4_exp_text": ("num_hidden_layers",),
    "rwkv": ("num_hidden_layers",),
    "zamba": ("num_hidden_layers",),
}
"""Fields whose value follows from others."""

FIXED_HEADS = (
    "codegen",
    "deepseek_v4",
    "diffllama",
    "falcon",
    "helium",
    "mimo_v2_flash",
    "minimax_m3_vl_text",
    "qwen4_exp",
    "qwen4_exp_text",
)
"""Types whose heads have to fit widths or numbers elsewhere."""

FIXED_ORDER = (
    *_SHARED_KEYS,
    *_SHARED_KEYS_TOO,
    "olmo_hybrid",
    "qwen4_exp",
    "qwen4_exp_text",
    "zamba",
)
"""Types in which layers refer to others by number, or some kind has to occur."""

_LINEAR, _HYBRID, _FULL = "linear_attention", "hybrid", "full_attention"
ALTERNATIVES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "bamba": (
        {"num_hidden_layers": 1, "attn_layer_indices": [0]},
        {"num_hidden_layers": 3, "attn_layer_indices": [0, 2]},
        {"num_hidden_layers": 4, "attn_layer_indices": [2]},
    ),
    "falcon": (
        {"multi_query": True, "new_decoder_architecture": False},
        {"multi_query": False, "new_decoder_architecture": False, "num_kv_heads": 4},
    ),
    "jamba": (
        {"num_hidden_layers": 3, "attn_layer_offset": 2, "attn_layer_period": 3},
        {"num_hidden_layers": 2, "attn_layer_offset": 0, "attn_layer_period": 1},
        {"num_hidden_layers": 4, "attn_layer_offset": 0, "attn_layer_period": 4},
    ),
    "olmo_hybrid": (
        {"layer_types": [_LINEAR, _FULL, _LINEAR], "num_hidden_layers": 3},
        {"layer_types": [_FULL, _LINEAR, _LINEAR, _FULL], "num_hidden_layers": 4},
    ),
    "recurrent_gemma": ({"num_hidden_layers": 1}, {"num_hidden_layers": 5}),
    "rwkv": ({"num_hidden_layers": 3},),
    "zamba": (
        {"layers_block_type": [_LINEAR, _HYBRID, _HYBRID], "num_hidden_layers": 3},
        {
            "layers_block_type": [_LINEAR, _LINEAR, _HYBRID, _LINEAR, _HYBRID, _HYBRID],
            "num_hidden_layers": 6,
        },
    ),
}
"""Orders of layers of types that do not list them freely, and fields that go together."""

DTYPES_OF: Mapping[str, tuple[str, ...]] = {
    "inkling2_text": ("float32",),
    "xglm": ("float32", "bfloat16", "float16"),
}
"""Types that mix float32 with what they are converted to."""
