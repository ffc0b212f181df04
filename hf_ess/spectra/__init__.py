"""Singular values of the blocks of causal operators, by the method that fits their structure."""

from hf_ess.spectra.blocks import Window, resolve_window
from hf_ess.spectra.certified import CertifiedMetrics, certified_metrics, counts_above
from hf_ess.spectra.dispatch import (
    block_singular_values,
    has_own_route,
    operator_block_singular_values,
)
from hf_ess.spectra.engine import (
    DEFAULT_MEMORY_BUDGET,
    METHODS,
    Request,
    dense_block_singular_values,
)
from hf_ess.spectra.factored import factored_block_singular_values
from hf_ess.spectra.mimo import mimo_block_singular_values, randomized_block_singular_values
from hf_ess.spectra.positions import Positions, resolve_positions
from hf_ess.spectra.realized import realized_block_singular_values
from hf_ess.spectra.spectra import Spectra

__all__ = [
    "DEFAULT_MEMORY_BUDGET",
    "METHODS",
    "CertifiedMetrics",
    "Positions",
    "Request",
    "Spectra",
    "Window",
    "block_singular_values",
    "certified_metrics",
    "counts_above",
    "dense_block_singular_values",
    "factored_block_singular_values",
    "has_own_route",
    "mimo_block_singular_values",
    "operator_block_singular_values",
    "randomized_block_singular_values",
    "realized_block_singular_values",
    "resolve_positions",
    "resolve_window",
]
