"""Delta rules with decays as the flash-linear-attention package (fla) calls them.

Its functions mean what those of transformers mean, under other names, and may take decays and
strengths as raw projections. Signatures are those of fla-core 0.6.0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hf_ess.errors import UnsupportedMixerError


def in_words_of_transformers(call: dict[str, Any]) -> dict[str, Any]:
    """The arguments `query, key, value, g, beta` of a call in whichever words."""
    if "query" in call:
        return call
    if call.get("gk") is not None or call.get("gv") is not None or call["beta"] is None:
        raise UnsupportedMixerError("its decays or strengths are not one for each head and token")
    beta, gate = call["beta"], call["g"]
    if gate is None:
        gate = torch.zeros_like(beta)
    if call.get("use_beta_sigmoid_in_kernel"):
        beta = beta.float().sigmoid() * (2 if call.get("allow_neg_eigval") else 1)
    if call.get("use_gate_in_kernel"):
        gate = _log_decay(gate, call)
    words = {"query": call["q"], "key": call["k"], "value": call["v"]}
    return call | words | {"g": gate, "beta": beta}


def _log_decay(raw: Tensor, call: dict[str, Any]) -> Tensor:
    """`-e^A softplus(g + b)`, or with a bound l `l sigmoid(e^A (g + b))`; `[B, L, H]` or `[.., N]`.

    One A for each head, zero if there is none; b for each head or each of its channels.
    """
    raw = raw.float()
    if call.get("dt_bias") is not None:
        raw = raw + call["dt_bias"].float().reshape(raw.shape[2:])
    exponent = call.get("A_log")
    exponent = raw.new_zeros(1) if exponent is None else exponent.float()
    rate: Tensor = exponent.exp().reshape(-1, *([1] * (raw.ndim - 3)))
    bound: float | None = call.get("lower_bound")
    return -rate * functional.softplus(raw) if bound is None else bound * torch.sigmoid(rate * raw)
