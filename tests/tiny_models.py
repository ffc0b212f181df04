"""Tiny causal language models with random weights, one for each model type of transformers.

The recipe is generic: every size field that a configuration class declares is set to a small
value, each kind of layer that the default configuration names is kept at least once, and
sub-configurations are made tiny in the same way. What a type needs besides lies in
`tiny_model_overrides`.

Example:
    >>> model = build_tiny("llama")
    >>> logits = model(input_ids=tiny_input_ids(model), use_cache=False).logits
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from tiny_model_overrides import (
    CANNOT_BUILD,
    CONSTANTS,
    LAYER_COUNT_FIELDS,
    LAYER_KIND_FIELDS,
    LAYERS,
    MLA_SIZES,
    OVERRIDES,
    SIZES,
    TEXT_INSTEAD,
)
from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.pytorch_utils import Conv1D

_TOKEN_ENDINGS = ("_token_id", "_token_index", "unk_index", "mask_index")
_FIXED_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_TEXT_PARTS = ("text_config", "decoder")
_NOISE = 0.1
_GAIN = 1.2
_EMBEDDING_STD = 0.6


class CannotBuildTiny(Exception):  # noqa: N818 - reads as the verdict that it carries
    """A model type of which no tiny model can be built.

    Attributes:
        model_type: the model type asked for.
        reason: one short line that says why.
    """

    def __init__(self, model_type: str, reason: str) -> None:
        super().__init__(f"{model_type}: {reason}")
        self.model_type = model_type
        self.reason = reason


def causal_lm_types() -> list[str]:
    """Every model type for which transformers names a causal language model, sorted."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build_tiny(
    model_type: str,
    *,
    seed: int = 0,
    attn_implementation: str | None = None,
    **overrides: Any,
) -> nn.Module:
    """Builds a tiny causal model with random weights: evaluation mode, float32, on the CPU.

    Args:
        model_type: one of `causal_lm_types()`.
        seed: of the weights. The global random state is left as it was.
        attn_implementation: passed on to transformers; None keeps its default.
        overrides: configuration fields to set. In a composite configuration, a field that it
            does not declare itself is set in its text part.

    Raises:
        CannotBuildTiny: if the type cannot be built, with the reason.
        ValueError: if the model does not support the attention implementation.
    """
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise CannotBuildTiny(model_type, "transformers names no causal language model for it")
    if model_type in CANNOT_BUILD:
        raise CannotBuildTiny(model_type, CANNOT_BUILD[model_type])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            config = _causal_config(model_type, overrides)
            model: nn.Module = _model_class(model_type)._from_config(
                config, attn_implementation=attn_implementation, dtype=torch.float32
            )
        except ImportError as error:
            raise CannotBuildTiny(model_type, str(error).strip().splitlines()[0]) from error
        _enliven(model)
    _set_constants(model, CONSTANTS.get(model_type, {}))
    return model.eval()


def tiny_config(model_type: str) -> PreTrainedConfig:
    """The configuration of the tiny model of a type."""
    return _causal_config(model_type, {})


def tiny_input_ids(
    model: nn.Module, batch: int = 1, length: int = 23, seed: int = 0
) -> torch.LongTensor:
    """Random token ids of shape (batch, length) that a tiny model accepts.

    Ids that the configuration, or a part of it, names as special tokens are avoided.
    """
    config: Any = model.config
    special = {token for part in _parts(config) for token in _special_tokens(part)}
    vocabulary = config.get_text_config(decoder=True).vocab_size
    allowed = torch.tensor([token for token in range(vocabulary) if token not in special])
    generator = torch.Generator().manual_seed(seed)
    ids = allowed[torch.randint(len(allowed), (batch, length), generator=generator)]
    return cast("torch.LongTensor", ids)


def _model_class(model_type: str) -> Any:
    """The causal language model class of a type."""
    named = TEXT_INSTEAD.get(model_type, model_type)
    return MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[named]]


def _causal_config(model_type: str, overrides: Mapping[str, Any]) -> PreTrainedConfig:
    """Tiny configuration of the type, or of its text part if that is what the model takes."""
    config_class = CONFIG_MAPPING[TEXT_INSTEAD.get(model_type, model_type)]
    wanted = _model_class(model_type).config_class
    parts = config_class.sub_configs.values()
    return _tiny_config(wanted if wanted in parts else config_class, overrides)


