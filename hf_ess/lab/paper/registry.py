"""The experiments of the paper by their names."""

from __future__ import annotations

from hf_ess.lab.paper.collapse import Collapse
from hf_ess.lab.paper.correlation import Correlation
from hf_ess.lab.paper.distillation import Distillation
from hf_ess.lab.paper.dynamics import Dynamics
from hf_ess.lab.paper.experiment import Experiment
from hf_ess.lab.paper.hybrids import Hybrids
from hf_ess.lab.paper.initialization import Initialization
from hf_ess.lab.paper.modulation import StateModulation
from hf_ess.lab.paper.regularizer import Regularizer
from hf_ess.lab.values import check_names

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        Correlation(),
        Dynamics(),
        Collapse(),
        Initialization(),
        Regularizer(),
        Distillation(),
        Hybrids(),
        StateModulation(),
    )
}
"""The experiments of the paper by name, in its order: what `hf_ess.lab.reproduce` takes."""


def experiment_named(name: str) -> Experiment:
    """One of the experiments.

    Raises:
        InvalidInputError: there is none of that name.

    Example:
        >>> experiment_named("hybrids").source
        'appendix E.4.2'
    """
    check_names("experiment", [name], EXPERIMENTS)
    return EXPERIMENTS[name]
