"""Mixing functions of the synthetic models, in plain PyTorch that trains on a CPU.

They are named and called as the functions of the same meaning in flash-linear-attention,
transformers and HyenaDNA are, so that the adapters which watch those watch these too. Sums are
made in float32 at least, results have the dtype of the inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Tokens whose products are formed at once: all pairs of a chunk, with a decay for each state
# channel, or without one.
DECAYED_CHUNK = 16
CHUNK = 64


def chunk_linear_attn(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """`S_i = S_{i-1} + k_i v_i'`, `o_i = scale S_i' q_i`, so `M_ij = scale q_i . k_j`.

    Args:
        q: `[B, L, H, N]`.
        k: `[B, L, H, N]`.
        v: `[B, L, H, C]`.
        scale: factor on the queries, `N ** -0.5` if None.

    Returns:
        `[B, L, H, C]`.

    Source: Katharopoulos et al., "Transformers are RNNs", ICML 2020, eq. 5, without normaliser.

    Example:
        >>> import torch
        >>> q, k, v = torch.randn(3, 1, 9, 2, 4)
        >>> matrix = torch.einsum("blhn,bshn->bhls", q, k).tril()
        >>> out = torch.einsum("bhls,bshc->blhc", matrix, v)
        >>> torch.allclose(chunk_linear_attn(q, k, v, scale=1.0), out, atol=1e-5)
        True
    """
    size = min(CHUNK, q.shape[1])  # short texts are not filled up to a chunk
    queries, keys, values = (_in_chunks(features, size) for features in (q, k, v))
    scores = (queries @ keys.mT).tril()
    written = keys.mT @ values
    earlier = functional.pad(written, (0, 0, 0, 0, 1, 0)).cumsum(2)[:, :, :-1]
    return _joined(scores @ values + queries @ earlier, q, v, scale)


def chunk_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float | None = None) -> Tensor:
    """`S_i = Diag(e^{g_i}) S_{i-1} + k_i v_i'`, `o_i = scale S_i' q_i`.

    Args:
        q: `[B, L, H, N]`.
        k: `[B, L, H, N]`.
        v: `[B, L, H, C]`.
        g: logarithms of the decays, at most 0, `[B|1, L|1, H, N]`.
        scale: factor on the queries, `N ** -0.5` if None.

    Returns:
        `[B, L, H, C]`. Decays are multiplied as differences of logarithms, none of which is
        positive: the strongest decay cannot overflow.

    Source: Yang et al., "Gated Linear Attention Transformers with Hardware-Efficient Training",
    ICML 2024, eq. 3 and section 4 (chunks).

    Example:
        >>> import torch
        >>> q, k, v = torch.randn(3, 1, 40, 2, 4)
        >>> steady = chunk_gla(q, k, v, torch.zeros(1, 1, 2, 4))
        >>> torch.allclose(steady, chunk_linear_attn(q, k, v), atol=1e-5)
        True
    """
    gates = g.expand_as(k)
    queries, keys, values, gates = (_in_chunks(x, DECAYED_CHUNK) for x in (q, k, v, gates))
    passed = gates.cumsum(-2)
    later = torch.ones(DECAYED_CHUNK, DECAYED_CHUNK, dtype=torch.bool, device=q.device).triu(1)
    decay = passed[..., :, None, :] - passed[..., None, :, :]
    decay = decay.masked_fill(later[..., None], -torch.inf).exp()
    scores = ((decay * keys[..., None, :, :]) @ queries[..., None])[..., 0]
    whole = passed[..., -1:, :]
    written = (keys * (whole - passed).exp()).mT @ values
    earlier = _carried(written, whole.exp().mT)
    return _joined(scores @ values + (queries * passed.exp()) @ earlier, q, v, scale)


def mamba_selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803 - names of transformers and mamba_ssm
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """`h_i = exp(dt_i A) h_{i-1} + dt_i B_i u_i`, `y_i = (C_i h_i + D u_i) silu(z_i)` per channel.

    Args:
        hidden_states: u, `[B, D, L]`.
        dt: step sizes before bias and softplus, `[B, D, L]`.
        A: negative rates, `[D, N]`.
        B: `[B, N, L]`.
        C: `[B, N, L]`.
        D: direct term `[D]`, None for none.
        z: gate before its silu, `[B, D, L]`, None for none.
        delta_bias: `[D]`, None for none.
        delta_softplus: whether dt goes through a softplus.

    Returns:
        `[B, D, L]`.

    Source: Gu and Dao, "Mamba", 2023, algorithm 2.

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1, 4)
        >>> mamba_selective_scan(one, one, torch.zeros(1, 1), one, one)  # a running sum
        tensor([[[1., 2., 3., 4.]]])
    """
    dtype = hidden_states.dtype
    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[:, None]
    if delta_softplus:
        dt = functional.softplus(dt)
    step, inputs = _wide(dt).movedim(-1, 0)[..., None], _wide(hidden_states)
    write, read = (_wide(features).movedim(-1, 0)[..., None, :] for features in (B, C))
    decays = (step * _wide(A)).exp()
    written = step * write * inputs.movedim(-1, 0)[..., None]
    state = torch.zeros_like(written[0])
    states = []
    for decay, new in zip(decays.unbind(), written.unbind(), strict=True):
        state = torch.addcmul(new, decay, state)
        states.append(state)
    outputs = (torch.stack(states) * read).sum(-1).movedim(0, -1)
    if D is not None:
        outputs = outputs + inputs * _wide(D)[:, None]
    if z is not None:
        outputs = outputs * functional.silu(_wide(z))
    return outputs.to(dtype)


def causal_conv1d_fn(
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """`y_i = silu(sum_k w_{K-1-k} u_{i-k} + b)` per channel.

    Args:
        hidden_states: u, `[B, D, L]`.
        weight: `[D, K]`, the tap of the present token last.
        bias: `[D]`, None for none.
        activation: "silu", or None for none.

    Returns:
        `[B, D, L]`.

    Source: Gu and Dao, "Mamba", 2023, figure 3.

    Example:
        >>> import torch
        >>> causal_conv1d_fn(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[1.0, 0.0]]))
        tensor([[[0., 1., 2.]]])
    """
    padded = functional.pad(hidden_states, (weight.shape[-1] - 1, 0))
    outputs = functional.conv1d(padded, weight[:, None], bias, groups=len(weight))
    return outputs if activation is None else functional.silu(outputs)


def fftconv(u: Tensor, k: Tensor, D: Tensor) -> Tensor:  # noqa: N803 - name of HyenaDNA's code
    """`y_i = sum_j k_{i-j} u_j + D u_i`, a long convolution by Fourier transforms.

    Args:
        u: `[B, D, L]`.
        k: filters `[D, L]`.
        D: direct term `[D]`.

    Returns:
        `[B, D, L]`.

    Source: Poli et al., "Hyena Hierarchy", ICML 2023, section 2.

    Example:
        >>> import torch
        >>> fftconv(torch.ones(1, 1, 3), torch.ones(1, 3), torch.ones(1)).round()
        tensor([[[2., 3., 4.]]])
    """
    length, inputs = u.shape[-1], _wide(u)
    spectrum = torch.fft.rfft(inputs, 2 * length) * torch.fft.rfft(_wide(k), 2 * length)
    outputs: Tensor = torch.fft.irfft(spectrum, 2 * length)[..., :length]
    return (outputs + inputs * _wide(D)[:, None]).to(u.dtype)


def _wide(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _in_chunks(features: Tensor, size: int) -> Tensor:
    """`[B, L, H, N]` as `[B, H, L / size, size, N]`, filled up with zeros."""
    missing = -features.shape[1] % size
    padded = functional.pad(_wide(features), (0, 0, 0, 0, 0, missing)).transpose(1, 2)
    return padded.reshape(*padded.shape[:2], -1, size, features.shape[-1])


def _joined(chunks: Tensor, q: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """Outputs `[B, H, n, size, C]` as `[B, L, H, C]`, scaled."""
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    outputs = chunks.flatten(2, 3)[:, :, : q.shape[1]].transpose(1, 2)
    return (factor * outputs).to(v.dtype)


def _carried(written: Tensor, decay: Tensor) -> Tensor:
    """The state before each chunk `[B, H, n, N, C]`, of what chunks write and let pass."""
    state = torch.zeros_like(written[:, :, 0])
    states = []
    for new, passing in zip(written.unbind(2), decay.unbind(2), strict=True):
        states.append(state)
        state = torch.addcmul(new, passing, state)
    return torch.stack(states, 2)
