"""What a training uses: loss terms on how much memory the layers use, and a watch on it."""

from hf_ess.training.ess_regularizer import ESSRegularizer
from hf_ess.training.hankel_regularizer import HankelRegularizer
from hf_ess.training.regularizer import Regularizer
from hf_ess.training.remarks import Thresholds
from hf_ess.training.snapshot import ESSSnapshot, LayerSnapshot, Remark
from hf_ess.training.transition_regularizer import TransitionRegularizer
from hf_ess.training.watch import ESSWatch, watch_ess

__all__ = [
    "ESSRegularizer",
    "ESSSnapshot",
    "ESSWatch",
    "HankelRegularizer",
    "LayerSnapshot",
    "Regularizer",
    "Remark",
    "Thresholds",
    "TransitionRegularizer",
    "watch_ess",
]
