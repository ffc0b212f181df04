"""What a training uses: loss terms on how much memory the layers of a model use."""

from hf_ess.training.ess_regularizer import ESSRegularizer
from hf_ess.training.hankel_regularizer import HankelRegularizer
from hf_ess.training.regularizer import Regularizer
from hf_ess.training.transition_regularizer import TransitionRegularizer

__all__ = ["ESSRegularizer", "HankelRegularizer", "Regularizer", "TransitionRegularizer"]
