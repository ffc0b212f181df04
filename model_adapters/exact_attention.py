"""Runs a model's own attention function on identity values, in float64.

The function is asked for `M I`, so that whatever it does to its scores (sinks, soft caps,
biases, masks, row scalings) is in the answer without a special case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import SoftmaxWeights
from hf_ess.operators.graphs import tracked
from hf_ess.operators.masks import additive_mask, causal_rows
from model_adapters.weights import weights_here

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

_NARROWER = (torch.float32, torch.bfloat16, torch.float16)
PRODUCTS = (torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)


def _widened(value: Any) -> Any:
    return torch.float64 if value in _NARROWER else value


class Float64OnIdentity(TorchFunctionMode):
    """Keeps float64 where code asks for narrower floats, and skips products with the identity.

    Dropout, which modules in training mode apply whatever they are told, is skipped too.

    Attention functions cast to float32 on the way; an exact operator must not lose its digits
    there. Multiplying weights by the identity values returns the weights: doing it for real
    would cost as much as the spectra.

    Args:
        values: what stands for values of the identity `[S, S]`: the identity, or NaN, which shows
            in the result if anything else was done with it than a product with weights.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if "dtype" in kwargs:
            kwargs["dtype"] = _widened(kwargs["dtype"])
        if func in (Tensor.float, Tensor.half, Tensor.bfloat16):
            return args[0].double()
        if func in (Tensor.to, Tensor.type):
            args = (args[0], *(_widened(arg) for arg in args[1:]))
        if func is functional.dropout:
            return args[0]
        if func in PRODUCTS and self._is_identity(args[1]):
            return args[0]
        if func is functional.scaled_dot_product_attention and self._is_identity(args[2]):
            return sdpa_weights(*args, **kwargs)
        return func(*args, **kwargs)

    def _is_identity(self, right: Tensor) -> bool:
        if right.shape[-2:] != self.values.shape:
            return False
        shared = right.untyped_storage().data_ptr() == self.values.untyped_storage().data_ptr()
        if shared and right.stride()[-2:] == self.values.stride():
            return True
        return torch.equal(right, self.values.expand_as(right))


def rectangle_reason(queries: int, keys: int) -> str:
    """Why attention of some queries to another number of keys is no operator on the text."""
    return (
        f"{queries} queries look at {keys} keys: a cache with earlier tokens, cross-attention, or "
        "extra keys that are not tokens of the text"
    )


def refuse_rectangle(queries: int, keys: int) -> None:
    """Refuses attention of some queries to another number of keys.

    Raises:
        UnsupportedMixerError: the numbers differ.
    """
    if queries != keys:
        raise UnsupportedMixerError(rectangle_reason(queries, keys))


def sdpa_mask(
    query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool
) -> Tensor | None:
    """The mask that `scaled_dot_product_attention` applies; None means causal, as in operators."""
    if is_causal:
        return None
    if attn_mask is None:
        shape = (1, 1, query.shape[-2], key.shape[-2])
        return torch.ones(shape, dtype=torch.bool, device=query.device)
    return attn_mask


def sdpa_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights behind torch's fused attention, as its documentation defines them."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    rule = SoftmaxWeights(query.shape[-1] ** -0.5 if scale is None else scale)
    return rule(query, key, sdpa_mask(query, key, attn_mask, is_causal), slice(None))


class HeadsOfModule:
    """A module seen as if it had some of its heads only, one key head per query head."""

    def __init__(self, module: nn.Module, heads: slice, total: int) -> None:
        self._module = module
        self._heads = heads
        self._total = total

    def __getattr__(self, name: str) -> Any:
        if name == "num_key_value_groups":
            return 1
        return _heads_of(getattr(self._module, name), self._heads, self._total)


def _heads_of(value: Any, heads: slice, total: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    # Code that fills with the most negative float64 cannot do so in a narrower tensor.
    wide = value.to(torch.float64) if value.is_floating_point() else value
    if wide.ndim == 1 and wide.shape[0] == total:
        return wide[heads]
    if wide.ndim >= 3 and wide.shape[1] == total:
        return wide[:, heads]
    return wide


class ModelAttentionWeights:
    """Attention weights as a model's own attention function gives them, for any heads and rows.

    Args:
        function: `f(module, query, key, value, mask, **kwargs) -> (output [B, L, H, Dv], ...)`.
        module: the attention module, of which the function may read anything.
        total_heads: H of the whole layer.
        length: L, all queries.
        kwargs: the keyword arguments of the model's call.
        additive: whether the function takes a causal mask as numbers to add, not as bool.
    """

    def __init__(
        self,
        function: AttentionFunction,
        module: nn.Module,
        total_heads: int,
        length: int,
        kwargs: dict[str, Any],
        *,
        additive: bool = False,
    ) -> None:
        self.function = function
        self.module = module
        self.total_heads = total_heads
        self.length = length
        self.kwargs = kwargs
        self.additive = additive

    def __call__(self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice) -> Tensor:
        return self.of_rows(query, key, mask, heads, slice(0, query.shape[-2]))

    def of_rows(
        self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice, rows: slice
    ) -> Tensor:
        """The weights of some queries, `[B, h, R, L]`; the residual proves what came out."""
        sources = key.shape[-2]
        if mask is None:
            visible = causal_rows(rows, sources, query.device)[None, None]
            mask = additive_mask(visible, sources, query.device) if self.additive else visible
        kwargs = {
            name: self._rows_of(_heads_of(value, heads, self.total_heads), rows)
            for name, value in self.kwargs.items()
        }
        ask = partial(self._asked, query, key, mask, heads, kwargs)
        weights = ask(_everywhere(torch.nan, sources, query.device))
        if not bool(weights.isnan().any()):
            return weights
        # The weights are NaN, or more is done with the values than multiplying them.
        weights = ask(_everywhere(0.0, sources, query.device))
        if bool(weights.isnan().any()):
            return weights
        return ask(torch.eye(sources, dtype=torch.float64, device=query.device))

    def _rows_of(self, value: Any, rows: slice) -> Any:
        """The rows of what is given for each query, `[.., L, C]`, such as a bias."""
        by_query = isinstance(value, Tensor) and value.ndim >= 3 and value.shape[-2] == self.length
        return value[..., rows, :] if by_query else value

    def _asked(
        self,
        query: Tensor,
        key: Tensor,
        mask: Tensor,
        heads: slice,
        kwargs: dict[str, Any],
        values: Tensor,
    ) -> Tensor:
        module = HeadsOfModule(self.module, heads, self.total_heads)
        value = values.expand(*query.shape[:2], *values.shape)
        with (
            torch.set_grad_enabled(tracked(query, key)),
            weights_here(self.module, recurse=False),
            Float64OnIdentity(values),
        ):
            output, _ = self.function(module, query, key, value, mask, **kwargs)
        return output.transpose(1, 2)


def _everywhere(number: float, sources: int, device: torch.device) -> Tensor:
    """`[S, S]` of one number: all are views of it and take no memory, where an identity would."""
    return torch.full((1, 1), number, dtype=torch.float64, device=device).expand(sources, sources)
