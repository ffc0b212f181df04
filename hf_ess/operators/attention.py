"""The operator of softmax attention, formed on demand from queries and keys."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hf_ess.operators.chunks import slices
from hf_ess.operators.graphs import tracked
from hf_ess.operators.linear_operator import EVERYTHING, FLOAT64_BYTES, LinearOperator
from hf_ess.operators.masks import (
    causal_rows,
    counts_within,
    rows_of,
    visible_pairs,
)

# Rows of a mask that are looked at together.
MASK_ROWS = 256


class AttentionWeights(Protocol):
    """Turns queries and keys into attention weights, as one model does it.

    `SoftmaxWeights` is the plain one.

    Queries and keys are float64 `[B, h, L, D]` with one key head per query head, `mask` is None,
    bool (True = visible) or additive, broadcastable to `[B, h, L, L]`; `heads` says which heads
    of the layer these are. Returns float64 `[B, h, L, L]`.
    """

    def __call__(self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice) -> Tensor: ...


@runtime_checkable
class RowwiseWeights(Protocol):
    """Attention weights that can also be asked for some queries of the text only.

    A row of softmax attention depends on one query and all keys, so that long texts need no
    `[L, L]` scores. `rows` says which queries `[B, h, R, D]` of the text these are; `mask` has
    their rows, and so has whatever else the rule adds. Returns float64 `[B, h, R, L]`.
    """

    def of_rows(
        self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice, rows: slice
    ) -> Tensor: ...


class SoftmaxWeights:
    """The plain rule: `softmax(scale * q k^T + mask)` over the keys.

    A `SoftmaxAttentionOperator` is made of them.

    A query that may look at no key at all gets zeros, as in torch's fused attention.

    Args:
        scale: factor on the scores, usually `1 / sqrt(D)`.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice) -> Tensor:
        return self.of_rows(query, key, mask, heads, slice(0, query.shape[-2]))

    def of_rows(
        self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice, rows: slice
    ) -> Tensor:
        """The same for some queries."""
        if mask is None:
            mask = causal_rows(rows, key.shape[-2], query.device)
        scores = (query * self.scale) @ key.transpose(-1, -2)
        if mask.dtype == torch.bool:
            scores.masked_fill_(~mask, -torch.inf)
        else:
            scores += mask.to(torch.float64)
        blind = scores.amax(-1, keepdim=True) == -torch.inf
        if tracked(scores):
            # Rows of nothing but minus infinity have no gradient but NaN.
            return torch.softmax(scores.masked_fill(blind, 0.0), dim=-1).masked_fill(blind, 0.0)
        return torch.softmax(scores, dim=-1).masked_fill_(blind, 0.0)


def of_heads(tensor: Tensor, heads: slice) -> Tensor:
    """The chosen heads of a mask or bias that may be shared by all heads (`[..., 1|H, L, L]`)."""
    if tensor.ndim < 3 or tensor.shape[-3] == 1:
        return tensor
    return tensor[..., heads, :, :]


class AttentionOperator(LinearOperator):
    """Softmax attention: the structure that follows from which keys each query may look at.

    `SoftmaxAttentionOperator` and `ScoredAttentionOperator` are such operators.

    The state is the cache: TSS at position i counts the earlier tokens that some token from i on
    may still read (i for full attention, `min(i, w - 1)` under a sliding window of w tokens).
    """

    _bounds: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def visible_rows(self, rows: slice) -> Tensor:
        """Which key each of some queries may look at, bool `[B|1, H|1, R, L]`."""

    def visible(self) -> Tensor:
        """Which key each query may look at, bool `[B|1, H|1, L, L]`."""
        return self.visible_rows(slice(0, self.length))

    def dense_bytes_per_group(self) -> int:
        return 4 * self.batch * self.length**2 * FLOAT64_BYTES

    @property
    def state_size(self) -> int | None:
        """The cache that a sliding window or chunks make sufficient at any length, else None.

        A mask that depends on the content (keys chosen by an indexer) bounds no state: which
        earlier tokens will be read is not known when they have to be kept.
        """
        positions = torch.arange(1, self.length, device=self.device)
        needed = self.capacity(positions).amax((0, 1))
        size = int(needed.max()) if self.length > 1 else 0
        in_windows = torch.equal(needed, positions.clamp(max=size))
        in_chunks = torch.equal(needed, positions % (size + 1))
        return size if size < self.length - 1 and (in_windows or in_chunks) else None

    def capacity(self, positions: Tensor) -> Tensor:
        last_reader, _ = self._visibility_bounds()
        sources = torch.arange(self.length, device=self.device).expand_as(last_reader)
        return counts_within(sources, last_reader)[..., positions.to(self.device)]

    def attainable(self, positions: Tensor) -> Tensor:
        """Smaller than the capacity where few later tokens look back (chunked masks)."""
        _, first_source = self._visibility_bounds()
        readers = torch.arange(self.length, device=self.device).expand_as(first_source)
        looking_back = counts_within(first_source, readers)[..., positions.to(self.device)]
        return torch.minimum(self.capacity(positions), looking_back)

    def _visibility_bounds(self) -> tuple[Tensor, Tensor]:
        """Per source the last token that may read it, per reader its first source, `[b, h, L]`."""
        if self._bounds is None:
            parts = [self._bounds_of_rows(rows) for rows in slices(self.length, MASK_ROWS)]
            last_reader = torch.stack([last for last, _ in parts]).amax(0)
            self._bounds = last_reader, torch.cat([first for _, first in parts], -1)
        return self._bounds

    def _bounds_of_rows(self, rows: slice) -> tuple[Tensor, Tensor]:
        """The same of some readers, -1 and L where there is none."""
        visible = self.visible_rows(rows).to(torch.uint8)
        last = rows.stop - 1 - visible.flip(-2).argmax(-2)
        last_reader = torch.where(visible.amax(-2).bool(), last, -1)
        first_source = torch.where(visible.amax(-1).bool(), visible.argmax(-1), self.length)
        return last_reader, first_source


