"""StripedHyena 2: gated convolutions with short, medium and long filters in different layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.operators import ConvolutionOperator, ModalConvolution
from model_adapters.function_adapter import Captured, call_arguments
from model_adapters.hyena_engine import (
    HyenaEngineAdapter,
    gated,
    modal_or_stored,
    split_projections,
)
from model_adapters.recorder import Recorder
from model_adapters.registry import register_adapter

# Filters of so many taps are convolved by Fourier transforms and stored with the present first.
MEDIUM = 128


@register_adapter
class StripedHyena2(HyenaEngineAdapter):
    """`y_i = x2_i (sum_j h_{i-j} x1_j v_j + D x1_i v_i)`, so `M_ij = x2_i h_{i-j} x1_j`.

    One operator per channel. Short (SE, 7 taps) and medium filters (MR, 128 taps) keep the last
    inputs; long ones (LI) are `h_t = sum_s R_s exp(p_s t)` with real p, one number of state each.
    The convolution in front of the gates, which the engine computes too, is not part of it.

    Source: Ku et al., "Systems and Algorithms for Convolutional Multi-Hybrid Language Models at
    Scale", 2025, section 2. Checked with vtx (vortex) 1.1.0.
    """

    mixer = "stripedhyena 2"
    models = "Evo 2, of the vtx package (vortex)"
    functions = ("parallel_fir", "parallel_iir")

    def knows(self, module: nn.Module) -> bool:
        return hasattr(module, "fir_inner_filter_length")

    def _observe(
        self, function: Callable[..., Any], recorder: Recorder, *args: Any, **kwargs: Any
    ) -> Any:
        if "z_pre" in kwargs or call_arguments(function, args, kwargs).get("gate", True):
            return super()._observe(function, recorder, *args, **kwargs)
        return function(*args, **kwargs)

    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        joint = call["z_pre"] if "z_pre" in call else call["u"]
        after, before, values = split_projections(
            joint,
            call["dims"][1],
            by_head=call["column_split_hyena"],
            flipped=getattr(call["self"], "hyena_flip_x1x2", False),
        )
        if "z_pre" in call:
            return self._long(call, after, before, values, result.detach().transpose(1, 2))
        return self._explicit(call, after, before, values, result[0].detach())

    def _long(
        self, call: dict[str, Any], after: Tensor, before: Tensor, values: Tensor, outputs: Tensor
    ) -> Captured:
        channels, length = values.shape[1:]
        poles, residues = (
            call[name].double().flatten(1).repeat_interleave(channels // call[name].shape[0], dim=0)
            for name in ("poles", "residues")
        )
        direct = call["D"]
        modal = ModalConvolution(poles.exp(), residues, direct[None, :, None], length=length)
        convolution = modal_or_stored(modal, call["h"], direct, call["long_fir_threshold"])
        operator = gated(convolution, after, before)
        return Captured(operator, values[..., None], outputs[..., None])

    def _explicit(
        self, call: dict[str, Any], after: Tensor, before: Tensor, values: Tensor, outputs: Tensor
    ) -> Captured:
        medium = call["fir_length"] >= MEDIUM
        taps = call["weight"][:, 0] if medium else call["weight"][:, 0].flip(-1)
        bias = call["bias"]
        if isinstance(call["padding_mask"], Tensor):
            after = after * call["padding_mask"].detach()[:, None].to(after.dtype)
        direct = None
        if bias is not None and (medium or call["gated_bias"]):
            direct = bias[None, :, None]
        elif bias is not None:
            outputs = outputs - after * bias[:, None]
        convolution = ConvolutionOperator(taps.to(torch.float32), direct, length=values.shape[-1])
        operator = gated(convolution, after, before)
        return Captured(operator, values[..., None], outputs[..., None])
