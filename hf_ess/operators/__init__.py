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

__all__ = [
    "AttentionOperator",
    "AttentionWeights",
    "DenseOperator",
    "LinearOperator",
    "ScoredAttentionOperator",
    "SoftmaxAttentionOperator",
    "SoftmaxWeights",
    "future_share",
]
