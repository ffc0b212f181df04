"""Which mixers a synthetic model has, and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

from hf_ess.arguments import check_number, check_whole
from hf_ess.errors import InvalidInputError, InvalidTypeError

# Mixers whose heads carry a state of one number for each channel of a head.
HEADED = ("LA", "GLA", "WLA", "SA", "GLA-S6")
ROTARY = ("LA", "SA")
# Mixers without a state of fixed size.
STATELESS = ("SA", "Hyena")
MIXERS = (*HEADED, "S6", "Mamba", "Hyena")
"""The mixers that a `SyntheticConfig` may name."""
WHOLE = (
    *("vocab_size", "hidden_size", "num_attention_heads", "state_size", "decay_rank"),
    *("conv_kernel", "filter_width", "filter_length"),
)
REAL = (
    *("decay_temperature", "alpha", "smallest_step", "largest_step", "filter_frequency"),
    *("rope_theta", "rms_norm_eps", "initializer_range"),
)


class SyntheticConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of `SyntheticForCausalLM`: one mixer and one SwiGLU for each entry of `mixers`.

    Args:
        mixers: for each layer one of "LA", "GLA", "WLA", "SA", "S6", "GLA-S6", "Mamba", "Hyena".
        vocab_size: number of tokens.
        hidden_size: width d.
        num_attention_heads: h; heads of LA, GLA, WLA, SA and GLA-S6 have d / h channels, which is
            their state size per channel too (TSS; that of SA is the number of earlier tokens).
        state_size: N of S6 and Mamba, for each of d channels.
        state_sizes: for each layer the N of its own, None for what the other settings say: of S6
            and Mamba that for each channel, of LA (even), GLA, WLA and GLA-S6 that of each head,
            whose values keep their d / h channels. SA and Hyena have none. None for all layers.
        intermediate_size: of the SwiGLU; None for 8 d / 3, rounded up to a multiple of 8.
        decay_rank: inner width of the gates `W_A2 W_A1`.
        decay_temperature: beta, `A = sigmoid(..) ** (1 / beta)` in GLA and WLA.
        alpha: `A = exp(-[1 .. N] / alpha ..)` in GLA-S6, S6 and Mamba before training.
        smallest_step: of the steps dt of S6 and Mamba before training, spread evenly on a
            logarithmic scale; the defaults are those of Mamba.
        largest_step: the other end of that scale.
        conv_kernel: taps of the short convolution of Mamba and Hyena.
        filter_width: hidden width of the network that writes Hyena's filters.
        filter_frequency: how fast the sines of that network turn; slow ones write smooth filters.
        filter_length: tokens over which Hyena's filters fall to a hundredth (fastest channels in
            0.3 of it, slowest in 1.5 of it); as long as the texts, roughly.
        rope_theta: base of the rotary angles of LA and SA.
        rms_norm_eps: of the norms before mixers and SwiGLUs.
        initializer_range: standard deviation of embeddings before training; 1, so that tokens
            are not drowned by what the first mixer adds to them.

    Raises:
        InvalidInputError: no mixers, unknown ones, heads that do not divide the width, or state
            sizes that the mixers cannot have.
        InvalidTypeError: a value of a wrong type.

    Source: Parnichkun et al., ICML 2025, appendix D.2.

    Example:
        >>> from hf_ess.synthetics import SyntheticConfig
        >>> config = SyntheticConfig(mixers=["GLA", "SA"], hidden_size=32, num_attention_heads=4)
        >>> config.num_hidden_layers, config.head_dim
        (2, 8)
    """

    model_type = "hf_ess_synthetic"

    def __init__(
        self,
        mixers: Sequence[str] = ("GLA", "GLA"),
        vocab_size: int = 8192,
        hidden_size: int = 64,
        num_attention_heads: int = 4,
        state_size: int = 16,
        state_sizes: Sequence[int | None] | None = None,
        intermediate_size: int | None = None,
        decay_rank: int = 16,
        decay_temperature: float = 16.0,
        alpha: float = 1.0,
        smallest_step: float = 1e-3,
        largest_step: float = 1e-1,
        conv_kernel: int = 4,
        filter_width: int = 32,
        filter_frequency: float = 10.0,
        filter_length: int = 256,
        rope_theta: float = 10000.0,
        rms_norm_eps: float = 1e-5,
        initializer_range: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.mixers = _listed("mixers", mixers)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_attention_heads = num_attention_heads
        self.state_size = state_size
        self.state_sizes = None if state_sizes is None else _listed("state_sizes", state_sizes)
        self.decay_rank = decay_rank
        self.decay_temperature = decay_temperature
        self.alpha = alpha
        self.smallest_step = smallest_step
        self.largest_step = largest_step
        self.conv_kernel = conv_kernel
        self.filter_width = filter_width
        self.filter_frequency = filter_frequency
        self.filter_length = filter_length
        self.rope_theta = rope_theta
        self.rms_norm_eps = rms_norm_eps
        self.initializer_range = initializer_range
        _check_numbers(self)
        rounded_up = -(-hidden_size // 3) * 8
        self.intermediate_size = rounded_up if intermediate_size is None else intermediate_size
        check_whole("intermediate_size", self.intermediate_size, least=1)
        _check(self)
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)

    @property
    def num_hidden_layers(self) -> int:
        """Number of mixers."""
        return len(self.mixers)

    @property
    def head_dim(self) -> int:
        """Channels of a head, d / h."""
        return self.hidden_size // self.num_attention_heads

    def own_state_size(self, layer: int) -> int | None:
        """The entry of `state_sizes` for a layer, None where the other settings say it.

        Example:
            >>> from hf_ess.synthetics import SyntheticConfig
            >>> SyntheticConfig(["GLA", "S6"], state_sizes=[8, None]).own_state_size(0)
            8
        """
        return None if self.state_sizes is None else self.state_sizes[layer]


def _listed(name: str, values: Sequence[Any]) -> list[Any]:
    if not isinstance(values, Sequence):
        raise InvalidTypeError(f"{name} must be a list, one entry for each layer, got {values!r}.")
    return list(values)


def _check_numbers(config: SyntheticConfig) -> None:
    for name in WHOLE:
        check_whole(name, getattr(config, name), least=1)
    for name in REAL:
        check_number(name, getattr(config, name), above=0)


def _check(config: SyntheticConfig) -> None:
    unknown = [mixer for mixer in dict.fromkeys(config.mixers) if mixer not in MIXERS]
    if unknown or not config.mixers:
        found = f"there is no mixer {', '.join(map(repr, unknown))}" if unknown else "none is given"
        raise InvalidInputError(
            f"Mixers of a synthetic model: {found}.",
            causes=["a single name where a list of names is needed"],
            fix=f"Name one for each layer, of {', '.join(MIXERS)}.",
        )
    if config.smallest_step > config.largest_step:
        raise InvalidInputError(
            f"smallest_step {config.smallest_step:g} is above largest_step {config.largest_step:g}."
        )
    if config.hidden_size % config.num_attention_heads and set(config.mixers) & set(HEADED):
        raise InvalidInputError(
            f"{config.num_attention_heads} heads cannot share {config.hidden_size} channels.",
            fix="Choose a hidden_size that num_attention_heads divides.",
        )
    if config.head_dim % 2 and set(config.mixers) & set(ROTARY):
        raise InvalidInputError(
            f"Rotary embeddings turn pairs of channels; a head has {config.head_dim} of them.",
            fix="Choose an even hidden_size / num_attention_heads for LA and SA.",
        )
    if config.state_sizes is not None:
        _check_state_sizes(config.mixers, config.state_sizes)


def _check_state_sizes(mixers: list[str], sizes: list[int | None]) -> None:
    if len(sizes) != len(mixers):
        raise InvalidInputError(
            f"{len(sizes)} state sizes do not fit {len(mixers)} mixers.",
            fix="Give one for each layer, None where the other settings say it.",
        )
    for layer, (mixer, size) in enumerate(zip(mixers, sizes, strict=True)):
        if size is None:
            continue
        if mixer in STATELESS:
            raise InvalidInputError(
                f"Layer {layer} is {mixer}, whose state grows with the text: it has no state size.",
                fix="Give None for this layer.",
            )
        check_whole(f"The state size of layer {layer}", size, least=1)
        if mixer in ROTARY and size % 2:
            raise InvalidInputError(
                f"Rotary embeddings turn pairs of channels; layer {layer} has {size} of them.",
                fix="Choose an even state size for LA.",
            )
