"""Mixing functions against recurrences that take one token after the other, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hf_ess.synthetics import scans

LENGTHS = (1, 2, 16, 17, 63, 64, 65, 130)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def carried(q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float) -> Tensor:
    state = torch.zeros(*k[:, 0].shape, v.shape[-1], dtype=torch.float64)
    outputs = []
    for i in range(k.shape[1]):
        state = g[:, i, :, :, None].exp() * state + k[:, i, :, :, None] * v[:, i, :, None]
        outputs.append(scale * (q[:, i, :, :, None] * state).sum(-2))
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("strength", [0.0, 0.05, 60.0])
def test_linear_attention_with_and_without_decay(length: int, strength: float) -> None:
    q, k, gate = (drawn(2, length, 3, 4, seed=seed) for seed in range(3))
    v = drawn(2, length, 3, 5, seed=3)
    g = -strength * functional.softplus(3 * gate)
    expected = carried(q, k, v, g, scale=0.7)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(scans.chunk_gla(q, k, v, g, scale=0.7), expected, **close)
    if not strength:
        torch.testing.assert_close(scans.chunk_linear_attn(q, k, v, scale=0.7), expected, **close)
        unscaled = scans.chunk_linear_attn(q, k, v)
        torch.testing.assert_close(unscaled, expected / 0.7 / 2, **close)


def test_strong_decays_give_finite_gradients_in_float32() -> None:
    q, k, v, gate = (drawn(1, 100, 2, 8, seed=seed).float() for seed in range(4))
    g = (-90 * functional.softplus(gate)).requires_grad_()
    scans.chunk_gla(q, k, v, g).square().sum().backward()
    assert bool(g.grad.isfinite().all())
    assert bool(g.grad.any())


def test_gradients_of_every_argument() -> None:
    q, k, v, gate = (drawn(1, 19, 2, 3, seed=seed).requires_grad_() for seed in range(4))
    check = torch.autograd.gradcheck
    assert check(lambda q, k, v, g: scans.chunk_gla(q, k, v, -g.exp()), (q, k, v, gate))
    u, dt = (drawn(1, 2, 5, seed=seed).requires_grad_() for seed in (5, 6))
    rate, b, c = drawn(2, 3).requires_grad_(), drawn(1, 3, 5).requires_grad_(), drawn(1, 3, 5)
    scan = scans.mamba_selective_scan
    assert check(
        lambda u, dt, a, b: scan(u, dt, -a.exp(), b, c, delta_softplus=True), (u, dt, rate, b)
    )


@pytest.mark.parametrize("length", [1, 2, 33])
@pytest.mark.parametrize("whole", [False, True])
def test_selective_scan(length: int, whole: bool) -> None:
    u, dt, z = (drawn(2, 3, length, seed=seed) for seed in range(3))
    b, c = (drawn(2, 4, length, seed=seed) for seed in (3, 4))
    rate, direct, bias = -drawn(3, 4).exp(), drawn(3, seed=5), drawn(3, seed=6)
    step = (1 + (dt + bias[:, None]).exp()).log()
    state, outputs = torch.zeros(2, 3, 4, dtype=torch.float64), []
    for i in range(length):
        new = (step[:, :, i] * u[:, :, i])[..., None] * b[:, None, :, i]
        state = (rate * step[:, :, i, None]).exp() * state + new
        outputs.append((state * c[:, None, :, i]).sum(-1))
    expected = torch.stack(outputs, -1)
    more = {}
    if whole:
        expected = (expected + direct[:, None] * u) * z * torch.sigmoid(z)
        more = {"D": direct, "z": z}
    found = scans.mamba_selective_scan(
        u, dt, rate, b, c, delta_bias=bias, delta_softplus=True, **more
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_convolutions() -> None:
    u, taps, direct = drawn(2, 3, 20), drawn(3, 20, seed=1), drawn(3, seed=2)
    expected = direct[:, None] * u
    for i in range(20):
        for j in range(i + 1):
            expected[..., i] += taps[:, i - j] * u[..., j]
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(scans.fftconv(u, taps, direct), expected, **close)
    short = torch.cat([taps[:, :4], torch.zeros(3, 16)], -1)
    by_fourier = scans.fftconv(u, short, torch.zeros(3)) + direct[:, None]
    found = scans.causal_conv1d_fn(u, taps[:, :4].flip(-1), direct)
    torch.testing.assert_close(found, by_fourier, **close)
    curved = scans.causal_conv1d_fn(u, taps[:, :4].flip(-1), direct, "silu")
    torch.testing.assert_close(curved, by_fourier * torch.sigmoid(by_fourier), **close)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(dtype: torch.dtype) -> None:
    ones = torch.ones(1, 4096, 1, 1, dtype=dtype)
    sums = scans.chunk_linear_attn(ones, ones, ones)
    assert sums.dtype == dtype
    assert float(sums[0, -1]) == 4096
    row = ones[..., 0].mT
    assert (
        float(scans.mamba_selective_scan(row, row, torch.zeros(1, 1), row, row)[0, 0, -1]) == 4096
    )
