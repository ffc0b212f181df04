"""From a measurement to a smaller model: what state suffices, and models that have it.

`plan` says from a report how large the state of each layer has to be; `truncate` gives a model
whose states are that small, with a certificate for each layer.
"""

from hf_ess.reduce.distillation import Distillation, DistilledLayer, distill, distill_all
from hf_ess.reduce.distillation_training import DistillationErrors
from hf_ess.reduce.planning import plan
from hf_ess.reduce.reduction_plan import LayerPlan, ReductionPlan
from hf_ess.reduce.students import smaller_layer
from hf_ess.reduce.truncation import truncate
from hf_ess.reduce.truncation_result import LayerTruncation, Truncation

__all__ = [
    "Distillation",
    "DistillationErrors",
    "DistilledLayer",
    "LayerPlan",
    "LayerTruncation",
    "ReductionPlan",
    "Truncation",
    "distill",
    "distill_all",
    "plan",
    "smaller_layer",
    "truncate",
]
