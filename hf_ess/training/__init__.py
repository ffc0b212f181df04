"""What a training uses: a probe before it, loss terms on memory use, and a watch during it."""

from hf_ess.training.decay_rates import divide_decay_rates
from hf_ess.training.ess_regularizer import ESSRegularizer
from hf_ess.training.hankel_regularizer import HankelRegularizer
from hf_ess.training.initialization import (
    ALPHAS,
    InitializationProbe,
    ProbedMixer,
    Verdict,
    plot_probed_mixers,
    probe_initialization,
)
from hf_ess.training.regularizer import Regularizer
from hf_ess.training.remarks import Thresholds
from hf_ess.training.snapshot import ESSSnapshot, LayerSnapshot, Remark
from hf_ess.training.transition_regularizer import TransitionRegularizer
from hf_ess.training.watch import ESSWatch, watch_ess
from hf_ess.training.watch_plot import plot_watched

__all__ = [
    "ALPHAS",
    "ESSRegularizer",
    "ESSSnapshot",
    "ESSWatch",
    "HankelRegularizer",
    "InitializationProbe",
    "LayerSnapshot",
    "ProbedMixer",
    "Regularizer",
    "Remark",
    "Thresholds",
    "TransitionRegularizer",
    "Verdict",
    "divide_decay_rates",
    "plot_probed_mixers",
    "plot_watched",
    "probe_initialization",
    "watch_ess",
]
