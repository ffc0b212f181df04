"""`analyze`: the one place where adapters, spectra, metrics and reports meet."""

from hf_ess.analysis.analyze import AnalysisInterrupted, analyze

__all__ = ["AnalysisInterrupted", "analyze"]
