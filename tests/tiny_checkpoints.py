"""Tiny checkpoints on disk: a saved Llama with a tokenizer of words, and one as GGUF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tiny_models import build_tiny
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 128
UNKNOWN, PADDING = "<unk>", "<pad>"
_WIDTH, _HEADS, _KV_HEADS, _FEED_FORWARD, _LAYERS = 32, 4, 2, 64, 2


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` entries: `<unk>`, `<pad>`, then the words w2, w3, ... by their id."""
    words = [UNKNOWN, PADDING, *(f"w{number}" for number in range(2, size))]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PADDING)


def words(ids: torch.Tensor) -> str:
    """The text that `word_tokenizer` turns into these ids `[L]`."""
    return " ".join(f"w{token}" for token in ids.tolist())


def some_text(length: int, seed: int = 0) -> str:
    """A text of that many tokens."""
    generator = torch.Generator().manual_seed(seed)
    return words(torch.randint(2, VOCABULARY, (length,), generator=generator))


def save_llama(folder: Path, **overrides: object) -> Path:
    """Saves a tiny Llama and the tokenizer of its vocabulary; returns the folder."""
    model = build_tiny("llama", vocab_size=VOCABULARY, **overrides)
    model.save_pretrained(folder)
    word_tokenizer(VOCABULARY).save_pretrained(folder)
    return folder


def write_gguf(path: Path) -> Path:
    """Writes a Llama of random weights; its tokenizer knows single bytes and `he`."""
    import gguf

    tokens = ["<unk>", "<s>", "</s>", *(chr(code) for code in range(33, 127)), "Ġ", "he"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(_LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    random = np.random.default_rng(0)
    for name, shape in _gguf_shapes(len(tokens)).items():
        if len(shape) == 1:
            weight = np.ones(shape)
        else:
            weight = random.standard_normal(shape) * shape[-1] ** -0.5
        writer.add_tensor(name, weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    keys = _WIDTH * _KV_HEADS // _HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, _WIDTH),
        "output.weight": (vocabulary, _WIDTH),
        "output_norm.weight": (_WIDTH,),
    }
    for layer in range(_LAYERS):
        shapes |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (_WIDTH,),
                "attn_q": (_WIDTH, _WIDTH),
                "attn_k": (keys, _WIDTH),
                "attn_v": (keys, _WIDTH),
                "attn_output": (_WIDTH, _WIDTH),
                "ffn_norm": (_WIDTH,),
                "ffn_gate": (_FEED_FORWARD, _WIDTH),
                "ffn_up": (_FEED_FORWARD, _WIDTH),
                "ffn_down": (_WIDTH, _FEED_FORWARD),
            }.items()
        }
    return shapes
