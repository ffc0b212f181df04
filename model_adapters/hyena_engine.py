"""What StripedHyena and its successor have in common: an engine that convolves between two gates.

Filters call methods of an `engine`, which is no module. They pass one tensor that holds the two
gates and the values; the result is `y = x2 (h * (x1 v) + D x1 v)`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.operators import ColumnScaled, ConvolutionOperator, LinearOperator, RowScaled
from model_adapters.function_adapter import FunctionAdapter
from model_adapters.patching import observed_calls
from model_adapters.recorder import Recorder

# A stored filter may be rounded to float16; further away it is not the one of the modes.
STORED_FILTER_ERROR = 2e-3


class HyenaEngineAdapter(FunctionAdapter):
    """Watches methods of the engines of the filters that it `knows`."""

    decoding = ("step_fir",)

    @abstractmethod
    def knows(self, module: nn.Module) -> bool:
        """Whether a module is a filter of this family."""

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        """The functions are methods: the class of the engine is watched, not the file."""
        engines = {type(module.engine) for module in model.modules() if self._has_engine(module)}
        owners = {kind for engine in engines for kind in engine.__mro__}
        with ExitStack() as stack:
            for owner in owners:
                for name in set(self.functions) & set(vars(owner)):
                    stack.enter_context(observed_calls(owner, name, recorder, self._observe))
                for name in set(self.decoding) & set(vars(owner)):
                    stack.enter_context(observed_calls(owner, name, recorder, self._refuse))
            yield

    def _has_engine(self, module: nn.Module) -> bool:
        return hasattr(module, "engine") and self.knows(module)

    def _refuse(
        self, function: Callable[..., Any], recorder: Recorder, *args: Any, **kwargs: Any
    ) -> Any:
        """One step from a cache: noted once, at the convolution in front of the gates."""
        in_front = getattr(recorder.running, "short_filter_weight", None)
        if any(value is in_front for value in (*args, *kwargs.values())):
            return super()._refuse(function, recorder, *args, **kwargs)
        return function(*args, **kwargs)


def split_projections(
    joint: Tensor, heads: int, *, by_head: bool, flipped: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Output gate, input gate and values, each `[B, D, L]`, from `[B, 3 D, L]`.

    Args:
        joint: the three side by side for all channels, or head by head.
        heads: number of heads.
        by_head: whether each head has its three together.
        flipped: whether the gates change places.
    """
    joint = joint.detach()
    batch, width, length = joint.shape
    parts = heads if by_head else 1
    pieces = joint.reshape(batch, parts, 3, width // (3 * parts), length)
    after, before, values = (pieces[:, :, part].flatten(1, 2) for part in range(3))
    return (before, after, values) if flipped else (after, before, values)


def gated(convolution: LinearOperator, after: Tensor, before: Tensor) -> LinearOperator:
    """`diag(after) T diag(before)` with gates `[B, D, L]`."""
    return RowScaled(ColumnScaled(convolution, before), after)


def modal_or_stored(
    modal: LinearOperator, stored: Tensor, direct: Tensor, threshold: int | None
) -> LinearOperator:
    """The filter of the modes, or the one that was given where that is another.

    Args:
        modal: the convolution by poles and residues.
        stored: `[1, G|1, L']`, the filter that the engine got.
        direct: D, `[D]`.
        threshold: number of taps after which the engine cuts the filter off; None for never.
    """
    length = modal.length
    taps = stored.detach()[0, :, : threshold or length][:, :length]
    groups = direct.shape[0]
    if taps.shape[-1] == length:
        impulse = torch.zeros(modal.batch, modal.groups, length, 1, device=taps.device)
        impulse[..., 0, 0] = 1
        response = modal.apply(impulse)[0, :, :, 0]
        response[:, 0] -= direct.double()
        error = (response - taps.double()).abs().max()
        if bool(error <= STORED_FILTER_ERROR * taps.double().abs().max()):
            return modal
    taps = taps.repeat_interleave(groups // taps.shape[0], dim=0)
    return ConvolutionOperator(taps.float(), direct.detach()[None, :, None], length=length)
