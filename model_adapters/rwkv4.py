"""WKV: the weighted average over earlier tokens of RWKV-4."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.operators import ScalarDecay, StateSpaceOperator
from model_adapters.function_adapter import Captured, FunctionAdapter, refuse_earlier_state
from model_adapters.registry import register_adapter
from model_adapters.stabilized import StabilizedGates


@register_adapter
class RWKV4(FunctionAdapter):
    """`M_ij ~ exp(k_j - (i - 1 - j) w)` for j < i and `M_ii ~ exp(k_i + u)`; rows sum to one.

    One operator per channel, with a state of one number: the denominator that divides a row is a
    function of the keys alone. The receptance after it is no part of the operator, and neither
    are the shifts by one token before it and in the channel mix.

    Source: Peng et al., "RWKV: Reinventing RNNs for the Transformer Era", EMNLP 2023, section
    3.1.2 (WKV operator).
    """

    mixer = "RWKV-4"
    models = "rwkv"
    functions = ("rwkv_linear_attention",)

    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        _refuse_state(call["state"])
        # In half precision the function rounds here.
        decay = -torch.exp(call["time_decay"])
        key = call["key"].transpose(1, 2)
        outputs = result[0].detach()
        return Captured(
            operator=_operator(key.double(), decay.double(), call["time_first"].double()),
            inputs=call["value"].transpose(1, 2)[..., None],
            outputs=outputs.transpose(1, 2)[..., None],
        )


def _operator(key: Tensor, decay: Tensor, bonus: Tensor) -> StateSpaceOperator:
    """Keys `[B, D, L]`, logarithmic decays and bonus of the present token `[D]`, float64."""
    gates = StabilizedGates.of(decay[:, None], key, start=-torch.inf)
    before = gates.maximum.roll(1, -1)
    before[..., 0] = -torch.inf
    present = key + bonus[:, None]
    largest = torch.maximum(before, present)
    past_weight, present_weight = torch.exp(before - largest), torch.exp(present - largest)
    row_sums = _recurrence(gates, past_weight, present_weight).apply(
        torch.ones_like(key)[..., None]
    )
    return _recurrence(gates, past_weight / row_sums[..., 0], present_weight / row_sums[..., 0])


def _recurrence(gates: StabilizedGates, read: Tensor, direct: Tensor) -> StateSpaceOperator:
    return StateSpaceOperator(
        ScalarDecay(gates.log_decay),
        write=gates.write[..., None],
        read=read[..., None],
        direct=direct,
        reads="before",
    )


def _refuse_state(state: Any) -> None:
    """A new cache holds numerators and denominators of zero."""
    if state is not None and (state[0].any() or state[1].any()):
        refuse_earlier_state({"state": state}, "state")
