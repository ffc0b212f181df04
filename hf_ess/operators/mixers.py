"""Mixers as wholes: a recurrence together with the short convolution before it."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.operators.compositions import Product, RowScaled
from hf_ess.operators.convolution import ConvolutionOperator
from hf_ess.operators.state_space import StateSpaceOperator


class ConvolvedRecurrence(Product):
    """`T diag(a) T_conv`: a short convolution, its activation held fixed, and a recurrence.

    The state is at most that of both. A recurrence that writes an input before it reads, and has
    no direct path, needs one number less: what the oldest kept input still adds can be written
    into its state ahead of time.

    Args:
        core: T, `[B|1, G, L, L]`.
        activation: a, `[B|1, G|1, L]`, factors on the outputs of the convolution; None for ones.
        convolution: T_conv, `[B|1, G, L, L]`.

    Raises:
        InvalidInputError: shapes that do not fit together.
        NonFiniteError: NaN or infinite factors.

    Source: ours; Gu and Dao, "Mamba", 2023, figure 3 (convolution, SiLU, scan).

    Example:
        >>> import torch
        >>> from hf_ess.operators import ConvolutionOperator, ScalarDecay, StateSpaceOperator
        >>> from hf_ess.operators import ConvolvedRecurrence
        >>> ones = torch.ones(1, 1, 9, 1)
        >>> sums = StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), ones, ones)
        >>> taps = ConvolutionOperator(torch.tensor([[1.0, 2.0, 3.0]]), length=9)
        >>> ConvolvedRecurrence(sums, None, taps).state_size
        2
    """

    def __init__(
        self,
        core: StateSpaceOperator,
        activation: Tensor | None,
        convolution: ConvolutionOperator,
    ) -> None:
        activated = convolution if activation is None else RowScaled(convolution, activation)
        super().__init__(core, activated)
        self._shared = int(core.writes_before_reading and convolution.memory > 0)

    @property
    def state_size(self) -> int | None:
        total = super().state_size
        return None if total is None else total - self._shared

    def capacity(self, positions: Tensor) -> Tensor:
        size = self.state_size
        carried = positions if size is None else positions.clamp(max=size)
        return carried.to(torch.int64)[None, None, :]
