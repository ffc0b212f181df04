"""Causal operators: what a mixer applied, in its own structure."""

from hf_ess.versions import require_supported

require_supported("torch")

from hf_ess.operators.attention import (
    AttentionOperator,
    AttentionWeights,
    ScoredAttentionOperator,
    SoftmaxAttentionOperator,
    SoftmaxWeights,
)
from hf_ess.operators.attention_variants import (
    DifferentialAttentionOperator,
    PlacedAttentionOperator,
)
from hf_ess.operators.channel_products import channel_gram, distance_bound
from hf_ess.operators.compositions import ColumnScaled, Product, RowScaled, Sum
from hf_ess.operators.convolution import ConvolutionOperator, ModalConvolution
from hf_ess.operators.dense import DenseOperator, future_share
from hf_ess.operators.frobenius import squared_distances, squared_norm
from hf_ess.operators.jacobian import JacobianOperator
from hf_ess.operators.linear_operator import LinearOperator
from hf_ess.operators.mimo import DenseMimoOperator, MimoOperator, block_future_share
from hf_ess.operators.mixers import ConvolvedRecurrence
from hf_ess.operators.realizations import realization
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
from hf_ess.operators.verification import (
    RESIDUAL_BOUNDS,
    ResidualMeter,
    residual_bound,
    residual_bound_of,
)

__all__ = [
    "RESIDUAL_BOUNDS",
    "AttentionOperator",
    "AttentionWeights",
    "ColumnScaled",
    "ConvolutionOperator",
    "ConvolvedRecurrence",
    "DeltaRule",
    "DenseMimoOperator",
    "DenseOperator",
    "DenseTransition",
    "DiagonalDecay",
    "DiagonalPlusLowRank",
    "DifferentialAttentionOperator",
    "JacobianOperator",
    "LinearOperator",
    "MimoOperator",
    "ModalConvolution",
    "OuterDecay",
    "PlacedAttentionOperator",
    "Product",
    "RecurrentOperator",
    "ResidualMeter",
    "RowScaled",
    "ScalarDecay",
    "ScoredAttentionOperator",
    "SoftmaxAttentionOperator",
    "SoftmaxWeights",
    "StateSpaceOperator",
    "Sum",
    "Transition",
    "block_future_share",
    "channel_gram",
    "distance_bound",
    "future_share",
    "realization",
    "residual_bound",
    "residual_bound_of",
    "squared_distances",
    "squared_norm",
]