def _tiny_config(
    config_class: type[PreTrainedConfig], overrides: Mapping[str, Any]
) -> PreTrainedConfig:
    """Tiny configuration of one class: sizes, then what the type needs, then the overrides."""
    fields = {field.name for field in dataclasses.fields(config_class)}
    needed = OVERRIDES.get(config_class.model_type, {})
    parts = _part_classes(config_class, needed)
    text_part = next((name for name in _TEXT_PARTS if name in parts), None)
    own, rest = _split_overrides(config_class, fields, overrides, keep_all=text_part is None)
    asked = {**needed, **own}
    values = {name: value for name, value in SIZES.items() if name in fields}
    if {"kv_lora_rank", "qk_rope_head_dim"} <= fields:
        values.update({name: size for name, size in MLA_SIZES.items() if name in fields})
    values.update(_token_ids(fields))
    for name, part_class in parts.items():
        values[name] = _tiny_config(part_class, rest if name == text_part else {})
    values.update(asked)
    values.update(_layer_kinds(config_class, fields, asked))
    return config_class(**values)


def _split_overrides(
    config_class: type[PreTrainedConfig],
    fields: set[str],
    overrides: Mapping[str, Any],
    *,
    keep_all: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The overrides that the class takes, under its own names for them, and the others."""
    aliases = config_class.attribute_map
    named = {
        name if name in fields else aliases.get(name, name): value
        for name, value in overrides.items()
    }
    own = {name: value for name, value in named.items() if keep_all or name in fields}
    return own, {name: value for name, value in named.items() if name not in own}


def _token_ids(fields: set[str]) -> dict[str, int]:
    """Distinct small ids for the special tokens that a configuration declares."""
    names = sorted(name for name in fields if name.endswith(_TOKEN_ENDINGS))
    others = [name for name in names if name not in _FIXED_TOKENS]
    ids = {name: token for name, token in _FIXED_TOKENS.items() if name in fields}
    return ids | {name: len(_FIXED_TOKENS) + place for place, name in enumerate(others)}


def _layer_kinds(
    config_class: type[PreTrainedConfig], fields: set[str], asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Layer count and lists of layer kinds in which every kind occurs."""
    kinds: dict[str, list[Any]] = {}
    for name in LAYER_KIND_FIELDS:
        if name in asked:
            kinds[name] = list(asked[name])
        elif name in fields:
            kinds[name] = list(dict.fromkeys(getattr(config_class(), name, None) or ()))
    counts = {name: asked[name] for name in LAYER_COUNT_FIELDS if name in asked}
    layers = max(counts.values(), default=max([LAYERS, *map(len, kinds.values())]))
    filled = {
        name: [named[layer % len(named)] for layer in range(layers)]
        for name, named in kinds.items()
        if named
    }
    return filled | {name: layers for name in LAYER_COUNT_FIELDS if name in fields} | counts


def _part_classes(
    config_class: type[PreTrainedConfig], given: Mapping[str, Any]
) -> dict[str, type[PreTrainedConfig]]:
    """Classes of the sub-configurations of the default configuration, without the given ones."""
    if not config_class.sub_configs:
        return {}
    default = config_class()
    parts = {name: getattr(default, name) for name in config_class.sub_configs}
    return {
        name: type(part)
        for name, part in parts.items()
        if isinstance(part, PreTrainedConfig) and name not in given
    }


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """The configuration and, recursively, its sub-configurations."""
    yield config
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if isinstance(part, PreTrainedConfig):
            yield from _parts(part)


def _special_tokens(config: PreTrainedConfig) -> Iterator[int]:
    """Ids that one configuration names as special tokens."""
    for name, value in vars(config).items():
        if name.endswith(_TOKEN_ENDINGS):
            tokens = value if isinstance(value, list | tuple) else [value]
            yield from (token for token in tokens if isinstance(token, int))


@torch.no_grad()
def _enliven(model: nn.Module) -> None:
    """Makes the random weights tell: spreads the projections and moves constant parameters.

    The usual initialisation gives such small queries and keys that attention is uniform, and
    leaves norms, biases and gates at a constant that hides whether they are used.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            fan_in = module.weight.shape[0 if isinstance(module, Conv1D) else 1]
            module.weight.copy_(torch.randn_like(module.weight) * _GAIN * fan_in**-0.5)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight.std() > 0:
            module.weight.mul_(_EMBEDDING_STD / module.weight.std())
    for parameter in model.parameters():
        if parameter.numel() and parameter.min() == parameter.max():
            parameter.add_(torch.randn_like(parameter), alpha=_NOISE)


@torch.no_grad()
def _set_constants(model: nn.Module, constants: Mapping[str, float]) -> None:
    """Fills the parameters whose names end as given."""
    for name, parameter in model.named_parameters():
        for ending, value in constants.items():
            if name.endswith(ending):
                parameter.fill_(value)
