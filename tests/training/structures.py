"""Operators of every structure as functions of their features, for checks of gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hf_ess.operators import (
    ColumnScaled,
    ConvolutionOperator,
    ConvolvedRecurrence,
    DeltaRule,
    DenseOperator,
    DenseTransition,
    DiagonalDecay,
    DiagonalPlusLowRank,
    DifferentialAttentionOperator,
    LinearOperator,
    ModalConvolution,
    OuterDecay,
    RowScaled,
    ScalarDecay,
    ScoredAttentionOperator,
    SoftmaxAttentionOperator,
    StateSpaceOperator,
    Sum,
)

BATCH, GROUPS, LENGTH, STATES = 2, 2, 14, 3
SCALARS = (BATCH, GROUPS, LENGTH)
VECTORS = (*SCALARS, STATES)
SHARED = (BATCH, 1, LENGTH, STATES)
SINGLE = (*SCALARS, 1)


@dataclass(frozen=True)
class Structure:
    """An operator made of features whose shapes are given; those named first are positive.

    Attributes:
        make: the operator of features.
        shapes: of the features.
        positive: how many of the first features lie between 0 and 1, the others are normal.
    """

    make: Callable[..., LinearOperator]
    shapes: tuple[tuple[int, ...], ...]
    positive: int = 0

    def features(self, seed: int = 0) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        draw = [torch.rand] * self.positive + [torch.randn] * (len(self.shapes) - self.positive)
        return [
            one(shape, generator=generator, dtype=torch.float64)
            for one, shape in zip(draw, self.shapes, strict=True)
        ]


def _recurrence(transition, write, read, **options):
    return StateSpaceOperator(transition, write, read, **options)


def _delta(beta, decay, key, query):
    unit = functional.normalize(key, dim=-1)
    return _recurrence(DeltaRule(unit, beta, -decay), unit, query, write_scale=beta)


def _conv(taps):
    return ConvolutionOperator(taps, length=LENGTH, batch=BATCH)


def _sums(decay, write, read):
    return _recurrence(ScalarDecay(-decay), write, read)


STRUCTURES = {
    "dense": Structure(lambda m: DenseOperator(m.tril()), ((BATCH, GROUPS, LENGTH, LENGTH),)),
    "softmax": Structure(SoftmaxAttentionOperator, ((BATCH, 4, LENGTH, STATES), VECTORS)),
    "softmax with blind rows": Structure(
        lambda q, k: SoftmaxAttentionOperator(q, k, torch.ones(LENGTH, LENGTH).tril(-1).bool()),
        (VECTORS, VECTORS),
    ),
    "scores": Structure(
        lambda s: ScoredAttentionOperator(
            s.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -torch.inf)
        ),
        ((*SCALARS, LENGTH),),
    ),
    "differential": Structure(
        lambda q, k: DifferentialAttentionOperator(SoftmaxAttentionOperator(q, k), 0.4),
        ((BATCH, 4, LENGTH, STATES), VECTORS),
    ),
    "scalar decay": Structure(_sums, (SCALARS, SHARED, SHARED), 1),
    "read before": Structure(
        lambda a, b, c: _recurrence(ScalarDecay(-a), b, c, reads="before"),
        (SCALARS, VECTORS, VECTORS),
        1,
    ),
    "diagonal decay": Structure(
        lambda a, b, c: _recurrence(DiagonalDecay(log_decay=-a), b, c), (VECTORS,) * 3, 1
    ),
    "diagonal with resets": Structure(
        lambda a, b, c: _recurrence(
            DiagonalDecay(a * (torch.arange(LENGTH) % 4 > 0)[:, None]), b, c
        ),
        (VECTORS,) * 3,
        1,
    ),
    "complex diagonal": Structure(
        lambda a, b: _recurrence(
            DiagonalDecay(torch.complex(a, b) / 2),
            torch.ones(1, 1, 1, STATES, dtype=torch.float64),
            torch.complex(b, a),
            batch=BATCH,
            length=LENGTH,
        ),
        ((1, GROUPS, 1, STATES),) * 2,
        2,
    ),
    "mamba": Structure(
        lambda dt, a, b, c: _recurrence(OuterDecay(-a.abs(), dt), b, c, write_scale=dt),
        (SCALARS, (GROUPS, STATES), SHARED, SHARED),
        1,
    ),
    "gated delta rule": Structure(_delta, (SCALARS, SINGLE, VECTORS, VECTORS), 2),
    "kimi delta attention": Structure(_delta, (SCALARS, VECTORS, VECTORS, VECTORS), 2),
    "diagonal plus low rank": Structure(
        lambda d, a, b, k, q: _recurrence(DiagonalPlusLowRank(d, a / 5, b), k, q),
        (VECTORS,) * 5,
        1,
    ),
    "matrices": Structure(
        lambda a, b, c: _recurrence(DenseTransition(a / 2), b, c),
        ((*VECTORS, STATES), VECTORS, VECTORS),
    ),
    "short convolution": Structure(_conv, ((GROUPS, 3),)),
    "long convolution": Structure(_conv, ((GROUPS, LENGTH),)),
    "changing taps": Structure(ConvolutionOperator, (VECTORS,)),
    "modal convolution": Structure(
        lambda a, b: ModalConvolution(torch.complex(a, b) / 2, torch.complex(b, a), length=LENGTH),
        ((GROUPS, STATES),) * 2,
        2,
    ),
    "gated convolution": Structure(
        lambda x, y, t: RowScaled(ColumnScaled(_conv(t), x), y),
        (SCALARS, SCALARS, (GROUPS, 3)),
    ),
    "convolution and recurrence": Structure(
        lambda a, b, c, t, x: ConvolvedRecurrence(_sums(a, b, c), x, _conv(t)),
        (SCALARS, SINGLE, SINGLE, (GROUPS, 3), SCALARS),
        1,
    ),
    "sum": Structure(
        lambda a, b, c, t: Sum(_sums(a, b, c), _conv(t)),
        (SCALARS, SINGLE, SINGLE, (GROUPS, 2)),
        1,
    ),
}
