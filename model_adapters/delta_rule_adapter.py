"""What adapters of delta rules have in common: everything but the kind of decay."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import DeltaRule, StateSpaceOperator
from model_adapters.flash_delta_rule import in_words_of_transformers
from model_adapters.function_adapter import (
    Captured,
    FunctionAdapter,
    refuse_earlier_state,
    refuse_packed_sequences,
)

# Under the root of the normalisation, a constant of the functions and not of any configuration.
EPSILON = 1e-6


class DeltaRuleAdapter(FunctionAdapter):
    """`S_i = A_i S_{i-1} + b_i k_i v_i'`, `o_i = S_i' q_i / sqrt(N)`, one operator per value head.

    On the values, whose channels share it, the operator is
    `M_ij = q_i' A_i ... A_{j+1} b_j k_j / sqrt(N)`. Neighbouring value heads share keys and
    queries. The functions compute in float32, and normalise keys and queries there.
    """

    keeps_graph = True
    convolved = "last"

    @abstractmethod
    def normalised(self, features: Tensor) -> Tensor:
        """Queries or keys of length one, `[B, h, L, N]`, by the arithmetic of the functions."""

    @abstractmethod
    def log_decay(self, gate: Tensor) -> Tensor:
        """The argument g, `[B, H, L]` or `[B, H, L, N]`, as `[B, H, L, 1|N]`."""

    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        refuse_earlier_state(call, "initial_state")
        refuse_packed_sequences(call, "cu_seqlens")
        if getattr(module, "num_householder", 1) > 1:
            raise UnsupportedMixerError("each of its tokens takes several steps of the delta rule")
        call = in_words_of_transformers(call)
        query, key, beta, gate = (
            call[name].transpose(1, 2).to(torch.float32) for name in ("query", "key", "beta", "g")
        )
        if call["use_qk_l2norm_in_kernel"]:
            query, key = self.normalised(query), self.normalised(key)
        factor = key.shape[-1] ** -0.5 if call.get("scale") is None else float(call["scale"])
        scale = torch.full((1, 1, 1), factor, dtype=torch.float64, device=key.device)
        return Captured(
            StateSpaceOperator(
                DeltaRule(key, beta, self.log_decay(gate)),
                write=key,
                read=query,
                write_scale=beta,
                read_scale=scale,
            ),
            inputs=call["value"].transpose(1, 2),
            outputs=result[0].detach().transpose(1, 2),
        )
