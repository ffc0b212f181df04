"""Selective state spaces of the first Mamba: a diagonal state for every channel.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023,
section 3.2 and algorithm 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_ess.operators import OuterDecay, StateSpaceOperator
from model_adapters.function_adapter import Captured, FunctionAdapter
from model_adapters.registry import register_adapter
from model_adapters.state_space_features import features_of, refuse_complex, step_sizes


@register_adapter
class Mamba(FunctionAdapter):
    """`h_i = exp(dt_i A) h_{i-1} + dt_i B_i u_i`, `y_i = (C_i h_i + D u_i) silu(z_i)` per channel.

    So `M_ij = C_i exp(A (dt_{j+1} + ... + dt_i)) dt_j B_j`, and `+ D` on the diagonal, one operator
    for each channel. The gate silu(z) lies inside the function and outside of the operator.
    Zamba calls the function once for each of its Mamba heads. Several tokens after a cache start
    from a zero state in transformers, so that M is whole for them too; single ones are refused.
    """

    mixer = "mamba"
    models = "mamba, falcon_mamba, jamba, zamba; Mamba of mamba_ssm; S6, Mamba of hf_ess.synthetics"
    keeps_graph = True
    functions = ("mamba_selective_scan", "selective_scan_fn")
    decoding = ("mamba_selective_state_update", "selective_state_update")
    fused_switch = "use_fast_path"
    convolved = "first"

    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        inputs = features_of(call, "hidden_states", "u")
        rate = call["A"]
        refuse_complex(rate, call["B"], call["C"])
        raw, bias = features_of(call, "dt", "delta"), call["delta_bias"]
        if "delta" in call:
            # The kernels of mamba_ssm widen before they add.
            raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        bias = None if bias is None else bias[:, None]
        step = step_sizes(raw, bias, call["delta_softplus"])
        direct, gate = call["D"], call["z"]
        outputs = result[0] if isinstance(result, tuple) else result
        return Captured(
            StateSpaceOperator(
                OuterDecay(rate, step),
                write=_vectors(call["B"]),
                read=_vectors(call["C"]),
                direct=None if direct is None else direct[None, :, None],
                write_scale=step,
            ),
            inputs=inputs[..., None],
            outputs=outputs.detach().to(inputs.dtype)[..., None],
            output_gate=None if gate is None else functional.silu(gate)[..., None],
        )


def _vectors(features: Tensor) -> Tensor:
    """B or C as `[B|1, G|g|1, L|1, N]`, from `[D, N]`, `[B, N, L]` or `[B, g, N, L]`."""
    if features.ndim == 2:
        return features[None, :, None, :]
    return features.mT if features.ndim == 4 else features.mT[:, None]
