"""A language model that takes no time and no download, to show that everything runs."""

from __future__ import annotations

from typing import Any

import torch

from hf_ess.modulation.texts import TEXT_NAMES, passages_of

END = "</s>"
UNKNOWN = "<unk>"


def tiny_language() -> tuple[Any, Any]:
    """A Llama of two layers before any training, and a tokenizer of the words of our texts.

    Example:
        >>> model, tokenizer = tiny_language()
        >>> tokenizer("Copper turns green.</s>").input_ids[-1] == tokenizer.eos_token_id
        True
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(tokenizer),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval(), tokenizer


def _tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split(Regex(r"\w+|[^\w]"), "isolated"),
        ]
    )
    texts = " ".join(passage for name in TEXT_NAMES for passage in passages_of(name))
    words = sorted({word for word, _ in splitter.pre_tokenize_str(texts)})
    numbered = {word: number for number, word in enumerate([UNKNOWN, END, *words])}
    tokenizer = Tokenizer(models.WordLevel(numbered, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END)
