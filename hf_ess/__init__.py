"""Effective state-size of sequence models: how much memory each layer really uses.

`hf_ess.analyze(model, inputs)` hooks a Hugging Face model, recovers the causal operator of every
mixer, proves it against what the layer computed, and measures its effective state-size
(Parnichkun et al., "Quantifying Memory Utilization with Effective State-Size", ICML 2025).

Names are loaded on first use, so that `import hf_ess` is fast and a report can be read without
loading torch or transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hf_ess.errors import (
    AdapterError,
    AddressError,
    CancelledError,
    HfEssError,
    HubError,
    InvalidInputError,
    InvalidTypeError,
    JobError,
    LimitError,
    MemoryBudgetError,
    MissingDependencyError,
    ModelLoadError,
    NonFiniteError,
    NotCausalError,
    NotComparableError,
    NotDifferentiableError,
    NumericalFloorWarning,
    OutOfMemoryError,
    OutputPathError,
    ProcessFailedError,
    ReportError,
    TrainingWatchWarning,
    UnsupportedMixerError,
    UnsupportedModelError,
    UnverifiedOperatorWarning,
)

if TYPE_CHECKING:
    from hf_ess import reduce
    from hf_ess.analysis.analyze import AnalysisInterrupted, analyze
    from hf_ess.corpus import read_texts
    from hf_ess.metrics import entropy_ess, soft_tolerance_ess, tolerance_ess
    from hf_ess.modulation import Modulation, modulation_table
    from hf_ess.modulation.measure import measure_modulation
    from hf_ess.progress import Progress
    from hf_ess.recall import RecallPerplexity, recall_perplexity
    from hf_ess.report import ESSReport, LayerESS
    from hf_ess.report.comparison import Comparison, compare
    from hf_ess.spectra import Spectra, block_singular_values
    from hf_ess.training import (
        ESSRegularizer,
        ESSSnapshot,
        ESSWatch,
        HankelRegularizer,
        InitializationProbe,
        TransitionRegularizer,
        probe_initialization,
        watch_ess,
    )
    from hf_ess.training.callback import ESSCallback
    from model_adapters import LayerOperator, record_operators, register_adapter

__version__ = "0.1.0"

_HOME_OF = {
    "AnalysisInterrupted": "hf_ess.analysis",
    "Comparison": "hf_ess.report.comparison",
    "ESSCallback": "hf_ess.training.callback",
    "ESSRegularizer": "hf_ess.training",
    "ESSReport": "hf_ess.report",
    "ESSSnapshot": "hf_ess.training",
    "ESSWatch": "hf_ess.training",
    "HankelRegularizer": "hf_ess.training",
    "InitializationProbe": "hf_ess.training",
    "LayerESS": "hf_ess.report",
    "LayerOperator": "model_adapters",
    "Modulation": "hf_ess.modulation",
    "Progress": "hf_ess.progress",
    "RecallPerplexity": "hf_ess.recall",
    "Spectra": "hf_ess.spectra",
    "TransitionRegularizer": "hf_ess.training",
    "analyze": "hf_ess.analysis",
    "compare": "hf_ess.report.comparison",
    "block_singular_values": "hf_ess.spectra",
    "entropy_ess": "hf_ess.metrics",
    "measure_modulation": "hf_ess.modulation.measure",
    "modulation_table": "hf_ess.modulation",
    "probe_initialization": "hf_ess.training",
    "read_texts": "hf_ess.corpus",
    "recall_perplexity": "hf_ess.recall",
    "record_operators": "model_adapters",
    "register_adapter": "model_adapters",
    "soft_tolerance_ess": "hf_ess.metrics",
    "tolerance_ess": "hf_ess.metrics",
    "watch_ess": "hf_ess.training",
}

# Packages that are used by their names: `hf_ess.reduce.plan(..)`.
_ROOMS = ("reduce",)

__all__ = [
    "AdapterError",
    "AddressError",
    "AnalysisInterrupted",
    "CancelledError",
    "Comparison",
    "ESSCallback",
    "ESSRegularizer",
    "ESSReport",
    "ESSSnapshot",
    "ESSWatch",
    "HankelRegularizer",
    "HfEssError",
    "HubError",
    "InitializationProbe",
    "InvalidInputError",
    "InvalidTypeError",
    "JobError",
    "LayerESS",
    "LayerOperator",
    "LimitError",
    "MemoryBudgetError",
    "MissingDependencyError",
    "ModelLoadError",
    "Modulation",
    "NonFiniteError",
    "NotCausalError",
    "NotComparableError",
    "NotDifferentiableError",
    "NumericalFloorWarning",
    "OutOfMemoryError",
    "OutputPathError",
    "ProcessFailedError",
    "Progress",
    "RecallPerplexity",
    "ReportError",
    "Spectra",
    "TrainingWatchWarning",
    "TransitionRegularizer",
    "UnsupportedMixerError",
    "UnsupportedModelError",
    "UnverifiedOperatorWarning",
    "__version__",
    "analyze",
    "block_singular_values",
    "compare",
    "entropy_ess",
    "measure_modulation",
    "modulation_table",
    "probe_initialization",
    "read_texts",
    "recall_perplexity",
    "record_operators",
    "reduce",
    "register_adapter",
    "soft_tolerance_ess",
    "tolerance_ess",
    "watch_ess",
]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f"hf_ess.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hf_ess' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
