"""Which tokens of a batch are padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Masks:
    """Padding, as recurrences and as attention take it.

    Attributes:
        visible: `[B, L]`, 0 at padding; None where there is none.
        pairs: of attention, in the form that its implementation asks for; None for causal.

    Example:
        >>> import torch
        >>> masks = Masks(visible=torch.tensor([[0, 1, 1]]))
        >>> masks.erase(torch.ones(1, 3, 1)).flatten()
        tensor([0., 1., 1.])
    """

    visible: Tensor | None = None
    pairs: Any = None

    def erase(self, features: Tensor) -> Tensor:
        """Features `[B, L, D]`, zero at padding."""
        if self.visible is None:
            return features
        return features * self.visible[..., None].to(features.dtype)


UNMASKED = Masks()
