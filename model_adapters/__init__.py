"""Per-architecture adapters: which mixer is this, and which operator did it apply?

One file per mixer family. An adapter watches a model while it runs and turns what a mixer
computed into an operator with its true inputs and outputs; see `MixerAdapter`.
"""

from hf_ess.versions import require_supported

require_supported("transformers", "huggingface_hub")

from model_adapters import (
    compressed_attention,
    delayed_values,
    differential_attention,
    flash_linear_attention,
    gated_delta_rule,
    hyena,
    inline_attention,
    interface_attention,
    kimi_delta_attention,
    lightning_attention,
    mamba,
    mamba2,
    mlstm,
    ngram_attention,
    rg_lru,
    rwkv4,
    short_convolution,
    striped_hyena,
    striped_hyena2,
)
from model_adapters.recorder import LayerOperator, Recorder, RefusedLayer
from model_adapters.recording import record_operators
from model_adapters.registry import (
    MixerAdapter,
    register_adapter,
    registered_adapters,
    unregister_adapter,
)
from model_adapters.survey import Survey, SurveyedMixer, survey

__all__ = [
    "LayerOperator",
    "MixerAdapter",
    "Recorder",
    "RefusedLayer",
    "Survey",
    "SurveyedMixer",
    "compressed_attention",
    "delayed_values",
    "differential_attention",
    "flash_linear_attention",
    "gated_delta_rule",
    "hyena",
    "inline_attention",
    "interface_attention",
    "kimi_delta_attention",
    "lightning_attention",
    "mamba",
    "mamba2",
    "mlstm",
    "ngram_attention",
    "record_operators",
    "register_adapter",
    "registered_adapters",
    "rg_lru",
    "rwkv4",
    "short_convolution",
    "striped_hyena",
    "striped_hyena2",
    "survey",
    "unregister_adapter",
]
