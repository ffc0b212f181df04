"""Trainings of small models on tasks that ask for memory, with ESS measured on the way.

`train` makes one, and goes on where it was ended; `sweep` makes many, over cores or GPUs.

Source: Parnichkun et al., ICML 2025, section 4 and appendix D.
"""

from hf_ess.lab.results import RunResult
from hf_ess.lab.run_config import RunConfig
from hf_ess.lab.shipping import as_checkpoint
from hf_ess.lab.sweep import SweepInterrupted, SweepResult, sweep
from hf_ess.lab.train import TrainingInterrupted, train

__all__ = [
    "RunConfig",
    "RunResult",
    "SweepInterrupted",
    "SweepResult",
    "TrainingInterrupted",
    "as_checkpoint",
    "sweep",
    "train",
]
