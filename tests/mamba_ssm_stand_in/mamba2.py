"""Mamba-2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mamba_ssm_stand_in.one_token import selective_state_update, wide


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    chunk_size: int,
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    return_varlen_states: bool = False,
) -> Any:
    """Mamba-2 on `[B, L, H, P]`; B and C are `[B, L, G, N]`."""
    return _heads(x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit, return_final_states)


def _heads(x, dt, A, B, C, D, z, bias, softplus, limit, with_state) -> Any:  # noqa: N803
    step = wide(dt) if bias is None else wide(dt) + bias
    step = (functional.softplus(step) if softplus else step).clamp(*limit)
    heads_per_group = x.shape[2] // B.shape[2]
    write, read = (wide(t).repeat_interleave(heads_per_group, dim=2) for t in (B, C))
    state = torch.zeros((), dtype=step.dtype)
    outputs = []
    for i in range(x.shape[1]):
        written = step[:, i, :, None, None] * wide(x)[:, i, ..., None] * write[:, i, :, None]
        state = torch.exp(step[:, i] * A)[..., None, None] * state + written
        outputs.append((state * read[:, i, :, None]).sum(-1))
    result = torch.stack(outputs, 1)
    if D is not None:
        result = result + (D if D.ndim == 2 else D[:, None]) * x
    result = (result if z is None else result * functional.silu(wide(z))).to(x.dtype)
    return (result, state) if with_state else result


class Mamba2(nn.Module):
    """A Mamba-2 mixer; `use_mem_eff_path` hides the scan in a fused function."""

    def __init__(self, width: int, state: int, heads: int, groups: int) -> None:
        super().__init__()
        self.use_mem_eff_path = True
        self.sizes = [width, width, groups * state, groups * state, heads]
        self.heads, self.groups = heads, groups
        self.in_proj = nn.Linear(width, sum(self.sizes))
        self.dt_bias = nn.Parameter(torch.randn(heads))
        self.A_log = nn.Parameter(torch.arange(1.0, heads + 1).log())
        self.D = nn.Parameter(torch.randn(heads))
        self.out_proj = nn.Linear(width, width)

    def forward(self, u: Tensor, inference_params: Any = None) -> Tensor:
        if inference_params is not None:
            return selective_state_update(inference_params, u)
        z, x, write, read, dt = self.in_proj(u).split(self.sizes, dim=-1)
        x, z = (t.unflatten(-1, (self.heads, -1)) for t in (functional.silu(x), z))
        write, read = (t.unflatten(-1, (self.groups, -1)) for t in (write, read))
        features = x, dt, -self.A_log.float().exp(), write, read
        limit = (0.01, 1.0)
        if self.use_mem_eff_path:
            y = _heads(*features, self.D, z, self.dt_bias, True, limit, False)
        else:
            y = mamba_chunk_scan_combined(
                *features,
                chunk_size=8,
                D=self.D,
                z=z,
                dt_bias=self.dt_bias,
                dt_softplus=True,
                dt_limit=limit,
            )
        return self.out_proj(y.flatten(2))


class Scan(nn.Module):
    """Calls the function with given arguments."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments

    def forward(self) -> Any:
        return mamba_chunk_scan_combined(**self.arguments)
