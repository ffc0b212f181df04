"""Jacobians of functions: exact for linear ones, refused where they mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from analysis.handmade import WIDTH, BidirectionalAttention, InlineAttention, RunningMean
from jacobian.mixers import (
    S5,
    DepthwiseConvolution,
    Gru,
    SLstm,
    assert_spectra,
    numerical_jacobian,
)
from torch import nn

import hf_ess
from hf_ess import (
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
    NotCausalError,
    UnsupportedMixerError,
)
from hf_ess.operators import DenseMimoOperator, DenseOperator, JacobianOperator

LENGTH = 7


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def assert_same(found, expected, largest):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(largest))


def test_a_matrix_shared_by_channels_is_repeated():
    matrix = random(LENGTH, LENGTH).tril()
    jacobian = JacobianOperator(lambda u: torch.einsum("ts,bsd->btd", matrix, u), random(2, 7, 3))
    assert torch.equal(jacobian.to_dense()[1, 0], torch.kron(matrix, torch.eye(3).double()))
    own = hf_ess.block_singular_values(jacobian, "all").values[0, 0]
    siso = hf_ess.block_singular_values(DenseOperator(matrix), "all").values[0, 0]
    assert_same(own, siso.repeat_interleave(3, dim=-1), siso.max())


def test_a_matrix_per_channel_gives_the_union_of_the_spectra():
    matrices = random(3, LENGTH, LENGTH).tril()
    jacobian = JacobianOperator(
        lambda u: torch.einsum("dts,bsd->btd", matrices, u), random(1, 7, 3)
    )
    own = hf_ess.block_singular_values(jacobian, "all").values[0, 0]
    siso = hf_ess.block_singular_values(DenseOperator(matrices), "all").values[0]
    union = siso.movedim(0, -1).flatten(-2).sort(-1, descending=True).values
    assert_same(own, union, union.max())


def test_a_dense_recurrence_is_its_own_jacobian():
    mixer = S5()
    jacobian = JacobianOperator(mixer, random(1, LENGTH, 2), state_size=3)
    explicit = DenseMimoOperator(mixer.matrix(LENGTH), 4, 2)
    torch.testing.assert_close(jacobian.to_dense(), explicit.to_dense(), rtol=0, atol=1e-13)
    own = hf_ess.block_singular_values(jacobian, "all")
    expected = hf_ess.block_singular_values(explicit, "all")
    assert_same(own.values, expected.values, expected.values.max())
    assert own.method == "jacobian"
    assert jacobian.state_size == 3


def test_a_depthwise_convolution_is_one_toeplitz_operator_per_channel():
    mixer = DepthwiseConvolution()
    jacobian = JacobianOperator(mixer, random(1, LENGTH, WIDTH))
    taps = mixer.taps.weight.detach().double()[:, 0].flip(-1)
    toeplitz = sum(taps[:, k, None, None] * torch.eye(LENGTH).roll(k, 0).tril(-k) for k in range(4))
    own = hf_ess.block_singular_values(jacobian, "all", method="svd").values[0, 0]
    siso = hf_ess.block_singular_values(DenseOperator(toeplitz), "all", method="svd").values[0]
    union = siso.movedim(0, -1).flatten(-2).sort(-1, descending=True).values
    assert_same(own, union[..., : own.shape[-1]], union.max())


@pytest.mark.parametrize("mixer", [Gru, SLstm, InlineAttention])
def test_nonlinear_modules_agree_with_finite_differences(mixer):
    torch.manual_seed(0)
    module, features = mixer(), random(1, LENGTH, WIDTH)
    jacobian = JacobianOperator(module, features)
    expected = numerical_jacobian(mixer.forward.__get__(module.double()), features)
    torch.testing.assert_close(jacobian.to_dense()[0, 0], expected, rtol=0, atol=1e-8)
    assert jacobian.is_float64
    assert jacobian.derivative_residual().max() < 1e-8
    spectra = hf_ess.block_singular_values(jacobian, "all")
    assert_spectra(spectra, expected, WIDTH, WIDTH, atol=1e-7)


def test_products_need_no_matrix():
    torch.manual_seed(0)
    module, features = Gru(), random(2, LENGTH, WIDTH)
    free, formed = JacobianOperator(module, features), JacobianOperator(module, features)
    formed.form()
    v, w = random(2, 1, LENGTH, WIDTH, seed=1), random(2, 1, LENGTH, WIDTH, seed=2)
    torch.testing.assert_close(free.apply(v), formed.apply(v), rtol=0, atol=1e-13)
    dense = formed.to_dense()
    transposed = (dense.mT @ w.flatten(-2)[..., None]).view_as(v)
    torch.testing.assert_close(free.apply_transposed(w), transposed, rtol=0, atol=1e-13)


def test_samples_have_their_own_jacobians():
    torch.manual_seed(0)
    module, features = Gru(), random(3, LENGTH, WIDTH)
    together = JacobianOperator(module, features).to_dense()
    alone = [JacobianOperator(module, features[n : n + 1]).to_dense() for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-13)


def test_little_memory_takes_more_passes():
    torch.manual_seed(0)
    module, features = Gru(), random(1, LENGTH, WIDTH)
    at_once = JacobianOperator(module, features).to_dense()
    one_by_one = JacobianOperator(module, features, work_bytes=1)
    assert one_by_one._linearization.together == 1
    torch.testing.assert_close(one_by_one.to_dense(), at_once, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mixer", [Gru, InlineAttention, RunningMean])
def test_float32_is_as_far_off_as_it_says(mixer):
    torch.manual_seed(0)
    module, features = mixer(), random(1, LENGTH, WIDTH).float()
    exact = hf_ess.block_singular_values(JacobianOperator(module, features), "all")
    coarse = JacobianOperator(lambda u: module(u), features)
    assert not coarse.is_float64
    spectra = hf_ess.block_singular_values(coarse, "all")
    assert ((spectra.values - exact.values).abs() <= spectra.value_errors()).all()
    assert 0 < spectra.error_bound.max() < 1e-5 * exact.values.max()
    assert coarse.derivative_residual().max() < coarse.derivative_bound == 1e-3


def test_a_module_keeps_its_weights_and_its_mode():
    module = Gru().train()
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    with torch.inference_mode():
        JacobianOperator(module, random(1, LENGTH, WIDTH)).form()
    assert module.training
    assert all(torch.equal(weight, before[name]) for name, weight in module.named_parameters())
    assert all(weight.grad is None for weight in module.parameters())
    assert torch.backends.mkldnn.enabled
    assert torch.backends.cudnn.enabled
    module(random(1, LENGTH, WIDTH).float())[0].sum().backward()


class _Hidden(torch.autograd.Function):
    """A running sum whose backward pass is hidden from torch, as in a fused kernel."""

    @staticmethod
    def forward(_, features):
        return features.cumsum(1)

    @staticmethod
    def backward(_, gradient):
        flipped = np.flip(np.cumsum(np.flip(gradient.detach().numpy(), 1), 1), 1)
        return torch.from_numpy(flipped.copy())


def test_a_hidden_backward_pass_gives_the_matrix_but_no_products():
    running_sum = torch.ones(LENGTH, LENGTH).double().tril()
    jacobian = JacobianOperator(_Hidden.apply, random(1, LENGTH, 2))
    with pytest.raises(UnsupportedMixerError, match="cannot be differentiated"):
        jacobian.apply(random(1, 1, LENGTH, 2))
    jacobian.form()
    assert torch.equal(jacobian.to_dense()[0, 0], torch.kron(running_sum, torch.eye(2).double()))
    assert jacobian.derivative_residual().max() < 1e-9
    partly = JacobianOperator(lambda u: _Hidden.apply(u) + u, random(1, LENGTH, 2))
    for _ in range(2):
        with pytest.raises(UnsupportedMixerError, match="hidden from torch"):
            partly.products(random(3, 1, LENGTH, 2))


def test_a_wrong_derivative_is_found_out():
    class Wrong(_Hidden):
        @staticmethod
        def backward(ctx, gradient):
            return 2 * _Hidden.backward(ctx, gradient)

    jacobian = JacobianOperator(Wrong.apply, random(1, LENGTH, 2))
    jacobian.form()
    assert jacobian.derivative_residual().min() > 0.1


def test_a_constant_has_no_memory():
    for constant in (lambda u: torch.ones_like(u), lambda u: nn.Parameter(torch.ones_like(u))):
        jacobian = JacobianOperator(constant, random(1, LENGTH, 2))
        assert not jacobian.apply(random(1, 1, LENGTH, 2)).any()
        assert not hf_ess.block_singular_values(jacobian, "all").values.any()
        assert jacobian.derivative_residual().tolist() == [0.0]


FEATURES = random(2, LENGTH, WIDTH)


@pytest.mark.parametrize(
    ("function", "features", "error", "words"),
    [
        (BidirectionalAttention(), FEATURES, NotCausalError, "later inputs reach"),
        (lambda u: u.roll(-1, 1), FEATURES, NotCausalError, "later inputs reach"),
        (lambda u: u - u.mean(0), FEATURES, UnsupportedMixerError, "influence each other"),
        ("words", FEATURES, InvalidTypeError, "function"),
        (lambda u: u, torch.ones(1, 4, 2, dtype=torch.int64), InvalidTypeError, "token ids"),
        (lambda u: u, FEATURES[0], InvalidInputError, "B, L, I"),
        (lambda u: u, FEATURES[:, :1], InvalidInputError, "two tokens"),
        (lambda u: u[:, 1:], FEATURES, InvalidInputError, "must map"),
        (lambda u: (u, u), FEATURES, InvalidTypeError, "tuple"),
        (lambda u: u, FEATURES * torch.nan, NonFiniteError, "inputs"),
        (lambda u: u / 0, FEATURES, NonFiniteError, "outputs"),
        (lambda u: u.abs().sub(u).sqrt(), FEATURES, NonFiniteError, "derivative"),
        (lambda u: u.bfloat16().cumsum(1), FEATURES, InvalidTypeError, "bfloat16"),
    ],
)
def test_what_has_no_jacobian_is_refused(function, features, error, words):
    with pytest.raises(error, match=words):
        JacobianOperator(function, features)


def test_a_glance_into_the_future_at_one_token_is_found_in_the_matrix():
    def late(u):
        return torch.cat([u[:, :5], u[:, 5:6] + u[:, 6:7], u[:, 6:]], dim=1)

    with pytest.raises(NotCausalError):
        JacobianOperator(late, random(1, 64, 2)).form()


def test_vectors_of_another_shape_are_refused():
    jacobian = JacobianOperator(lambda u: u[..., :1], random(1, LENGTH, 2))
    for product, channels in ((jacobian.apply, 1), (jacobian.apply_transposed, 2)):
        with pytest.raises(InvalidInputError, match="maps features of shape"):
            product(random(1, 1, LENGTH, channels))
