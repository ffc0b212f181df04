"""Small models and tasks on which effective state-size can be studied in minutes.

The mixers and tasks of the paper as a model of transformers: `AutoConfig` and
`AutoModelForCausalLM` know it as soon as this package is imported, and `hf_ess.analyze` measures
it by its ordinary adapters.

Source: Parnichkun et al., ICML 2025, section 4 and appendix D.

Example:
    >>> import hf_ess
    >>> from hf_ess.synthetics import SyntheticConfig, build_model, multi_query_recall
    >>> model = build_model(SyntheticConfig(["GLA", "SA"], vocab_size=64))
    >>> texts = multi_query_recall(1, length=32, pairs=8, vocabulary=64, seed=0)
    >>> report = hf_ess.analyze(model, texts.input_ids, progress=False)
    >>> [layer.mixer for layer in report.layers]
    ['gated linear attention', 'softmax attention']
"""

from hf_ess.versions import require_supported

require_supported("torch", "transformers")

from transformers import AutoConfig, AutoModelForCausalLM

from hf_ess.shipped import checkpoint_names
from hf_ess.synthetics.checkpoints import TrainedCheckpoint
from hf_ess.synthetics.configuration import MIXERS, SyntheticConfig
from hf_ess.synthetics.modeling import SyntheticForCausalLM, build_model
from hf_ess.synthetics.task_choice import Task
from hf_ess.synthetics.tasks import (
    Examples,
    accuracy,
    compression,
    multi_query_recall,
    selective_copying,
)

AutoConfig.register(SyntheticConfig.model_type, SyntheticConfig, exist_ok=True)
AutoModelForCausalLM.register(SyntheticConfig, SyntheticForCausalLM, exist_ok=True)

__all__ = [
    "MIXERS",
    "Examples",
    "SyntheticConfig",
    "SyntheticForCausalLM",
    "Task",
    "TrainedCheckpoint",
    "accuracy",
    "build_model",
    "checkpoint_names",
    "compression",
    "multi_query_recall",
    "selective_copying",
]
