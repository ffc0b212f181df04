"""RG-LRU: a gated linear recurrence of one number per channel (Griffin, RecurrentGemma)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.operators import DiagonalDecay, StateSpaceOperator
from model_adapters.function_adapter import Captured, FunctionAdapter, refuse_earlier_state
from model_adapters.patching import observed_calls
from model_adapters.recorder import Recorder
from model_adapters.registry import register_adapter

_SCAN = "_rnn_scan"


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
    functions = (_SCAN,)

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        """The scan is a method: its class is watched, not the file."""
        classes = {kind for module in model.modules() for kind in type(module).__mro__}
        with ExitStack() as stack:
            for owner in (kind for kind in classes if _SCAN in vars(kind)):
                stack.enter_context(observed_calls(owner, _SCAN, recorder, self._observe))
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


def _starts_anew(state: Tensor | None, decay: Tensor) -> bool:
    """Whether nothing of an earlier state `[B, D]` survives the first step."""
    return state is None or not bool((state.to(decay.device) * decay[:, 0]).any())


def _channels(features: Tensor) -> Tensor:
    """`[B, L, D]` as `[B, D, L, 1]`."""
    return features.transpose(1, 2)[..., None]
