"""RG-LRU: a gated linear recurrence of one number per channel (Griffin, RecurrentGemma)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import (
    ConvolutionOperator,
    ConvolvedRecurrence,
    DiagonalDecay,
    StateSpaceOperator,
)
from model_adapters.function_adapter import Captured, FunctionAdapter, refuse_earlier_state
from model_adapters.mixer_scope import Convolution, gated
from model_adapters.patching import observed_calls
from model_adapters.recorder import MIXER, Recorder
from model_adapters.registry import register_adapter
from model_adapters.weights import bias_of, weight_of

_SCAN = "_rnn_scan"
_PARTS = ("rg_lru", "conv_1d", "linear_y", "linear_out")
_GATE = ("bias", "weight")


@register_adapter
class RGLRU(FunctionAdapter):
    """`h_i = a_i h_{i-1} + x_i`, `y_i = h_i` for each channel, so `M_ij = a_i ... a_{j+1}`.

    The inputs are gated and scaled by `sqrt(1 - a^2)` before the scan, as x in the equation. A
    token at position 0 begins a text: its decay is zero, whatever its gate says.

    Source: De et al., "Griffin: Mixing Gated Linear Recurrences with Local Attention for
    Efficient Language Models", 2024, section 2.4.
    """

    mixer = "RG-LRU"
    models = "recurrent_gemma"
    keeps_graph = True
    functions = (_SCAN,)

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        """The scan is a method: its class is watched, not the file."""
        classes = {kind for module in model.modules() for kind in type(module).__mro__}
        with ExitStack() as stack:
            for owner in (kind for kind in classes if _SCAN in vars(kind)):
                stack.enter_context(observed_calls(owner, _SCAN, recorder, self._observe))
            if recorder.scope == MIXER:
                stack.enter_context(_watched_blocks(model, recorder))
            yield

    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        decay = call["recurrent_gate"] * ~call["reset"]
        if not _starts_anew(call["recurrent_states"], decay):
            refuse_earlier_state(call, "recurrent_states")
        one = torch.ones(1, 1, 1, 1, dtype=decay.dtype, device=decay.device)
        return Captured(
            operator=StateSpaceOperator(DiagonalDecay(_channels(decay)), write=one, read=one),
            inputs=_channels(call["hidden_states"]),
            outputs=_channels(result[0].detach()),
        )

    def widened(
        self, module: nn.Module, call: dict[str, Any], captured: Captured, recorder: Recorder
    ) -> Captured | None:
        """The whole block: convolution, input gate, scan, and the gate of the other branch."""
        block = recorder.convolution
        if not isinstance(block, _Block) or block.module is not module or block.gate is None:
            return None
        length = captured.inputs.shape[2]
        assert isinstance(captured.operator, StateSpaceOperator)
        taps = ConvolutionOperator(block.taps, batch=block.inputs.shape[0], length=length)
        scale = _input_scale(module, block.result[..., :length].mT, call["reset"]).mT.double()
        gate = block.gate.transpose(1, 2)[..., None]
        outputs = captured.outputs * gate
        return gated(
            replace(captured, outputs=outputs, output_gate=gate),
            ConvolvedRecurrence(captured.operator, scale, taps),
            inputs=block.inputs[..., -length:][..., None],
            added=None if block.bias is None else scale * block.bias.double()[:, None],
        )


@dataclass
class _Block(Convolution):
    """The convolution of a recurrent block, and the gate from the block's other branch.

    Attributes:
        gate: `[B, L, D]`.
    """

    gate: Tensor | None = None


@contextmanager
def _watched_blocks(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Notes the convolution and the gate of every block that holds a scan."""
    with ExitStack() as stack:
        for block in model.modules():
            if all(isinstance(getattr(block, name, None), nn.Module) for name in _PARTS):
                for handle in _noting(block, recorder):
                    stack.callback(handle.remove)
        yield


def _noting(block: Any, recorder: Recorder) -> list[RemovableHandle]:
    gates: list[Tensor] = []

    def keep_gate(module: nn.Module, args: tuple[Any, ...], result: Tensor) -> None:
        if recorder.here:
            gates[:] = [result.detach()]

    def keep_convolution(module: Any, args: tuple[Any, ...], result: Tensor) -> None:
        if not (recorder.here and gates):
            return
        gate = gates.pop()
        # Without the taps, packed by a quantizer, the block is measured as its core.
        with suppress(UnsupportedMixerError):
            recorder.convolution = _Block(
                module=block.rg_lru,
                inputs=args[0].detach(),
                taps=weight_of(module)[:, 0].flip(-1),
                bias=bias_of(module),
                activation=None,
                result=result.detach(),
                gate=block.act_fn(gate),
            )

    return [
        block.linear_y.register_forward_hook(keep_gate),
        block.conv_1d.register_forward_hook(keep_convolution),
    ]


def _input_scale(module: Any, activations: Tensor, reset: Tensor) -> Tensor:
    """What the scan's inputs are multiples of activations by, `[B, L, D]`, in the model's dtype."""

    def gate(name: str) -> Tensor:
        batch, length, width = activations.shape
        split = activations.reshape(batch * length, module.num_attention_heads, -1)
        bias, weight = (getattr(module, f"{name}_gate_{kind}").detach() for kind in _GATE)
        raw = torch.baddbmm(bias[:, None], split.transpose(0, 1), weight)
        return torch.sigmoid(raw.transpose(0, 1).reshape(batch, length, width))

    log_decay = -8.0 * gate("recurrent") * functional.softplus(module.recurrent_param.detach())
    size = torch.sqrt(1 - torch.exp(2 * log_decay))
    size = torch.where(reset, torch.ones_like(size), size)
    return gate("input") * size.to(activations.dtype)


def _starts_anew(state: Tensor | None, decay: Tensor) -> bool:
    """Whether nothing of an earlier state `[B, D]` survives the first step."""
    return state is None or not bool((state.to(decay.device) * decay[:, 0]).any())


def _channels(features: Tensor) -> Tensor:
    """`[B, L, D]` as `[B, D, L, 1]`."""
    return features.transpose(1, 2)[..., None]
