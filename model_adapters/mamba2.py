"""Mamba-2 (SSD): one scalar decay per head and step, B and C shared by groups of heads.

Source: Dao and Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through
Structured State Space Duality", ICML 2024, section 6 and listing 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_ess.operators import ScalarDecay, StateSpaceOperator
from model_adapters.function_adapter import (
    Captured,
    FunctionAdapter,
    refuse_earlier_state,
    refuse_packed_sequences,
)
from model_adapters.registry import register_adapter
from model_adapters.state_space_features import features_of, refuse_complex, step_sizes


@register_adapter
class Mamba2(FunctionAdapter):
    """`h_i = exp(dt_i a) h_{i-1} + dt_i B_i u_i`, `y_i = C_i h_i + D u_i`, one operator per head.

    So `M_ij = (C_i B_j) exp(a (dt_{j+1} + ... + dt_i)) dt_j`, and `+ D` on the diagonal, with
    `dt = clamp(softplus(raw + bias), dt_limit)`. A gate inside the function (mamba_ssm without a
    norm) stays outside of the operator; norms and gates after it belong to the layer.
    """

    mixer = "mamba-2"
    models = (
        "mamba2, zamba2, bamba, falcon_h1, nemotron_h, granitemoehybrid; "
        "Mamba2 of the mamba_ssm package"
    )
    keeps_graph = True
    functions = ("mamba2_chunk_scan", "mamba_chunk_scan_combined")
    decoding = ("mamba2_selective_state_update", "selective_state_update")
    fused_switch = "use_mem_eff_path"
    convolved = "first"

    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        refuse_earlier_state(call, "initial_states")
        refuse_packed_sequences(call, "seq_idx", "cu_seqlens")
        inputs, rate = features_of(call, "hidden_states", "x"), call["A"]
        refuse_complex(rate, call["B"], call["C"])
        raw = call["dt"]
        if "x" in call:
            # The kernels of mamba_ssm widen before they add.
            raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        step = step_sizes(raw, call["dt_bias"], call["dt_softplus"]).clamp(*call["dt_limit"])
        step = step.transpose(1, 2)
        direct, gate = call["D"], call.get("z")
        outputs = result[0] if isinstance(result, tuple) else result
        outputs = outputs.detach().to(inputs.dtype)
        # D of one number per channel makes an operator of each channel.
        single = direct is not None and direct.ndim == 2
        return Captured(
            StateSpaceOperator(
                ScalarDecay(step.double() * rate.double()[None, :, None]),
                write=call["B"].transpose(1, 2),
                read=call["C"].transpose(1, 2),
                direct=None if direct is None else direct.reshape(1, -1, 1),
                write_scale=step,
            ),
            inputs=_per_group(inputs, single),
            outputs=_per_group(outputs, single),
            output_gate=None if gate is None else _per_group(functional.silu(gate), single),
        )


def _per_group(features: Tensor, single: bool) -> Tensor:
    """`[B, L, H, P]` as `[B, H, L, P]`, or as `[B, H * P, L, 1]` for single channels."""
    if single:
        return features.flatten(2).transpose(1, 2)[..., None]
    return features.transpose(1, 2)
