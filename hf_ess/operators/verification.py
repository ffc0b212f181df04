"""Proof that an operator is the one which the layer applied: rebuild its output and compare."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.errors import InvalidTypeError

# Half precision has three bits more than bfloat16. Layers of float64 models often compute their
# softmax in float32 all the same.
RESIDUAL_BOUNDS: dict[torch.dtype, float] = {
    torch.float64: 1e-6,
    torch.float32: 1e-4,
    torch.float16: 2.5e-3,
    torch.bfloat16: 2e-2,
}
"""Relative to max |y|, what may be left between an operator and a layer that computes it in its own
precision; see `hf_ess.operators.residual_bound`."""


def residual_bound(dtype: torch.dtype) -> float:
    """Largest residual that verifies an operator of a layer.

    Args:
        dtype: in which the layer computes.

    Raises:
        InvalidTypeError: not a floating-point dtype of a layer's output.

    Example:
        >>> import torch
        >>> from hf_ess.operators import residual_bound
        >>> residual_bound(torch.float32)
        0.0001
    """
    if dtype not in RESIDUAL_BOUNDS:
        raise InvalidTypeError(f"No residual bound is known for outputs of dtype {dtype}.")
    return RESIDUAL_BOUNDS[dtype]


def residual_bound_of(outputs: Tensor) -> float:
    """Largest residual that verifies an operator of a layer with these outputs.

    It is that of their dtype; and of float32 for a layer of a float64 model that computes in
    float32 and converts what it found, which its outputs tell: each is a number of float32.

    Args:
        outputs: what the layer computed, of any shape.

    Raises:
        InvalidTypeError: not a floating-point dtype of a layer's output.

    Example:
        >>> import torch
        >>> from hf_ess.operators import residual_bound_of
        >>> third = torch.ones(2, dtype=torch.float64) / 3
        >>> residual_bound_of(third), residual_bound_of(third.float().double())
        (1e-06, 0.0001)
    """
    narrow = outputs.dtype == torch.float64 and torch.equal(outputs, outputs.float().double())
    return residual_bound(torch.float32 if narrow else outputs.dtype)


class ResidualMeter:
    """`max |M u - y| / max |y|` for each sample, gathered over chunks of groups.

    Args:
        batch: B.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ResidualMeter
        >>> meter = ResidualMeter(batch=1)
        >>> M, u = torch.eye(2).double()[None, None], torch.ones(1, 1, 2, 3)
        >>> meter.add(M @ u.double(), u * 1.5)
        >>> meter.residual()
        tensor([0.3333], dtype=torch.float64)
    """

    def __init__(self, batch: int) -> None:
        self._error = torch.zeros(batch, dtype=torch.float64)
        self._scale = torch.zeros(batch, dtype=torch.float64)

    def add(self, rebuilt: Tensor, outputs: Tensor) -> None:
        """Adds groups: the output as rebuilt from the operator and the true one `[B, g, L, C]`."""
        true = outputs.to(torch.float64)
        error = (rebuilt - true).abs()
        # Kept where the operator is: a copy for each chunk of heads would wait for the device.
        device = error.device
        self._error = torch.maximum(self._error.to(device), error.amax((1, 2, 3)))
        self._scale = torch.maximum(self._scale.to(device), true.abs().amax((1, 2, 3)))

    def residual(self) -> Tensor:
        """`[B]` on the CPU; 0 where both outputs are zero, infinite if only the true one is."""
        return torch.where(self._error > 0, self._error / self._scale, self._error).cpu()
