"""mLSTM: linear attention with exponential gates and a normaliser (xLSTM)."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_ess.operators import ScalarDecay, StateSpaceOperator
from model_adapters.function_adapter import Captured, refuse_earlier_state
from model_adapters.module_adapter import ModuleAdapter, ModuleRun
from model_adapters.registry import register_adapter
from model_adapters.stabilized import StabilizedGates

# Arguments of the backend in transformers and in the xlstm package.
_SIGNATURES = (["query", "key", "value", "igate", "fgate"], ["q", "k", "v", "i", "f"])


@register_adapter
class MatrixLSTM(ModuleAdapter):
    """`M_ij = (q_i . k_j) exp(D_ij - m_i) / (max(|n_i|, exp(-m_i)) sqrt(d))`, `d` wide.

    D sums the logarithms of the forget gates after j and the input gate at j; m is the running
    maximum of D, from 0 on; `n_i` sums the numerators of row i. Both are functions of the
    features alone, so that the operator is linear in the values. The norm and the output gate
    after it are no part of it.

    Source: Beck et al., "xLSTM: Extended Long Short-Term Memory", NeurIPS 2024, section 2.3
    and appendix A.3 (mLSTM).
    """

    mixer = "mLSTM"
    models = "xlstm, also with the xlstm package"
    parts = ("mlstm_backend",)

    def knows(self, module: nn.Module) -> bool:
        backend = getattr(module, "mlstm_backend", None)
        if not isinstance(backend, nn.Module):
            return False
        return list(inspect.signature(backend.forward).parameters)[:5] in _SIGNATURES

    def captured(self, module: Any, run: ModuleRun) -> Captured:
        backend = run.parts["mlstm_backend"]
        _refuse_state(backend.call)
        query, key, value, input_gate, forget_gate = list(backend.call.values())[:5]
        output = backend.result if isinstance(backend.result, Tensor) else backend.result[0]
        return Captured(
            operator=_operator(
                query, key, input_gate, forget_gate, module.mlstm_backend.config.eps
            ),
            inputs=value,
            outputs=output.detach(),
        )


def _operator(
    query: Tensor, key: Tensor, input_gate: Tensor, forget_gate: Tensor, eps: float
) -> StateSpaceOperator:
    """Queries and keys `[B, H, L, D]`, gates before their activation `[B, H, L]`."""
    gates = StabilizedGates.of(functional.logsigmoid(forget_gate), input_gate, start=0.0)
    decay = ScalarDecay(gates.log_decay)
    scale = query.shape[-1] ** -0.5
    numerators = StateSpaceOperator(decay, key, query, write_scale=gates.write)
    row_sums = scale * numerators.apply(torch.ones_like(gates.write)[..., None])[..., 0]
    normaliser = torch.maximum(row_sums.abs(), torch.exp(-gates.maximum)) + eps
    return StateSpaceOperator(
        decay, key, query, write_scale=gates.write, read_scale=scale / normaliser
    )


def _refuse_state(call: dict[str, Any]) -> None:
    """A new cache holds zeros, which is how the mixer starts without one."""
    names = ("c_initial", "n_initial", "m_initial")
    states = {name: call[name] for name in names if call[name] is not None and call[name].any()}
    refuse_earlier_state(states, *names)
