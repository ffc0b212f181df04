"""The operator of softmax attention, formed on demand from queries and keys."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from hf_ess.operators.linear_operator import FLOAT64_BYTES, LinearOperator


class AttentionWeights(Protocol):
    """Turns queries and keys into attention weights, as one model does it.

    Queries and keys are float64 `[B, h, L, D]` with one key head per query head, `mask` is None,
    bool (True = visible) or additive, broadcastable to `[B, h, L, L]`; `heads` says which heads
    of the layer these are. Returns float64 `[B, h, L, L]`.
    """

    def __call__(self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice) -> Tensor: ...


def additive_mask(mask: Tensor | None, length: int, device: torch.device) -> Tensor:
    """A mask as float64 that is added to scores; None means causal."""
    if mask is None:
        visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        return torch.zeros(length, length, dtype=torch.float64, device=device).masked_fill_(
            ~visible, -torch.inf
        )
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.float64, device=device).masked_fill_(
            ~mask, -torch.inf
        )
    return mask.to(torch.float64)


def visible_pairs(mask: Tensor | None, length: int, device: torch.device) -> Tensor:
    """Which key each query may look at, bool, as a mask says it; None means causal.

    Additive masks hide a pair by an entry below half of the most negative number of their dtype.
    """
    if mask is None:
        return torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril()
    if mask.dtype == torch.bool:
        return mask
    return mask > torch.finfo(mask.dtype).min / 2


class SoftmaxWeights:
    """The plain rule: `softmax(scale * q k^T + mask)` over the keys.

    A query that may look at no key at all gets zeros, as in torch's fused attention.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, query: Tensor, key: Tensor, mask: Tensor | None, heads: slice) -> Tensor:
        scores = (query * self.scale) @ key.transpose(-1, -2)
        scores += additive_mask(mask, query.shape[-2], query.device)
        blind = scores.amax(-1, keepdim=True) == -torch.inf
        return torch.softmax(scores, dim=-1).masked_fill_(blind, 0.0)


def of_heads(tensor: Tensor, heads: slice) -> Tensor:
    """The chosen heads of a mask or bias that may be shared by all heads (`[..., 1|H, L, L]`)."""
    if tensor.ndim < 3 or tensor.shape[-3] == 1:
        return tensor
    return tensor[..., heads, :, :]


class AttentionOperator(LinearOperator):
    """Softmax attention: the structure that follows from which keys each query may look at.

    The state is the cache: TSS at position i counts the earlier tokens that some token from i on
    may still read (i for full attention, `min(i, w - 1)` under a sliding window of w tokens).
    """

    _bounds: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def visible(self) -> Tensor:
        """Which key each query may look at, bool `[B|1, H|1, L, L]`."""

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
        sources = torch.arange(self.length, device=self.device)
        at = positions.to(self.device)[:, None]
        return ((last_reader[:, :, None, :] >= at) & (sources < at)).sum(-1)

    def attainable(self, positions: Tensor) -> Tensor:
        """Smaller than the capacity where few later tokens look back (chunked masks)."""
        _, first_source = self._visibility_bounds()
        readers = torch.arange(self.length, device=self.device)
        at = positions.to(self.device)[:, None]
        looking_back = ((first_source[:, :, None, :] < at) & (readers >= at)).sum(-1)
        return torch.minimum(self.capacity(positions), looking_back)

    def _visibility_bounds(self) -> tuple[Tensor, Tensor]:
        """Per source the last token that may read it, per reader its first source, `[b, h, L]`."""
        if self._bounds is None:
            visible = self.visible().to(torch.uint8)
            last = self.length - 1 - visible.flip(-2).argmax(-2)
            last_reader = torch.where(visible.amax(-2).bool(), last, -1)
            first_source = torch.where(visible.amax(-1).bool(), visible.argmax(-1), self.length)
            self._bounds = last_reader, first_source
        return self._bounds


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

    def visible(self) -> Tensor:
        visible = visible_pairs(self.mask, self.length, self.device)
        return visible[(None,) * (4 - visible.ndim)]

    def to_dense(self, groups: slice | None = None) -> Tensor:
        heads = groups if groups is not None else slice(0, self.groups)
        queries_per_key = self.groups // self.key.shape[1]
        key_heads = torch.arange(self.groups, device=self.device)[heads] // queries_per_key
        return self.weights(
            self.query[:, heads].to(torch.float64),
            self.key[:, key_heads].to(torch.float64),
            None if self.mask is None else of_heads(self.mask, heads),
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

    def visible(self) -> Tensor:
        return visible_pairs(self.scores, self.length, self.device)

    def to_dense(self, groups: slice | None = None) -> Tensor:
        chosen = self.scores if groups is None else self.scores[:, groups]
        return torch.softmax(chosen.to(torch.float64), dim=-1)
