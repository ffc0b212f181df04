"""What tests of ESSCallback share: a probe, and what is done to a model in the middle."""

from __future__ import annotations

from functools import partial

import torch
from training.trainings import texts
from transformers import TrainerCallback

from hf_ess.training import Thresholds
from hf_ess.training.callback import ESSCallback

PROBE = texts(2, seed=1)
NEVER = Thresholds(collapse=0, saturation=2)
silent = partial(ESSCallback, PROBE, thresholds=NEVER)
ENTROPY = "ess/layer_0/entropy"


class At(TrainerCallback):
    """Does something after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_end(self, args, state, control, **known):
        if state.global_step == self.step:
            self.act(known["model"], control)


def scaled(factor):
    def scale(model, control):
        with torch.no_grad():
            for weight in model.layers[0].mixer.parameters():
                weight.mul_(factor)

    return scale
