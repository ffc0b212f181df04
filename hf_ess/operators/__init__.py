"""Causal operators: what a mixer applied, in its own structure."""

from hf_ess.operators.attention import (
    AttentionOperator,
    AttentionWeights,
    ScoredAttentionOperator,
    SoftmaxAttentionOperator,
    SoftmaxWeights,
)
from hf_ess.operators.dense import DenseOperator, future_share
from hf_ess.operators.linear_operator import LinearOperator
from hf_ess.operators.recurrent import RecurrentOperator
from hf_ess.operators.state_space import StateSpaceOperator
from hf_ess.operators.transitions import (
    DeltaRule,
    DenseTransition,
    DiagonalDecay,
    DiagonalPlusLowRank,
    OuterDecay,
    ScalarDecay,
    Transition,
)
from hf_ess.operators.verification import RESIDUAL_BOUNDS, ResidualMeter, residual_bound

__all__ = [
    "RESIDUAL_BOUNDS",
    "AttentionOperator",
    "AttentionWeights",
    "DeltaRule",
    "DenseOperator",
    "DenseTransition",
    "DiagonalDecay",
    "DiagonalPlusLowRank",
    "LinearOperator",
    "OuterDecay",
    "RecurrentOperator",
    "ResidualMeter",
    "ScalarDecay",
    "ScoredAttentionOperator",
    "SoftmaxAttentionOperator",
    "SoftmaxWeights",
    "StateSpaceOperator",
    "Transition",
    "future_share",
    "residual_bound",
]