class SoftmaxAttentionOperator(AttentionOperator):
    """`M = weights(q, k, mask)`, one operator per query head, shared by its value channels.

    Keeps the features in the dtype in which the model computed them and forms M in float64 for
    as many heads as asked: M is the exact operator of those features.

    Args:
        query: `[B, H, L, D]`.
        key: `[B, Hkv, L, D]`, with H a multiple of Hkv (grouped heads are repeated).
        mask: None (causal), bool or additive, broadcastable to `[B, H, L, L]`.
        weights: the model's own rule; plain softmax attention by default.
        scale: factor on the scores of the default rule, `1 / sqrt(D)` if None.

    Source: Parnichkun et al., ICML 2025, section 3: softmax attention is the input-varying
    operator `softmax(q_i . k_j)`.

    Example:
        >>> import torch
        >>> from hf_ess.operators import SoftmaxAttentionOperator
        >>> q = torch.zeros(1, 2, 3, 4)
        >>> SoftmaxAttentionOperator(q, q).to_dense()[0, 0, 1]
        tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None = None,
        *,
        weights: AttentionWeights | None = None,
        scale: float | None = None,
    ) -> None:
        self.query = query
        self.key = key
        self.mask = mask
        default_scale = query.shape[-1] ** -0.5 if scale is None else scale
        self.weights = weights or SoftmaxWeights(default_scale)

    @property
    def batch(self) -> int:
        return self.query.shape[0]

    @property
    def groups(self) -> int:
        return self.query.shape[1]

    @property
    def length(self) -> int:
        return self.query.shape[2]

    @property
    def device(self) -> torch.device:
        return self.query.device

    def visible_rows(self, rows: slice) -> Tensor:
        if self.mask is None:
            return causal_rows(rows, self.length, self.device)[None, None]
        visible = visible_pairs(rows_of(self.mask, rows), self.length, self.device)
        visible = visible[(None,) * (4 - visible.ndim)]
        return visible.expand(-1, -1, rows.stop - rows.start, -1)

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        if not isinstance(self.weights, RowwiseWeights):
            return self.dense_bytes_per_group()
        keys = 2 * self.batch * self.key.shape[-2] * self.key.shape[-1] * FLOAT64_BYTES
        return 4 * self.batch * rows * self.key.shape[-2] * FLOAT64_BYTES + keys

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        """Forms the scores of the chosen rows with all keys, as their normaliser needs them."""
        if not isinstance(self.weights, RowwiseWeights):
            return super().to_dense_block(groups, rows, columns)
        chosen = slice(*rows.indices(self.length))
        query, key, mask, heads = self._features(groups, chosen)
        return self.weights.of_rows(query, key, mask, heads, chosen)[..., columns]

    def to_dense(self, groups: slice | None = None) -> Tensor:
        return self.weights(*self._features(groups, EVERYTHING))

    def _features(
        self, groups: slice | None, rows: slice
    ) -> tuple[Tensor, Tensor, Tensor | None, slice]:
        """Queries of the rows, keys, mask of the rows, and which heads they are."""
        heads = groups if groups is not None else slice(0, self.groups)
        queries_per_key = self.groups // self.key.shape[1]
        key_heads = torch.arange(self.groups, device=self.device)[heads] // queries_per_key
        mask = None if self.mask is None else rows_of(of_heads(self.mask, heads), rows)
        return (
            self.query[:, heads, rows].to(torch.float64),
            self.key[:, key_heads].to(torch.float64),
            mask,
            heads,
        )


class ScoredAttentionOperator(AttentionOperator):
    """Softmax attention known by its scores, for models that compute it inline.

    Args:
        scores: `[B, H, L, L]` with everything added before the softmax over the last axis
            (scale, mask, bias), in the dtype of the model.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScoredAttentionOperator
        >>> hidden = torch.full((3, 3), -torch.inf).triu(1)
        >>> ScoredAttentionOperator(hidden[None, None]).to_dense()[0, 0, 1]
        tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    @property
    def batch(self) -> int:
        return self.scores.shape[0]

    @property
    def groups(self) -> int:
        return self.scores.shape[1]

    @property
    def length(self) -> int:
        return self.scores.shape[-2]

    @property
    def device(self) -> torch.device:
        return self.scores.device

    def to_dense(self, groups: slice | None = None) -> Tensor:
        chosen = self.scores if groups is None else self.scores[:, groups]
        return torch.softmax(chosen.to(torch.float64), dim=-1)

    def visible_rows(self, rows: slice) -> Tensor:
        return visible_pairs(self.scores[..., rows, :], self.length, self.device)

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        return 3 * self.batch * rows * self.scores.shape[-1] * FLOAT64_BYTES

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        chosen = self.scores if groups is None else self.scores[:, groups]
        return torch.softmax(chosen[..., rows, :].to(torch.float64), dim=-1)[..., columns]
