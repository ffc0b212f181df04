"""The synthetic models: embeddings, layers of a mixer and a SwiGLU each, and a head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutput

from hf_ess.errors import InvalidInputError
from hf_ess.synthetics.configuration import SyntheticConfig
from hf_ess.synthetics.headed import (
    GatedLinearAttention,
    LinearAttention,
    SelectiveLinearAttention,
    SoftmaxAttention,
    WeightedLinearAttention,
)
from hf_ess.synthetics.long_convolution import Hyena
from hf_ess.synthetics.masks import UNMASKED, Masks
from hf_ess.synthetics.state_space import Mamba, SelectiveStateSpace

MIXER_CLASSES: dict[str, type[nn.Module]] = {
    "LA": LinearAttention,
    "GLA": GatedLinearAttention,
    "WLA": WeightedLinearAttention,
    "SA": SoftmaxAttention,
    "S6": SelectiveStateSpace,
    "GLA-S6": SelectiveLinearAttention,
    "Mamba": Mamba,
    "Hyena": Hyena,
}


class SwiGLU(nn.Module):
    """`W_down (silu(W_gate x) * W_up x)`. Source: Shazeer, "GLU Variants", 2020, eq. 6."""

    def __init__(self, config: SyntheticConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        gate = functional.silu(self.gate_proj(hidden_states))
        output: Tensor = self.down_proj(gate * self.up_proj(hidden_states))
        return output


class SyntheticLayer(nn.Module):
    """A mixer and a SwiGLU, each behind a norm and beside a residual connection."""

    def __init__(self, config: SyntheticConfig, number: int) -> None:
        super().__init__()
        size = config.own_state_size(number)
        sizes = {} if size is None else {"state_size": size}
        self.mixer_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mixer = MIXER_CLASSES[config.mixers[number]](config, **sizes)
        self.mlp_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, hidden_states: Tensor, masks: Masks = UNMASKED) -> Tensor:
        features = masks.erase(self.mixer_norm(hidden_states))
        mixed: Tensor = hidden_states + self.mixer(features, masks)
        output: Tensor = mixed + self.mlp(self.mlp_norm(mixed))
        return output


class SyntheticForCausalLM(PreTrainedModel):  # type: ignore[misc]
    """A small language model of the paper's mixers, one for each layer.

    It keeps no cache: texts run as a whole. As everywhere in transformers, label i is what the
    model should answer at token i - 1.

    Args:
        config: which mixers, and how large; `build_model` also draws weights by a seed.

    Source: Parnichkun et al., ICML 2025, appendix D.2.

    Example:
        >>> import torch
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["GLA", "SA"], vocab_size=32), seed=0)
        >>> model(input_ids=torch.arange(9)[None]).logits.shape
        torch.Size([1, 9, 32])
    """

    config_class = SyntheticConfig
    config: SyntheticConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _no_split_modules = ("SyntheticLayer",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: SyntheticConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            SyntheticLayer(config, n) for n in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Runs the model.

        Args:
            input_ids: tokens `[B, L]`; or
            inputs_embeds: vectors `[B, L, d]`.
            attention_mask: `[B, L]`, 0 at padding.
            labels: `[B, L]`, -100 where nothing is asked.
            use_cache: of no effect, there is no cache.
            **kwargs: for the loss (`num_items_in_batch`, `shift_labels`).

        Returns:
            Logits `[B, L, vocab_size]`, and the loss if there are labels.

        Raises:
            InvalidInputError: both or neither of tokens and vectors.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InvalidInputError("Give either input_ids or inputs_embeds.")
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        pairs = None
        if "SA" in self.config.mixers:
            pairs = create_causal_mask(self.config, hidden, attention_mask, None)
        masks = Masks(visible=attention_mask, pairs=pairs)
        for layer in self.layers:
            hidden = layer(hidden, masks)
        logits = self.lm_head(self.norm(hidden))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size, **kwargs)
        return CausalLMOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d):
            fan_in = module.weight[0].numel()
            init.normal_(module.weight, std=fan_in**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        elif type(module).__module__.startswith(__package__ or ""):
            getattr(module, "reset_parameters", _nothing)()


def _nothing() -> None:
    """Modules without parameters of their own."""


def build_model(config: SyntheticConfig, *, seed: int = 0) -> SyntheticForCausalLM:
    """A new model in evaluation mode whose weights depend on nothing but the seed.

    Args:
        config: mixers and sizes.
        seed: of the weights; the global random state is left as it was.

    Example:
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> one, same = (build_model(SyntheticConfig(["S6"], vocab_size=16)) for _ in range(2))
        >>> bool((one.lm_head.weight == same.lm_head.weight).all())
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SyntheticForCausalLM(config)
    model.eval()
    return model
