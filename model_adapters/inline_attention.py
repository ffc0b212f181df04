"""Softmax attention that a model computes inline: tracked through torch's own functions.

A softmax over the keys is followed until it is the left factor of a product with the values;
calls of torch's fused attention outside of transformers' interface are taken directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode
from torch.utils.weak import WeakIdKeyDictionary

from hf_ess.errors import NotCausalError
from hf_ess.operators import (
    DenseOperator,
    LinearOperator,
    ScoredAttentionOperator,
    SoftmaxAttentionOperator,
)
from model_adapters.exact_attention import PRODUCTS, rectangle_reason, sdpa_mask
from model_adapters.recorder import Recorder
from model_adapters.registry import MixerAdapter, register_adapter

MIXER = "softmax attention (inline)"

_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)
# Functions after which the weights are still those of the softmax, in the same order.
_UNCHANGED = (
    functional.dropout, Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.half,
    Tensor.bfloat16, Tensor.contiguous, Tensor.view, Tensor.reshape, torch.reshape,
)  # fmt: skip
# Functions that change the weights, but keep them weights of the same queries and keys.
_ALTERED = (
    Tensor.__mul__, Tensor.mul, torch.mul, Tensor.__getitem__, Tensor.masked_fill,
    Tensor.__truediv__, Tensor.div, torch.div, torch.where, torch.masked_fill,
    Tensor.nan_to_num, torch.nan_to_num,
)  # fmt: skip


@register_adapter
class InlineAttention(MixerAdapter):
    """Attention written out in the model's own forward: softmax, then a product with values."""

    mixer = MIXER
    models = "any model that multiplies a softmax over keys with values, or calls torch's fused one"

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        tracker = _SoftmaxTracker(recorder)
        recorder.unobserved = tracker.aside
        with tracker:
            yield


@dataclass(frozen=True)
class _Weights:
    """Where a tensor of attention weights comes from; `scores` is None once it was altered."""

    scores: Tensor | None


class _SoftmaxTracker(TorchFunctionMode):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self._weights = WeakIdKeyDictionary()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Does not track for a while: millions of calls would take as long as the spectra."""
        if _get_current_function_mode() is not self:  # type: ignore[no-untyped-call]
            yield
            return
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        module = self.recorder.running
        if module is None or self.recorder.in_mixer or self.recorder.waits:
            return func(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            return self._fused(module, *args, **kwargs)
        result = func(*args, **kwargs)
        if func in _SOFTMAX:
            self._start(args, kwargs, result)
        elif self._weights and args:
            self._follow(func, module, args, result)
        return result

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if axis in (-1, result.ndim - 1) and result.ndim >= 3:
            self._weights[result] = _Weights(args[0] if args else kwargs["input"])

    def _follow(
        self, func: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], result: Any
    ) -> None:
        if func is torch.einsum:
            left, right, back = _einsum_as_product(args)
            if left is not None and left in self._weights:
                self._report(module, left, right, back(result), self._weights[left])
            return
        left = next((a for a in args if isinstance(a, Tensor) and a in self._weights), None)
        if left is None:
            return
        source = self._weights[left]
        if func in PRODUCTS and args[0] is left:
            self._report(module, left, args[1], result, source)
        elif func in _UNCHANGED and isinstance(result, Tensor):
            self._weights[result] = source
        elif func in _ALTERED and isinstance(result, Tensor):
            self._weights[result] = _Weights(None)

    def _report(
        self, module: nn.Module, weights: Tensor, values: Tensor, output: Tensor, source: _Weights
    ) -> None:
        if not self._over_tokens(module, *weights.shape[-2:]):
            return
        shape = self._per_head(weights)
        try:
            operator = _operator_of(weights.detach(), source, shape)
        except NotCausalError as error:
            self.recorder.refuse(module, mixer=MIXER, reason=f"not causal: {error.what}")
            return
        values = values.detach().expand(*weights.shape[:-2], *values.shape[-2:])
        batch, heads, queries, keys = shape
        self.recorder.record(
            module,
            mixer=MIXER,
            operator=operator,
            inputs=values.reshape(batch, heads, keys, values.shape[-1]),
            outputs=output.detach().reshape(batch, heads, queries, output.shape[-1]),
        )

    def _per_head(self, weights: Tensor) -> tuple[int, int, int, int]:
        """`[B, H, L, L]` for weights whose samples and heads may be one axis or several."""
        return self.recorder.batch or 1, -1, weights.shape[-2], weights.shape[-1]

    def _fused(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        names = ("attn_mask", "dropout_p", "is_causal", "scale")
        call = {**dict(zip(names, args, strict=False)), **kwargs}
        output = functional.scaled_dot_product_attention(query, key, value, **call)
        if not self._over_tokens(module, query.shape[-2], key.shape[-2]):
            return output
        mask = sdpa_mask(query, key, call.get("attn_mask"), bool(call.get("is_causal")))
        self.recorder.record(
            module,
            mixer=MIXER,
            operator=SoftmaxAttentionOperator(
                query.detach(), key.detach(), mask, scale=call.get("scale")
            ),
            inputs=value.detach().repeat_interleave(query.shape[1] // value.shape[1], dim=1),
            outputs=output.detach(),
        )
        return output

    def _over_tokens(self, module: nn.Module, queries: int, keys: int) -> bool:
        """Whether weights mix the tokens of the text; softmaxes over other axes do not matter."""
        length = self.recorder.length
        if length is None or queries == keys == length:
            return queries == keys
        if queries == length and self.recorder.is_composed(module):
            return True
        if length in (queries, keys):
            self.recorder.refuse(module, mixer=MIXER, reason=rectangle_reason(queries, keys))
        elif queries == keys > length:
            reason = f"it mixes {keys} positions, the text has {length} tokens"
            self.recorder.refuse(module, mixer=MIXER, reason=reason)
        return False


def _operator_of(weights: Tensor, source: _Weights, shape: tuple[int, ...]) -> LinearOperator:
    if source.scores is not None and source.scores.numel() == weights.numel():
        return ScoredAttentionOperator(source.scores.detach().reshape(shape))
    return DenseOperator(weights.reshape(shape))


def _einsum_as_product(
    args: tuple[Any, ...],
) -> tuple[Tensor | None, Tensor, Callable[[Tensor], Tensor]]:
    """`einsum("bnij,jbnd->ibnd", w, v)` as weights `[b, n, i, j]` times values `[b, n, j, d]`.

    Returns the weights (None where the equation is no such product), the values, and how to bring
    the result into the order `[b, n, i, d]`.
    """
    nothing = None, torch.empty(0), lambda result: result
    if len(args) == 2 and isinstance(args[1], (tuple, list)):
        args = args[0], *args[1]
    if len(args) != 3 or not isinstance(args[0], str) or "->" not in args[0] or "." in args[0]:
        return nothing
    inputs, out = args[0].replace(" ", "").split("->")
    left, right = inputs.split(",")
    summed = [label for label in left if label in right and label not in out]
    if summed != [left[-1]] or len(left) < 3:
        return nothing
    batch, query = left[:-2], left[-2]
    channel = [label for label in right if label not in left]
    shared = all(label in right and label in out for label in batch)
    if len(channel) != 1 or not shared or query in right or query not in out:
        return nothing
    values_order = [right.index(label) for label in (*batch, left[-1], *channel)]
    result_order = [out.index(label) for label in (*batch, query, *channel)]
    return args[1], args[2].permute(values_order), lambda result: result.permute(result_order)
