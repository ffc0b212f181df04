"""What `tiny_models` sets in configurations: common sizes, and what single types need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIDDEN = 64
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 16
LAYERS = 2
VOCABULARY = 128
STATE = 8
EXPERTS = 4
WINDOW = 8
POSITIONS = 256
INIT_STD = 0.15

LAYER_COUNT_FIELDS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "encoder_layers",
    "num_decoder_layers",
    "num_encoder_layers",
)

LAYER_KIND_FIELDS = (
    "layer_types",
    "layers_block_type",
    "mlp_layer_types",
    "indexer_types",
    "no_rope_layers",
)

_SAME_SIZE: tuple[tuple[int | float, tuple[str, ...]], ...] = (
    (LAYERS, LAYER_COUNT_FIELDS),
    (
        HIDDEN,
        (
            "hidden_size",
            "d_model",
            "n_embd",
            "emb_dim",
            "embedding_size",
            "input_embedding_size",
            "output_embedding_size",
            "word_embed_proj_dim",
            "backbone_hidden_size",
            "attention_hidden_size",
            "lru_width",
            "rel_extent",
            "projection_dim",
            "hidden_size_global",
        ),
    ),
    (
        2 * HIDDEN,
        (
            "intermediate_size",
            "ffn_dim",
            "d_inner",
            "dff",
            "dim_ff",
            "n_inner",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "feed_forward_size",
            "ffn_hidden_size",
            "intermediate_size_mlp",
            "dense_intermediate_size",
            "prefix_dense_intermediate_size",
            "mamba_d_ssm",
        ),
    ),
    (
        HIDDEN // 2,
        (
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "shared_experts_intermediate_size",
            "shared_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "expert_ffn_hidden_size",
            "kv_lora_rank",
            "q_lora_rank",
            "o_lora_rank",
            "router_hidden_size",
            "pronunciation_embed_dim",
            "shape_embed_dim",
        ),
    ),
    (
        HEADS,
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "attention_heads",
            "encoder_attention_heads",
            "decoder_attention_heads",
            "num_encoder_attention_heads",
            "num_decoder_attention_heads",
            "swa_num_attention_heads",
            "linear_num_value_heads",
            "linear_num_heads",
        ),
    ),
    (
        KV_HEADS,
        (
            "num_key_value_heads",
            "num_kv_heads",
            "swa_num_key_value_heads",
            "linear_num_key_heads",
            "index_n_heads",
        ),
    ),
    (
        HEAD_DIM,
        (
            "head_dim",
            "dim_head",
            "kv_channels",
            "swa_head_dim",
            "linear_head_dim",
            "linear_key_head_dim",
            "linear_value_head_dim",
            "attention_head_size",
            "v_head_dim",
            "qk_nope_head_dim",
            "index_head_dim",
            "mamba_d_head",
            "mamba_head_dim",
            "query_pre_attn_scalar",
            "hidden_size_per_layer_input",
            "laurel_rank",
            "gated_norm_rank",
            "adapter_rank",
        ),
    ),
    (HEAD_DIM // 2, ("qk_rope_head_dim", "rotary_dim", "d_rel")),
    (
        VOCABULARY,
        (
            "vocab_size",
            "unpadded_vocab_size",
            "decoder_vocab_size",
            "vocab_size_per_layer_input",
            "audio_vocab_size",
            "pronunciation_vocab_size",
            "shape_vocab_size",
        ),
    ),
    (
        STATE,
        ("state_size", "ssm_state_size", "mamba_d_state"),
    ),
    (
        2 * HIDDEN // HEAD_DIM,
        ("mamba_n_heads", "mamba_num_heads"),
    ),
    (
        EXPERTS,
        (
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "moe_num_experts",
        ),
    ),
    (
        2,
        (
            "num_experts_per_tok",
            "moe_topk",
            "moe_k",
            "top_k_experts",
            "n_groups",
            "mamba_n_groups",
            "mamba_ngroups",
        ),
    ),
    (
        1,
        (
            "n_group",
            "topk_group",
            "n_shared_experts",
            "num_shared_experts",
            "moe_num_shared_experts",
            "first_k_dense_replace",
            "num_dense_layers",
            "max_window_layers",
            "num_nextn_predict_layers",
        ),
    ),
    (
        WINDOW,
        (
            "sliding_window",
            "sliding_window_size",
            "attention_window_size",
            "window_size",
            "attention_chunk_size",
            "index_topk",
            "mamba_chunk_size",
            "chunk_size",
        ),
    ),
    (
        POSITIONS,
        (
            "max_position_embeddings",
            "n_positions",
            "n_ctx",
            "max_seq_len",
            "context_length",
            "max_target_positions",
            "original_max_position_embeddings",
        ),
    ),
    (
        INIT_STD,
        (
            "initializer_range",
            "init_std",
            "embed_init_std",
            "initializer_factor",
            "embedding_initializer_range",
            "w_init_variance_scale",
        ),
    ),
    (1 / HEADS, ("attention_multiplier",)),
    (0, ("num_kv_shared_layers",)),
)

SIZES: dict[str, Any] = {name: value for value, names in _SAME_SIZE for name in names}
"""Value of every size field, whichever configuration declares it."""

SIZES.update(
    is_decoder=True,
    causal=True,
    add_cross_attention=False,
    use_sliding_window=True,
)

MLA_SIZES: Mapping[str, Any] = {"num_key_value_heads": HEADS, "head_dim": HEAD_DIM // 2}
"""Latent attention expands its keys to all heads, and its head size is that of the rotary part."""

_DRAFTS = "drafts for a target model: takes its hidden states and key-value states, not token ids"

CANNOT_BUILD: Mapping[str, str] = {
    "gemma4_assistant": _DRAFTS,
    "gemma4_unified_assistant": _DRAFTS,
}
"""Why a type has no tiny model."""

TEXT_INSTEAD: Mapping[str, str] = {"gemma3n": "gemma3n_text"}
"""Composite types whose other parts need packages that a text model does without."""

_FULL_AND_SLIDING = {"layer_types": ["full_attention", "sliding_attention"]}
_CONV_AND_FULL = {"layer_types": ["conv", "full_attention"]}
_DENSE_AND_SPARSE = {"mlp_layer_types": ["dense", "sparse"]}
_DENSE_FIRST = {"mlp_only_layers": [0]}
_SHARED_KV = {"num_hidden_layers": 4, "num_kv_shared_layers": 2}
_MROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2]}

OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"local_attention_window_len": WINDOW, "encoder_hash_byte_group_vocab": VOCABULARY},
    "cohere2_moe": _DENSE_AND_SPARSE,
    "cohere_compass_text": {
        **_FULL_AND_SLIDING,
        "rope_parameters": {"full_attention": _MROPE, "sliding_attention": _MROPE},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": KV_HEADS, "rope_theta": 10_000.0, "clip_qkv": 8.0},
        "ffn_config": {
            "hidden_size": HIDDEN,
            "ffn_hidden_size": HIDDEN // 2,
            "moe_num_experts": EXPERTS,
            "moe_top_k": 2,
        },
    },
    "deepseek_v4": {
        "layer_types": [
            "sliding_attention",
            "heavily_compressed_attention",
            "compressed_sparse_attention",
        ],
        "compress_rates": {"heavily_compressed_attention": 8, "compressed_sparse_attention": 4},
        "o_groups": 2,
        "index_topk": 2,
    },
    "doge": {"keep_window_size": WINDOW},
    "dots1": _FULL_AND_SLIDING,
    "dots3_note_text": {
        "swa_num_attention_heads": HEADS,
        "swa_num_key_value_heads": HEADS,
        "swa_q_lora_rank": HIDDEN // 2,
        "swa_kv_lora_rank": HIDDEN // 2,
        "swa_head_dim": HEAD_DIM + HEAD_DIM // 2,
        "swa_qk_nope_head_dim": HEAD_DIM,
        "swa_v_head_dim": HEAD_DIM,
    },
    "gemma3n_text": _SHARED_KV,
    "gemma4_text": {**_SHARED_KV, "global_head_dim": HEAD_DIM},
    "gemma4_unified_text": {**_SHARED_KV, "global_head_dim": HEAD_DIM},
    "glm_moe_dsa": {"indexer_types": ["full", "shared"]},
    "got_ocr2_vision": {"mlp_dim": HIDDEN, "output_channels": HEAD_DIM, "image_size": HIDDEN},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "inkling_text": _DENSE_AND_SPARSE,
    "jamba": {
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
    },
    "laguna": _FULL_AND_SLIDING,
    "lfm2": _CONV_AND_FULL,
    "lfm2_moe": _CONV_AND_FULL,
    "llama4_text": {"moe_layers": [1], "floor_scale": WINDOW},
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 2 * HIDDEN // HEAD_DIM},
    "mellum": {**_FULL_AND_SLIDING, **_DENSE_AND_SPARSE},
    "minimax": {"block_size": WINDOW},
    "minimax_m3_vl_text": {
        **_DENSE_AND_SPARSE,
        "layer_types": ["full_attention", "minimax_m3_sparse"],
        "index_block_size": 4,
        "index_topk_blocks": 2,
    },
    "ministral": _FULL_AND_SLIDING,
    "mllama_text_model": {"num_hidden_layers": 3, "cross_attention_layers": [1]},
    "modernbert-decoder": {"local_attention": 2 * WINDOW},
    "musicgen_decoder": {"num_codebooks": 1},
    "musicgen_melody_decoder": {"num_codebooks": 1},
    "phi4_multimodal_audio": {"nemo_conv_channels": HEAD_DIM, "ext_pw_out_channel": HIDDEN},
    "qwen2": _FULL_AND_SLIDING,
    "qwen2_moe": {**_FULL_AND_SLIDING, **_DENSE_FIRST},
    "qwen3": _FULL_AND_SLIDING,
    "qwen3_moe": _DENSE_FIRST,
    "qwen3_next": _DENSE_FIRST,
    "qwen4_exp_text": {
        "hc_lowrank": HEAD_DIM,
        "indexer_n_heads": KV_HEADS,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD_DIM,
        "indexer_budget": WINDOW,
        "indexer_compress_ratio": 4,
        "ple_layer_ids": [1],
        "ngram_vocab_size_base": VOCABULARY,
        "split_ngram_parts": 1,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [HIDDEN // 2, HIDDEN // 2],
        "hash_seed": 0,
        "local_attn_chunk_length": WINDOW,
        "lsh_attn_chunk_length": WINDOW,
        "num_buckets": 4,
    },
    "smollm3": _FULL_AND_SLIDING,
    "xlnet": {"attn_type": "uni"},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "layers_block_type": [
            "linear_attention",
            "hybrid",
            "linear_attention",
            "linear_attention",
            "hybrid",
            "linear_attention",
        ],
        "attention_hidden_size": 2 * HIDDEN,
        "attention_head_dim": 2 * HIDDEN // HEADS,
    },
    "zamba2": {"num_hidden_layers": 4, "num_key_value_heads": HEADS},
    "zaya": {"layer_types": ["hybrid", "hybrid_sliding"], "num_experts_per_tok": 1},
}
"""Fields that a configuration type, or the type of a sub-configuration, needs besides the sizes."""

CONSTANTS: Mapping[str, Mapping[str, float]] = {
    "inkling_text": {"q_norm.weight": 4.0},
    "zaya": {"temp": 2.0},
}
"""Values of parameters that scale the attention scores and would leave attention uniform."""
