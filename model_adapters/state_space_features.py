"""What the selective state-space functions (Mamba, Mamba-2) have in common before their scan."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from hf_ess.errors import UnsupportedMixerError


def features_of(call: dict[str, Any], *names: str) -> Tensor:
    """The argument that goes by one of several names, depending on who wrote the function."""
    tensor: Tensor = next(call[name] for name in names if name in call)
    return tensor


def step_sizes(raw: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    """`dt = softplus(raw + bias)` in the dtype of `raw`, `[..., D, L]` or `[..., L, H]`.

    In half precision the functions round here, before anything is widened.
    """
    if bias is not None:
        raw = raw + bias.to(raw.dtype)
    return functional.softplus(raw) if softplus else raw


def refuse_complex(*tensors: Tensor) -> None:
    """Refuses complex parameters, which keep real and imaginary parts in one axis.

    Raises:
        UnsupportedMixerError: one of the tensors is complex.
    """
    if any(tensor.is_complex() for tensor in tensors):
        raise UnsupportedMixerError("its state is complex, which no released Mamba model uses")
