"""Trainings of small models on tasks that ask for memory, with ESS measured on the way.

`train` makes one, and goes on where it was ended; `sweep` makes many, over cores or GPUs;
`reproduce` makes one experiment of the paper, with a verdict.

Source: Parnichkun et al., ICML 2025, section 4 and appendix D.
"""

from hf_ess.lab.paper.registry import EXPERIMENTS
from hf_ess.lab.paper.reproduce import reproduce
from hf_ess.lab.paper.reproduction import Reproduction
from hf_ess.lab.results import RunResult
from hf_ess.lab.run_config import RunConfig
from hf_ess.lab.shipping import as_checkpoint
from hf_ess.lab.sweep import SweepInterrupted, SweepResult, sweep
from hf_ess.lab.train import TrainingInterrupted, train

__all__ = [
    "EXPERIMENTS",
    "Reproduction",
    "RunConfig",
    "RunResult",
    "SweepInterrupted",
    "SweepResult",
    "TrainingInterrupted",
    "as_checkpoint",
    "reproduce",
    "sweep",
    "train",
]
