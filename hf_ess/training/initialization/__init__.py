"""Before training: does the capacity of a mixer turn into use? A probe on Gaussian noise."""

from hf_ess.training.initialization.plot import plot_probed_mixers
from hf_ess.training.initialization.probe import ALPHAS, probe_initialization
from hf_ess.training.initialization.probed import ProbedMixer
from hf_ess.training.initialization.result import InitializationProbe
from hf_ess.training.initialization.verdicts import Verdict

__all__ = [
    "ALPHAS",
    "InitializationProbe",
    "ProbedMixer",
    "Verdict",
    "plot_probed_mixers",
    "probe_initialization",
]
