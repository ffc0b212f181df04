"""What adapters hand over: an operator, what it was applied to, and what came out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hf_ess.operators import LinearOperator

EARLIER_STATE = "the mixer was called with an earlier state (a cache), whose response adds to M u"


@dataclass(frozen=True)
class Captured:
    """What a mixing function applied in one call.

    A `FunctionAdapter` or `ModuleAdapter` makes it.

    Attributes:
        operator: M, `[B, G, L, L]`.
        inputs: u, `[B, G, L, C]`.
        outputs: what the function returned, `[B, G, L, C]`.
        output_gate: factor on `M u` inside the function, `[B, G, L, C]`; None for one.
        output_offset: what is added after the gate and does not depend on u, `[B, G, L, C]`;
            None for zero.
    """

    operator: LinearOperator
    inputs: Tensor
    outputs: Tensor
    output_gate: Tensor | None = None
    output_offset: Tensor | None = None
