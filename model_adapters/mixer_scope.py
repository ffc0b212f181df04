"""Scope "mixer": the operator of a mixing function with the short convolution and gates around it.

The convolution's activation is held fixed as a factor: `silu(c) = sigmoid(c) c`. Then a mixer is
`y = diag(gate) T diag(sigmoid(c)) (T_conv u + b)` for each channel, where T is what the mixing
function applies and b the bias of the convolution. All of it is linear in u but the bias, whose
part of y does not depend on u.

Source: ours; Gu and Dao, "Mamba", 2023, figure 3 (what surrounds the scan).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import (
    ConvolutionOperator,
    ConvolvedRecurrence,
    LinearOperator,
    RowScaled,
    StateSpaceOperator,
)
from model_adapters.captured import EARLIER_STATE, Captured
from model_adapters.patching import observed_calls
from model_adapters.recorder import Recorder

CONVOLUTION = "causal_conv1d_fn"
SILU = ("silu", "swish")
# Channels whose offset is computed at once.
TOGETHER = 256


@dataclass
class Convolution:
    """The latest short convolution of a model that runs.

    Attributes:
        module: who called it.
        inputs: `[B, D, L]`, longer by earlier inputs where the mixer keeps a cache.
        taps: `[D, K]`, that of the present token first.
        bias: `[D]`, None for zero.
        activation: what is applied to its outputs, None for nothing.
        result: `[B, D, L]`, after the activation.
        taken: channels that earlier calls of the mixing function took (one for each head).
    """

    module: nn.Module
    inputs: Tensor
    taps: Tensor
    bias: Tensor | None
    activation: str | None
    result: Tensor
    taken: int = 0


@contextmanager
def watched_convolutions(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Notes the latest short convolution in the recorder while the context is open."""
    forwards = (inspect.unwrap(type(module).forward) for module in model.modules())
    found = (getattr(forward, "__globals__", {}) for forward in forwards)
    namespaces = {id(names): names for names in found if callable(names.get(CONVOLUTION))}
    with ExitStack() as stack:
        for namespace in namespaces.values():
            stack.enter_context(observed_calls(namespace, CONVOLUTION, recorder, _note))
        try:
            yield
        finally:
            recorder.convolution = None


def _note(function: Callable[..., Any], recorder: Recorder, *args: Any, **kwargs: Any) -> Any:
    result = function(*args, **kwargs)
    given = dict(zip(("inputs", "weight", "bias", "activation"), args, strict=False))
    named = {"hidden_states": "inputs", "x": "inputs"}
    given |= {named.get(name, name): value for name, value in kwargs.items()}
    module, outputs = recorder.running, result[0] if isinstance(result, tuple) else result
    if module is not None:
        bias = given.get("bias")
        recorder.convolution = Convolution(
            module=module,
            inputs=given["inputs"].detach(),
            taps=given["weight"].detach().flip(-1),
            bias=None if bias is None else bias.detach(),
            activation=given.get("activation"),
            result=outputs.detach(),
        )
    return result


def around_convolution(
    captured: Captured, convolution: Convolution, module: nn.Module, *, last: bool
) -> Captured | None:
    """The core with the convolution before it and the gate after it, one operator per channel.

    Args:
        captured: the core; inputs `[B, G, L, C]` are channels of the convolution's result.
        convolution: the latest one.
        module: whose core it is; the convolution of another module is none of it.
        last: whether the core takes the last channels of the convolution, else the first ones.

    Returns:
        Operator `[B, G * C, L, L]`, features `[B, G * C, L, 1]`; None for an unknown activation.

    Raises:
        UnsupportedMixerError: the convolution goes on from a cache.
    """
    known = convolution.activation is None or convolution.activation in SILU
    core = captured.operator
    if convolution.module is not module or not known or not isinstance(core, StateSpaceOperator):
        return None
    batch, groups, length, width = captured.inputs.shape
    count = groups * width
    start = convolution.result.shape[1] - count if last else convolution.taken
    channels = slice(start, start + count)
    convolution.taken += count
    earlier = convolution.inputs[:, channels, : convolution.inputs.shape[-1] - length]
    if bool(earlier.any()):
        raise UnsupportedMixerError(EARLIER_STATE)
    inputs = convolution.inputs[:, channels, -length:][..., None]
    bias = None if convolution.bias is None else convolution.bias[channels].double()
    taps = ConvolutionOperator(convolution.taps[channels], batch=batch, length=length)
    scale = _visible(captured.inputs, convolution.result[:, channels, -length:])
    if convolution.activation is not None:
        before = taps.apply(inputs)[..., 0]
        scale = scale * torch.sigmoid(before if bias is None else before + bias[:, None])
    return gated(
        captured,
        ConvolvedRecurrence(core.for_each_channel(width), scale, taps),
        inputs=inputs,
        added=None if bias is None else scale * bias[:, None],
    )


def gated(
    captured: Captured, operator: LinearOperator, *, inputs: Tensor, added: Tensor | None
) -> Captured:
    """The wider operator with the core's own gate folded in, and its offset.

    Args:
        captured: the core, `[B, G, L, L]` on C channels.
        operator: the wider one of `G * C` single channels, without the gate.
        inputs: of the wider operator, `[B, G * C, L, 1]`.
        added: what the core gets besides, whatever the inputs, `[B, G * C, L]`; None for nothing.
    """
    gate = None if captured.output_gate is None else single_channels(captured.output_gate)
    offset = None
    if added is not None:
        offset = single_channels(_applied(captured.operator, added, captured.inputs.shape))
        offset = offset if gate is None else offset * gate
    return replace(
        captured,
        operator=operator if gate is None else RowScaled(operator, gate[..., 0]),
        inputs=inputs,
        outputs=single_channels(captured.outputs),
        output_gate=None,
        output_offset=offset,
    )


def single_channels(features: Tensor) -> Tensor:
    """`[B, G, L, C]` as `[B, G * C, L, 1]`."""
    return features.transpose(-1, -2).flatten(1, 2)[..., None]


def _applied(operator: LinearOperator, added: Tensor, shape: torch.Size) -> Tensor:
    """`T added` as `[B, G, L, C]`, from `[B|1, G * C, L]`, a few groups at a time."""
    batch, groups, length, width = shape
    split = added.expand(batch, -1, length).reshape(batch, groups, width, length).mT
    step = max(1, TOGETHER // width)
    parts = [slice(start, min(start + step, groups)) for start in range(0, groups, step)]
    return torch.cat([operator.apply(split[:, part], part) for part in parts], 1)


def _visible(inputs: Tensor, result: Tensor) -> Tensor:
    """Zero at padding, which is erased after the convolution, else one, `[B, 1, L]`."""
    erased = ~inputs.any(-1).any(1) & result.any(1)
    return (~erased).to(torch.float64)[:, None]
