"""A tokenizer that knows separators, passages of its words, and a model that forgets at them."""

from __future__ import annotations

import random

import torch
from analysis.handmade import VOCABULARY, Decoder, InlineAttention
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

MARKS = ("<unk>", "</s>", ".", "\n", "}", "<doc>")
WORDS = [f"w{number}" for number in range(VOCABULARY - len(MARKS))]
END = MARKS.index("</s>")


def tokenizer_of_words(eos="</s>"):
    vocabulary = {token: number for number, token in enumerate([*MARKS, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split(Regex(r"[.\n}]"), "isolated"),
        ]
    )
    special = {} if eos is None else {"eos_token": eos}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        additional_special_tokens=["<doc>"],
        **special,
    )


def passages(*lengths, end=""):
    chosen = random.Random(0)
    return [" ".join(chosen.choices(WORDS, k=length)) + end for length in lengths]


class ResetAttention(InlineAttention):
    """Softmax attention in which nothing from an end token on sees anything before it."""

    segments = None

    def forward(self, features):
        samples, length, width = features.shape
        query, key, value = (
            part.reshape(samples, length, 2, -1).transpose(1, 2)
            for part in self.projection(features).chunk(3, dim=-1)
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        hidden = hidden | (self.segments[:, None] != self.segments[None, :])
        output = torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1) @ value
        return output.transpose(1, 2).reshape(samples, length, width)


class ForgettingDecoder(Decoder):
    """Two layers of it."""

    def __init__(self):
        super().__init__(ResetAttention, ResetAttention)

    def forward(self, input_ids):
        for layer in self.layers:
            layer.mixer.segments = (input_ids[0] == END).cumsum(0)
        return super().forward(input_ids)
