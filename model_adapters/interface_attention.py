"""Softmax attention of models that fetch their function through transformers' AttentionInterface.

Every modern transformers model asks `AttentionInterface.get_interface` for its attention function
on each forward pass. Wrapping that call shows the function which really runs and the model's own
eager one, without changing the model's configured implementation: several models branch on its
name, and one under another name would compute something else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_mask
from transformers import AttentionInterface

from hf_ess.operators import SoftmaxAttentionOperator
from hf_ess.operators.masks import visible_pairs
from model_adapters.exact_attention import (
    AttentionFunction,
    ModelAttentionWeights,
    rectangle_reason,
)
from model_adapters.patching import observed_calls
from model_adapters.recorder import Recorder
from model_adapters.registry import MixerAdapter, register_adapter

MIXER = "softmax attention"

# The mask is rebuilt where a kernel gets it in its own form, so these must not be passed twice.
_KERNEL_ONLY = ("is_causal", "cache", "output_attentions")


@register_adapter
class InterfaceAttention(MixerAdapter):
    """Attention through `AttentionInterface`: sinks, soft caps, windows, MLA, grouped heads."""

    mixer = MIXER
    models = "every transformers model that fetches its function from AttentionInterface"
    keeps_graph = True

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        with observed_calls(AttentionInterface, "get_interface", recorder, _observed_interface):
            yield


def _observed_interface(
    get_interface: Callable[..., AttentionFunction],
    recorder: Recorder,
    interface: AttentionInterface,
    attn_implementation: str,
    default: AttentionFunction,
) -> AttentionFunction:
    function = get_interface(interface, attn_implementation, default)
    return _Observed(recorder, function, attn_implementation, default)


class _Observed:
    """The model's attention function, which reports each of its calls to the recorder."""

    def __init__(
        self,
        recorder: Recorder,
        function: AttentionFunction,
        implementation: str,
        eager: AttentionFunction,
    ) -> None:
        self.recorder = recorder
        self.function = function
        self.implementation = implementation
        self.eager = eager

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        with self.recorder.inside_mixer():
            result = self.function(module, query, key, value, attention_mask, *args, **kwargs)
        if args:
            names = list(inspect.signature(self.function).parameters)[5:]
            kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
        self._report(module, (query, key, value), attention_mask, kwargs, result[0])
        return result

    def _report(
        self,
        module: nn.Module,
        features: tuple[Tensor, Tensor, Tensor],
        attention_mask: Any,
        kwargs: dict[str, Any],
        output: Tensor,
    ) -> None:
        query, key, value = (self.recorder.kept(tensor) for tensor in features)
        if query.shape[-2] != key.shape[-2] and not self.recorder.is_composed(module):
            self.recorder.refuse(
                module,
                mixer=MIXER,
                reason=rectangle_reason(query.shape[-2], key.shape[-2]),
            )
            return
        mask = explicit_mask(module, query, attention_mask, kwargs)
        # Fused kernels cannot run on values of float64, so the model's own eager function answers
        # for them; the residual shows whether both agree.
        fused = self.implementation != "sdpa"
        if fused and mask is not None and mask.dtype == torch.bool:
            mask = _as_additive(mask, query.dtype)
        weights = ModelAttentionWeights(
            self.eager if fused else self.function,
            module,
            query.shape[1],
            query.shape[2],
            {name: value for name, value in kwargs.items() if name not in _KERNEL_ONLY}
            | {"dropout": 0.0},
            additive=fused,
        )
        heads_per_value = query.shape[1] // value.shape[1]
        self.recorder.record(
            module,
            mixer=MIXER,
            operator=SoftmaxAttentionOperator(query, key, mask, weights=weights),
            inputs=value.detach().repeat_interleave(heads_per_value, dim=1),
            outputs=output.detach().transpose(1, 2),
        )


def explicit_mask(
    module: nn.Module, query: Tensor, attention_mask: Any, kwargs: dict[str, Any]
) -> Tensor | None:
    """The mask of one attention call as a tensor, whatever form the implementation takes it in.

    Without a mask the call is causal (None, as for operators: long texts need no `[L, L]` mask)
    unless the call or the module says that it is not, and a `sliding_window` argument (fused
    kernels take it instead of a mask) bounds how far it looks.
    """
    length = query.shape[-2]
    if isinstance(attention_mask, BlockMask):
        shape = query.shape[0], query.shape[1], length, length
        return create_mask(attention_mask.mask_mod, *shape, query.device)
    if isinstance(attention_mask, Tensor) and attention_mask.ndim >= 3:
        return attention_mask
    causal = kwargs.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)
    if not causal:
        return torch.ones(1, 1, length, length, dtype=torch.bool, device=query.device)
    window = kwargs.get("sliding_window")
    if window is None:
        return None
    return visible_pairs(None, length, query.device).triu(1 - window)


def _as_additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    zero = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zero.masked_fill_(~mask, torch.finfo(dtype).min)
