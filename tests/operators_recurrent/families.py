"""One small random operator of every family, with the matrices that the naive recurrence needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hf_ess.operators import (
    DeltaRule,
    DenseTransition,
    DiagonalDecay,
    DiagonalPlusLowRank,
    OuterDecay,
    ScalarDecay,
    StateSpaceOperator,
)

BATCH, GROUPS, STATES = 2, 4, 3
FAMILIES = {}


@dataclass
class Example:
    """An operator and its features as numpy arrays [B, G, L, ...]."""

    operator: StateSpaceOperator
    transition: np.ndarray
    write: np.ndarray
    read: np.ndarray
    direct: np.ndarray
    state_size: int
    reads: str = "after"


def family(build):
    FAMILIES[build.__name__] = build
    return build


class Features:
    """Seeded random features of one length."""

    def __init__(self, length, seed=0, dtype=torch.float64):
        self.length = length
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def normal(self, *shape):
        drawn = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        return drawn.to(self.dtype)

    def uniform(self, *shape):
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def complex(self, *shape):
        return torch.complex(self.normal(*shape), self.normal(*shape))

    def vectors(self, groups=GROUPS):
        return self.normal(BATCH, groups, self.length, STATES)

    def scalars(self):
        return self.normal(BATCH, GROUPS, self.length)


def wide(tensor, *shape):
    """A feature as float64 or complex, its groups repeated and its axes of one expanded."""
    array = tensor.to(torch.complex128).numpy()
    if array.shape[1] not in (1, GROUPS):
        array = array.repeat(GROUPS // array.shape[1], axis=1)
    return np.broadcast_to(array, shape)


def diagonal(decay, states=STATES):
    return decay[..., None] * np.eye(states)


def example(operator, transition, write, read, direct=None, *, state_size=STATES, **options):
    length = operator.length
    states = write.shape[-1]
    vectors = BATCH, GROUPS, length, states
    given = np.zeros(vectors[:3]) if direct is None else wide(direct, *vectors[:3]).real
    transition = np.broadcast_to(transition, (*vectors, states))
    return Example(operator, transition, write, read, given, state_size, **options)


def of(x, tensor):
    return wide(tensor, BATCH, GROUPS, x.length, tensor.shape[-1])


@family
def mamba2(x):
    decay = -x.uniform(BATCH, GROUPS, x.length)
    write, read, dt = x.vectors(2), x.vectors(2), x.uniform(BATCH, GROUPS, x.length)
    skip = x.normal(1, GROUPS, 1)
    operator = StateSpaceOperator(ScalarDecay(decay), write, read, direct=skip, write_scale=dt)
    scaled = of(x, write) * dt.double().numpy()[..., None]
    factors = np.exp(decay.double().numpy())[..., None, None] * np.eye(STATES)
    return example(operator, factors, scaled, of(x, read), skip)


@family
def retention(x):
    decay = torch.log(torch.linspace(0.5, 1.0, GROUPS, dtype=torch.float64))[None, :, None]
    write, read = x.vectors(), x.vectors()
    factors = np.exp(decay.numpy())[..., None, None] * np.eye(STATES)
    operator = StateSpaceOperator(ScalarDecay(decay), write, read)
    return example(operator, factors, of(x, write), of(x, read))


@family
def gated_linear_attention(x):
    decay = -x.uniform(BATCH, GROUPS, x.length, STATES)
    write, read = x.vectors(), x.vectors()
    operator = StateSpaceOperator(DiagonalDecay(log_decay=decay), write, read)
    factors = diagonal(np.exp(decay.double().numpy()))
    return example(operator, factors, of(x, write), of(x, read))


@family
def resets(x):
    decay = x.uniform(BATCH, GROUPS, x.length, STATES)
    decay[:, :, ::5] = 0.0
    decay[:, 1, 3:9] = 1.0
    write, read = x.vectors(), x.vectors(1)
    operator = StateSpaceOperator(DiagonalDecay(decay), write, read)
    return example(operator, diagonal(decay.double().numpy()), of(x, write), of(x, read))


@family
def logarithmic_resets(x):
    decay = -x.uniform(BATCH, GROUPS, x.length)
    decay[:, :, ::4] = -torch.inf
    write, read = x.vectors(), x.vectors()
    operator = StateSpaceOperator(ScalarDecay(decay), write, read)
    factors = np.exp(decay.double().numpy())[..., None, None] * np.eye(STATES)
    return example(operator, factors, of(x, write), of(x, read))


@family
def growing_and_negative(x):
    decay = 2.1 * x.uniform(BATCH, GROUPS, x.length, STATES) - 1.02
    decay[:, 0] = 1.02
    write, read = x.vectors(), x.vectors()
    operator = StateSpaceOperator(DiagonalDecay(decay), write, read)
    return example(operator, diagonal(decay.double().numpy()), of(x, write), of(x, read))


@family
def rg_lru(x):
    decay = x.uniform(BATCH, GROUPS, x.length, 1)
    decay[:, :, 0] = 0.0
    one = torch.ones(1, 1, 1, 1)
    gate = x.scalars()
    operator = StateSpaceOperator(DiagonalDecay(decay), one, one, write_scale=gate)
    write = gate.double().numpy()[..., None]
    factors = diagonal(decay.double().numpy(), 1)
    return example(operator, factors, write, np.ones_like(write), state_size=1)


@family
def wkv(x):
    rate, key = -x.uniform(1, GROUPS, 1), x.scalars()
    write = torch.exp(key.double())
    norm = 1 / (1 + x.uniform(BATCH, GROUPS, x.length).double())
    bonus = x.normal(BATCH, GROUPS, x.length)
    one = torch.ones(1, 1, 1, 1)
    operator = StateSpaceOperator(
        ScalarDecay(rate),
        one,
        one,
        write_scale=write,
        read_scale=norm,
        direct=bonus,
        reads="before",
    )
    factors = np.exp(rate.double().numpy())[..., None, None]
    write, read = write.numpy()[..., None], norm.numpy()[..., None]
    return example(operator, factors, write, read, bonus, state_size=1, reads="before")


@family
def diagonal_state_space(x):
    decay = torch.polar(x.uniform(1, GROUPS, 1, STATES), x.normal(1, GROUPS, 1, STATES))
    write, read = torch.ones(1, 1, 1, 1), x.complex(1, GROUPS, 1, STATES)
    operator = StateSpaceOperator(DiagonalDecay(decay), write, read, batch=BATCH, length=x.length)
    factors = diagonal(decay.to(torch.complex128).numpy())
    write = np.ones((BATCH, GROUPS, x.length, STATES))
    return example(operator, factors, write, of(x, read), state_size=2 * STATES)


@family
def complex_everywhere(x):
    shape = BATCH, GROUPS, x.length, STATES
    decay, write, read = x.complex(*shape) / 2, x.complex(*shape), x.complex(*shape)
    operator = StateSpaceOperator(DiagonalDecay(decay), write, read)
    factors = diagonal(decay.to(torch.complex128).numpy())
    return example(operator, factors, of(x, write), of(x, read), state_size=2 * STATES)


@family
def real_decay_complex_vectors(x):
    shape = BATCH, GROUPS, x.length, STATES
    rate, step = -x.uniform(GROUPS, STATES), x.uniform(*shape[:3])
    write, read = x.complex(*shape), x.complex(*shape)
    operator = StateSpaceOperator(OuterDecay(rate, step), write, read)
    decay = np.exp(rate.double().numpy()[None, :, None] * step.double().numpy()[..., None])
    return example(operator, diagonal(decay), of(x, write), of(x, read), state_size=2 * STATES)


@family
def mamba1(x):
    rate, dt = -3 * x.uniform(GROUPS, STATES), x.uniform(BATCH, GROUPS, x.length)
    write, read, skip = x.vectors(1), x.vectors(1), x.normal(1, GROUPS, 1)
    operator = StateSpaceOperator(OuterDecay(rate, dt), write, read, write_scale=dt, direct=skip)
    steps = dt.double().numpy()[..., None]
    decay = np.exp(rate.double().numpy()[None, :, None] * steps)
    return example(operator, diagonal(decay), of(x, write) * steps, of(x, read), skip)


def _delta(x, log_decay, groups=GROUPS):
    key = torch.nn.functional.normalize(x.vectors(groups), dim=-1)
    beta, read = 2 * x.uniform(BATCH, GROUPS, x.length), x.vectors()
    operator = StateSpaceOperator(DeltaRule(key, beta, log_decay), key, read, write_scale=beta)
    k, strength = of(x, key), beta.double().numpy()[..., None]
    replace = np.eye(STATES) - strength[..., None] * k[..., :, None] * k[..., None, :]
    decay = np.ones((1, 1, 1, 1)) if log_decay is None else np.exp(log_decay.double().numpy())
    return example(operator, replace * decay[..., None, :], strength * k, of(x, read))


@family
def delta_rule(x):
    return _delta(x, None)


@family
def gated_delta_rule(x):
    return _delta(x, -x.uniform(BATCH, GROUPS, x.length, 1), groups=2)


@family
def delta_rule_per_channel(x):
    return _delta(x, -x.uniform(BATCH, GROUPS, x.length, STATES))


@family
def rwkv7(x):
    decay = x.uniform(BATCH, GROUPS, x.length, STATES)
    left, right = -x.vectors() / 4, x.vectors() / 4
    write, read = x.vectors(), x.vectors()
    operator = StateSpaceOperator(DiagonalPlusLowRank(decay, left, right), write, read)
    factors = diagonal(decay.double().numpy())
    factors = factors + of(x, left)[..., :, None] * of(x, right)[..., None, :]
    return example(operator, factors, of(x, write), of(x, read))


@family
def constant_matrix(x):
    matrix = x.normal(STATES, STATES) / 3
    write, read = x.vectors(), x.vectors()
    operator = StateSpaceOperator(DenseTransition(matrix), write, read, reads="before")
    factors = matrix.double().numpy()
    return example(operator, factors, of(x, write), of(x, read), reads="before")


@family
def matrix_per_step(x):
    matrices = x.normal(BATCH, GROUPS, x.length, STATES, STATES) / 3
    write, read = x.vectors(), x.vectors()
    operator = StateSpaceOperator(DenseTransition(matrices), write, read)
    return example(operator, matrices.double().numpy(), of(x, write), of(x, read))


@family
def complex_matrix(x):
    matrix = x.complex(1, GROUPS, 1, STATES, STATES) / 4
    write, read = x.vectors(), x.complex(BATCH, 1, x.length, STATES)
    operator = StateSpaceOperator(DenseTransition(matrix), write, read)
    factors = matrix.to(torch.complex128).numpy()
    return example(operator, factors, of(x, write), of(x, read), state_size=2 * STATES)
