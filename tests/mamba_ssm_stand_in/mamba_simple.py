"""The first Mamba."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mamba_ssm_stand_in.one_token import selective_state_update, wide


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803 - names of the package
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Any:
    """Mamba on `[B, D, L]`; B and C are `[D, N]`, `[B, N, L]` or `[B, G, N, L]`."""
    return _channels(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)


def _channels(u, delta, A, B, C, D, z, bias, softplus, with_state) -> Any:  # noqa: N803
    step = wide(delta) if bias is None else wide(delta) + bias[:, None]
    step = functional.softplus(step) if softplus else step
    write, read = (_for_channels(wide(vectors), u) for vectors in (B, C))
    state = torch.zeros((), dtype=step.dtype)
    outputs = []
    for i in range(u.shape[-1]):
        dt = step[:, :, i, None]
        state = torch.exp(dt * A) * state + dt * write[..., i] * wide(u)[:, :, i, None]
        outputs.append((state * read[..., i]).sum(-1))
    result = torch.stack(outputs, -1)
    result = result if D is None else result + D[:, None] * u
    result = result.real if result.is_complex() else result
    result = (result if z is None else result * functional.silu(wide(z))).to(u.dtype)
    return (result, state) if with_state else result


def _for_channels(vectors: Tensor, u: Tensor) -> Tensor:
    """B or C as `[B|1, D|1, N, L]`."""
    if vectors.ndim == 2:
        return vectors[None, ..., None].expand(1, -1, -1, u.shape[-1])
    if vectors.ndim == 3:
        return vectors[:, None]
    return vectors.repeat_interleave(u.shape[1] // vectors.shape[1], dim=1)


class Mamba(nn.Module):
    """A Mamba mixer; `use_fast_path` hides the scan in a fused function."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.use_fast_path = True
        self.state = state
        self.in_proj = nn.Linear(width, 2 * width)
        self.x_proj = nn.Linear(width, width + 2 * state)
        self.dt_bias = nn.Parameter(torch.randn(width))
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(width, 1))
        self.D = nn.Parameter(torch.randn(width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor, inference_params: Any = None) -> Tensor:
        if inference_params is not None:
            return selective_state_update(inference_params, hidden)
        u, z = self.in_proj(hidden).mT.chunk(2, dim=1)
        u = functional.silu(u)
        sizes = [u.shape[1], self.state, self.state]
        dt, write, read = self.x_proj(u.mT).mT.split(sizes, dim=1)
        features = u, dt, -self.A_log.float().exp(), write, read, self.D.float(), z
        if self.use_fast_path:
            y = _channels(*features, self.dt_bias.float(), True, False)
        else:
            y = selective_scan_fn(*features, delta_bias=self.dt_bias.float(), delta_softplus=True)
        return self.out_proj(y.mT)


class Scan(nn.Module):
    """Calls the function with given arguments."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments

    def forward(self) -> Any:
        return selective_scan_fn(**self.arguments)
