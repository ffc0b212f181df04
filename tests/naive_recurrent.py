"""Operators of recurrent mixers as their papers define them, entry by entry.

Nothing here knows hf_ess: the arguments of a mixing function are taken from the model's code, and
each entry is computed from its own formula, without a scan. This is the truth that operators are
compared with.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

Call = dict[str, Any]


@contextmanager
def arguments_noted(model: nn.Module, name: str) -> Iterator[list[Call]]:
    """The arguments of each call of the function `name` of the files of the model's modules."""
    calls: list[Call] = []
    codes = {
        id(code): code
        for module in model.modules()
        if hasattr(code := sys.modules[type(module).__module__], name)
    }
    with ExitStack() as stack:
        for code in codes.values():
            stack.enter_context(patch.object(code, name, _noting(getattr(code, name), calls)))
        yield calls


def _noting(function: Callable[..., Any], calls: list[Call]) -> Callable[..., Any]:
    @wraps(function)
    def noting(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        calls.append(dict(bound.arguments))
        return function(*args, **kwargs)

    return noting


def operators_of(
    model: nn.Module, ids: Tensor, name: str, rule: Callable[[Call], Tensor]
) -> list[Tensor]:
    """What the rule makes of each call of a function in one run of the model."""
    with arguments_noted(model, name) as calls, torch.no_grad():
        model(input_ids=ids, use_cache=False)
    assert calls
    return [rule(call) for call in calls]


def earlier_pairs(length: int) -> Iterator[tuple[int, int]]:
    """Each output i with each input j that it sees."""
    return ((i, j) for i, j in product(range(length), repeat=2) if j <= i)


def selective_scan(call: Call) -> Tensor:
    """Mamba: `M_ij = sum_n C_in exp(A_n (dt_{j+1} + .. + dt_i)) dt_j B_jn`, `+ D` for i = j."""
    dt = functional.softplus(call["dt"] + call["delta_bias"].to(call["dt"])[:, None]).double()
    write, read = call["B"].double(), call["C"].double()
    batch, channels, length = dt.shape
    operator = torch.zeros(batch, channels, length, length, dtype=torch.float64)
    for i, j in earlier_pairs(length):
        passed = dt[:, :, j + 1 : i + 1].sum(-1)
        decay = torch.exp(call["A"].double() * passed[..., None])
        read_i, write_j = read[:, None, :, i], write[:, None, :, j]
        operator[:, :, i, j] = (read_i * decay * write_j).sum(-1) * dt[:, :, j]
    return operator + torch.diag_embed(call["D"].double()[:, None].expand(batch, -1, length))


def naive_mamba(model: nn.Module, ids: Tensor) -> list[Tensor]:
    return operators_of(model, ids, "mamba_selective_scan", selective_scan)


def chunk_scan(call: Call) -> Tensor:
    """Mamba-2: `M_ij = C_i B_j exp(a (dt_{j+1} + .. + dt_i)) dt_j`, `+ D` for i = j."""
    dt = functional.softplus(call["dt"] + call["dt_bias"].to(call["dt"])).double()
    smallest, largest = call["dt_limit"]
    dt = dt.clamp(smallest, largest)
    batch, length, heads = dt.shape
    heads_per_group = heads // call["B"].shape[2]
    operator = torch.zeros(batch, heads, length, length, dtype=torch.float64)
    for h, (i, j) in product(range(heads), earlier_pairs(length)):
        group = h // heads_per_group
        score = (call["C"][:, i, group].double() * call["B"][:, j, group].double()).sum(-1)
        decay = torch.exp(call["A"][h].double() * dt[:, j + 1 : i + 1, h].sum(-1))
        operator[:, h, i, j] = score * decay * dt[:, j, h]
    return operator + torch.diag_embed(call["D"].double()[:, None].expand(batch, -1, length))


def naive_mamba2(model: nn.Module, ids: Tensor) -> list[Tensor]:
    return operators_of(model, ids, "mamba2_chunk_scan", chunk_scan)


def delta_rule(call: Call, normalised: Callable[[Tensor], Tensor]) -> Tensor:
    """`M_ij = q_i' A_i .. A_{j+1} b_j k_j / sqrt(N)`, `A = (I - b k k') Diag(e^g)`.

    One g for all key channels makes the gated delta rule, one for each Kimi delta attention. Keys
    and queries get length one in float32, in which the functions compute.
    """
    query, key = (normalised(call[name].float()).double() for name in ("query", "key"))
    heads_per_key = call["value"].shape[2] // key.shape[2]
    query, key = (heads.repeat_interleave(heads_per_key, dim=2) for heads in (query, key))
    beta, decay = call["beta"].float().double(), call["g"].float().double().exp()
    if decay.ndim == 3:
        decay = decay[..., None]
    batch, length, heads, width = key.shape
    operator = torch.zeros(batch, heads, length, length, dtype=torch.float64)
    for b, h, j in product(range(batch), range(heads), range(length)):
        stored = beta[b, j, h] * key[b, j, h]
        for i in range(j, length):
            if i > j:
                stored = stored * decay[b, i, h]
                stored = stored - beta[b, i, h] * (key[b, i, h] @ stored) * key[b, i, h]
            operator[b, h, i, j] = query[b, i, h] @ stored / width**0.5
    return operator


def gated_delta_rule(call: Call) -> Tensor:
    return delta_rule(call, lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6))


def kimi_delta_attention(call: Call) -> Tensor:
    return delta_rule(call, lambda x: x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6))


def naive_gated_delta_rule(model: nn.Module, ids: Tensor) -> list[Tensor]:
    return operators_of(model, ids, "torch_chunk_gated_delta_rule", gated_delta_rule)


def naive_kimi_delta_attention(model: nn.Module, ids: Tensor) -> list[Tensor]:
    return operators_of(model, ids, "chunk_kimi_delta_attention", kimi_delta_attention)
