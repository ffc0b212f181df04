"""Operators are used only where they rebuild what the layer computed."""

from __future__ import annotations

import torch

from hf_ess.operators import ResidualMeter, residual_bound_of
from model_adapters import LayerOperator


@torch.no_grad()
def why_unverified(layer: LayerOperator) -> str:
    """Why an operator is not the one that its layer applied, as far as inputs and outputs tell.

    Empty where the rebuilt output is within the bound for its dtype.
    """
    meter = ResidualMeter(layer.operator.batch)
    rebuilt = layer.operator.apply(layer.inputs)
    if layer.output_gate is not None:
        rebuilt = rebuilt * layer.output_gate
    if layer.output_offset is not None:
        rebuilt = rebuilt + layer.output_offset
    meter.add(rebuilt, layer.outputs)
    residual, bound = float(meter.residual().max()), residual_bound_of(layer.outputs)
    if residual <= bound:
        return ""
    return (
        f"it does not rebuild the output: the residual is {residual:.1e}, and has to be at most "
        f"{bound:.0e}"
    )
