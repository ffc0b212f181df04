"""StripedHyena: gated convolutions whose long filters are sums of complex exponentials."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.operators import ModalConvolution
from model_adapters.function_adapter import Captured
from model_adapters.hyena_engine import (
    HyenaEngineAdapter,
    gated,
    modal_or_stored,
    split_projections,
)
from model_adapters.registry import register_adapter


@register_adapter
class StripedHyena(HyenaEngineAdapter):
    """`y_i = x2_i (sum_j h_{i-j} x1_j v_j + D x1_i v_i)`, `h_t = Re(sum_s R_s p_s^t)`.

    So `M_ij = x2_i h_{i-j} x1_j` on the values, one operator per channel, with two numbers of
    state for each complex pole. The short convolution in front of the gates is not part of it.
    Filters that are no sum of the modes (cut off, or stored from elsewhere) are taken as they are.

    Source: Poli et al., "StripedHyena: Moving Beyond Transformers with Hybrid Signal Processing
    Models", 2023; Massaroli et al., "Laughing Hyena Distillery", NeurIPS 2023. Checked with
    stripedhyena 0.2.2.
    """

    mixer = "stripedhyena"
    models = "StripedHyena and Evo, of the stripedhyena package and as remote code"
    functions = ("parallel_iir",)

    def knows(self, module: nn.Module) -> bool:
        poles = getattr(module, "poles", None)
        return isinstance(poles, Tensor) and poles.shape[-1] == 2

    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        after, before, values = split_projections(
            call["z_pre"], call["dims"][1], by_head=call["column_split_hyena"]
        )
        channels, length = values.shape[1:]
        poles, residues = (
            _complex(call[name]).repeat_interleave(channels // call[name].shape[0], dim=0)
            for name in ("poles", "residues")
        )
        direct = call["D"]
        modal = ModalConvolution(poles, residues, direct[None, :, None], length=length)
        convolution = modal_or_stored(modal, call["h"], direct, call["long_fir_threshold"])
        return Captured(
            operator=gated(convolution, after, before),
            inputs=values[..., None],
            outputs=result.detach().transpose(1, 2)[..., None],
        )


def _complex(pairs: Tensor) -> Tensor:
    """Real and imaginary parts `[S, N, 1, 2]` as complex `[S, N]`."""
    return torch.view_as_complex(pairs.detach().double().contiguous())[..., 0]
