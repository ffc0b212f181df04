"""Short causal convolutions that are mixers of their own, one operator per channel.

Convolutions of a few taps inside of other mixers (Mamba, delta rules) belong to those.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.operators import ColumnScaled, ConvolutionOperator, LinearOperator, RowScaled, Sum
from model_adapters.function_adapter import Captured, refuse_earlier_state
from model_adapters.module_adapter import ModuleAdapter, ModuleRun
from model_adapters.registry import register_adapter
from model_adapters.weights import bias_of, weight_of


class _ShortConvolution(ModuleAdapter):
    """What all of them share: a cache that holds the last inputs.

    Attributes:
        cached_as: number of the convolution in the cache of its layer, where no module says it.
    """

    cached_as = 0

    def before(self, module: Any, call: dict[str, Any]) -> dict[str, Any]:
        cache = call.get("past_key_values")
        if cache is None:
            return {}
        number = getattr(module, "conv_idx", self.cached_as)
        return {"state": _last_inputs(cache, module.layer_idx, number)}


@register_adapter
class GatedShortConvolution(_ShortConvolution):
    """`y_i = c_i sum_k w_k b_{i-k} x_{i-k}`, so `M_ij = c_i w_{i-j} b_j`; K - 1 inputs are kept.

    Both gates and x come from one projection, and y goes into the next. A bias of the convolution
    is taken from the outputs, since it is no part of a linear operator.

    Source: Liquid AI, "LFM2", 2025 (gated short convolution block); Parnichkun et al., ICML 2025,
    section 3 (gated convolutions).
    """

    mixer = "gated short convolution"
    models = "lfm2, lfm2_moe, lfm3"
    parts = ("in_proj", "out_proj")

    def knows(self, module: nn.Module) -> bool:
        conv: Any = getattr(module, "conv", None)
        before, after = (getattr(module, name, None) for name in self.parts)
        if not _is_depthwise(conv):
            return False
        widths = getattr(before, "out_features", None), getattr(after, "in_features", None)
        return widths == (3 * conv.in_channels, conv.in_channels)

    def captured(self, module: Any, run: ModuleRun) -> Captured:
        refuse_earlier_state(run.before, "state")
        projected = channels_first(run.parts["in_proj"].result)
        gate_in, gate_out, inputs = torch.chunk(projected, 3, dim=1)
        outputs = channels_first(run.parts["out_proj"].features)
        bias = bias_of(module.conv)
        if bias is not None:
            outputs = outputs - gate_out * bias[:, None]
        convolution = ConvolutionOperator(taps_of(module.conv), length=inputs.shape[-1])
        return Captured(
            operator=RowScaled(ColumnScaled(convolution, gate_in), gate_out),
            inputs=inputs[..., None],
            outputs=outputs[..., None],
        )


@register_adapter
class ResidualShortConvolution(_ShortConvolution):
    """`y_i = s (x_i + sum_k w_k x_{i-k})`, on keys, values, and what attention and MLP return.

    Source: the configurations and code of Inkling and Inkling 2 in transformers.
    """

    mixer = "short convolution"
    models = "inkling, inkling2"

    def knows(self, module: nn.Module) -> bool:
        conv = getattr(module, "conv1d", None)
        return _is_depthwise(conv) and list(module.children()) == [conv]

    def captured(self, module: Any, run: ModuleRun) -> Captured:
        refuse_earlier_state(run.before, "state")
        inputs = channels_first(run.call["hidden_states"])[..., None]
        outputs = channels_first(run.result)[..., None]
        taps = taps_of(module.conv1d)
        # Inkling adds the convolution to its input; Inkling 2 also keeps their variance.
        operators = [
            with_residual(taps, scale, run.call.get("conv_mask"), inputs)
            for scale in (1.0, (taps.shape[-1] + 1) ** -0.5)
        ]
        return Captured(min(operators, key=_error_of(inputs, outputs)), inputs, outputs)


@register_adapter
class DynamicShortConvolution(_ShortConvolution):
    """`y_i = s (x_i + sum_k (w_k + p_ik) x_{i-k})`: taps that each token changes, head by head.

    The changes p are a projection of another input, so that the operator is linear in x.

    Source: the configuration and code of Inkling 2 in transformers.
    """

    mixer = "dynamic short convolution"
    models = "inkling2"
    parts = ("weight_proj",)

    def knows(self, module: nn.Module) -> bool:
        return isinstance(getattr(module, "static_weight", None), Tensor) and isinstance(
            getattr(module, "weight_proj", None), nn.Module
        )

    def captured(self, module: Any, run: ModuleRun) -> Captured:
        refuse_earlier_state(run.before, "state")
        inputs = channels_first(run.call["hidden_states"])[..., None]
        batch, channels, length, _ = inputs.shape
        heads, count = module.num_heads, module.conv_kernel_size
        changes = run.parts["weight_proj"].result.detach().float()
        changes = changes.reshape(batch, length, heads, 1, count)
        static = weight_of(module, "static_weight").float().T.reshape(heads, -1, count)
        taps = (static + changes).reshape(batch, length, channels, count).transpose(1, 2)
        scale = (2 * count + 1) ** -0.5
        return Captured(
            operator=with_residual(taps, scale, run.call.get("conv_mask"), inputs),
            inputs=inputs,
            outputs=channels_first(run.result)[..., None],
        )


@register_adapter
class DilatedShortConvolution(_ShortConvolution):
    """`y_i = sum_k w_k x_{i - k d}`: taps that are d tokens apart, on embeddings of n-grams.

    The embeddings themselves look back too, by a table that hashes the last tokens' ids. That is
    no linear map of features, and is named as such.

    Source: the configuration and code of Qwen4 (experimental) in transformers.
    """

    mixer = "dilated short convolution"
    models = "qwen4_exp"
    parts = ("conv1d",)
    cached_as = 1

    def knows(self, module: nn.Module) -> bool:
        dilated = _is_depthwise(getattr(module, "conv1d", None))
        return dilated and isinstance(getattr(module, "ple_embedding", None), nn.Module)

    def captured(self, module: Any, run: ModuleRun) -> dict[str, Captured | str]:
        refuse_earlier_state(run.before, "state")
        conv = run.parts["conv1d"]
        outputs = conv.result.detach()[..., None]
        batch, _, length, _ = outputs.shape
        return {
            self.mixer: Captured(
                operator=ConvolutionOperator(_spread(module.conv1d), batch=batch, length=length),
                inputs=conv.features[..., -length:, None],
                outputs=outputs,
            ),
            "n-gram embedding": "a hash of the last tokens' ids chooses its rows: it is no linear "
            "map of features",
        }


def _last_inputs(cache: Any, layer: int, number: int) -> Tensor | None:
    """What a cache holds of one convolution of a layer, None before its first tokens."""
    # Asked of its layer: before transformers 5.21 caches have no method that tells.
    held = cache.layers[layer]
    return held.conv_states[number] if held.has_previous_state[number] else None


def channels_first(features: Tensor) -> Tensor:
    """`[B, L, D]` as `[B, D, L]`."""
    return features.detach().transpose(1, 2)


def taps_of(conv: nn.Conv1d) -> Tensor:
    """`[D, K]`, the tap of the present token first (torch stores it last)."""
    return weight_of(conv)[:, 0].flip(-1)


def _spread(conv: nn.Conv1d) -> Tensor:
    """Taps with zeros between them, `[D, (K - 1) d + 1]`."""
    taps, step = taps_of(conv), conv.dilation[0]
    spread = taps.new_zeros(len(taps), (taps.shape[1] - 1) * step + 1)
    spread[:, ::step] = taps
    return spread


def with_residual(
    taps: Tensor, scale: float, mask: Tensor | None, inputs: Tensor
) -> LinearOperator:
    """`s (I + T diag(mask))` on inputs `[B, D, L, 1]`; taps `[D, K]` or `[B, D, L, K]`."""
    taps = scale * taps.double()
    batch, length = inputs.shape[0], inputs.shape[2]
    itself = torch.full((1, 1, 1), scale, dtype=torch.float64, device=inputs.device)
    if mask is None:
        return ConvolutionOperator(taps, itself, batch=batch, length=length)
    convolution = ConvolutionOperator(taps, batch=batch, length=length)
    visible = ColumnScaled(convolution, mask.detach().double()[:, None])
    return Sum(visible, ConvolutionOperator(itself[0], length=length))


def _is_depthwise(conv: Any) -> bool:
    return isinstance(conv, nn.Conv1d) and (
        conv.groups == conv.in_channels == conv.out_channels > 1
    )


def _error_of(inputs: Tensor, outputs: Tensor) -> Any:
    """Sorts operators by how far they are from what the layer computed."""
    return lambda operator: float((operator.apply(inputs) - outputs).abs().max())
