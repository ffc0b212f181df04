"""The model and the texts of a case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from reliability.fuzzing.choices import COMPOSED, SYNTHETIC, Choices
from reliability.fuzzing.composed import VOCABULARY, composed_model
from tiny_models import build_tiny, tiny_input_ids
from torch import Tensor, nn

from hf_ess.synthetics import SyntheticConfig, build_model
from hf_ess.synthetics.configuration import MIXERS, STATELESS

PADDING = 0


@dataclass(frozen=True)
class Subject:
    """What is analysed.

    Attributes:
        model: in evaluation mode.
        texts: token ids of each text, `[L]`, without padding.
        inputs: the same as `analyze` gets them.
    """

    model: nn.Module
    texts: list[Tensor]
    inputs: Any

    @property
    def has_cache(self) -> bool:
        """Whether the model can be told not to fill one."""
        return hasattr(self.model, "config")

    def batches(self, batch_size: int) -> Iterator[list[int]]:
        """Numbers of the texts that run together: of one length, at most so many."""
        lengths = dict.fromkeys(len(text) for text in self.texts)
        for length in lengths:
            same = [number for number, text in enumerate(self.texts) if len(text) == length]
            for first in range(0, len(same), batch_size):
                yield same[first : first + batch_size]

    def ids(self, numbers: list[int]) -> Tensor:
        """`[B, L]`."""
        return torch.stack([self.texts[number] for number in numbers])


def build(choices: Choices) -> Subject:
    """Model and texts of a case; the random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(choices.seed)
        model = _model(choices).to(getattr(torch, choices.dtype)).eval()
        if choices.family == COMPOSED:
            whole = torch.randint(VOCABULARY, (choices.batch, choices.length))
        else:
            whole = tiny_input_ids(model, choices.batch, choices.length, seed=choices.seed)
    texts = [row[:length] for row, length in zip(whole, choices.lengths, strict=True)]
    return Subject(model, texts, _inputs(choices, whole, texts))


def _model(choices: Choices) -> nn.Module:
    if choices.family == COMPOSED:
        return composed_model(choices.config)
    if choices.family == SYNTHETIC:
        return _synthetic(choices)
    attention = choices.attention
    model = build_tiny(
        choices.model, seed=choices.seed, attn_implementation=attention, **choices.config
    )
    if choices.dtype != "float32":
        # torch's grouped products of experts know no float64, and few widths in half precision.
        model.set_experts_implementation("eager")
    return model


def _synthetic(choices: Choices) -> nn.Module:
    fields: dict[str, Any] = dict(choices.config)
    mixers = fields.setdefault("mixers", [MIXERS[0]])
    own = fields.pop("own_state", None)
    sizes = None if own is None else [None if m in STATELESS else own for m in mixers]
    config = SyntheticConfig(
        **fields, vocab_size=60, state_sizes=sizes, attn_implementation=choices.attention
    )
    return build_model(config, seed=choices.seed)


def _inputs(choices: Choices, whole: Tensor, texts: list[Tensor]) -> Tensor | Mapping[str, Tensor]:
    if choices.padding == "none":
        return whole
    ids = torch.full_like(whole, PADDING)
    mask = torch.zeros_like(whole)
    for row, text in enumerate(texts):
        left = choices.padding == "left"
        place = slice(whole.shape[1] - len(text), None) if left else slice(0, len(text))
        ids[row, place] = text
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask}
