"""Any causal mixer by its derivatives: the Jacobian of a module at the features that reached it.

Not registered, since it claims every module: `hf_ess.analyze(..., method="jacobian")` asks for it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle

from hf_ess.errors import HfEssError, InvalidTypeError, NotCausalError, UnsupportedMixerError
from hf_ess.operators import JacobianOperator, ResidualMeter, residual_bound
from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.operators.linearization import float64_version
from hf_ess.out_of_memory import is_out_of_memory
from model_adapters.recorder import Recorder
from model_adapters.registry import MixerAdapter
from model_adapters.survey import first_tensor, is_sequence, token_features
from model_adapters.weights import weights_here, without_offloading

_ANY_LENGTH = range(1, sys.maxsize)


class JacobianAdapter(MixerAdapter):
    """Linearises chosen modules where they run, each as a function of its features alone.

    The features are the first floating-point argument `[B, L, D]`, the output is the first tensor
    that the module returns. All other arguments (masks, position embeddings) are held fixed.

    A module runs in float64 if it can and its weights fit, else in its own dtype. Either way it
    must give again what it gave, up to the rounding of its own dtype.

    Args:
        names: of the modules to linearise, as in `model.named_modules()`.
        memory_budget: a quarter of it is for float64 weights, an eighth for products that are
            computed together.
    """

    mixer = "jacobian"
    models = "every module from features [B, L, D] to features, by its derivatives"

    def __init__(self, names: Collection[str], memory_budget: int) -> None:
        self.names = frozenset(names)
        self.memory_budget = memory_budget

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        running: list[nn.Module] = []

        def linearise(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> None:
            # A linearised module runs again, with all hooks.
            if running:
                return
            running.append(module)
            try:
                self._record(module, args, kwargs, output, recorder)
            finally:
                running.clear()

        handles: list[RemovableHandle] = []
        try:
            handles.extend(
                module.register_forward_hook(recorder.own(linearise), with_kwargs=True)
                for module in model.modules()
                if recorder.name_of(module) in self.names
            )
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _record(
        self,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        recorder: Recorder,
    ) -> None:
        mixer = f"jacobian of {type(module).__name__}"
        try:
            features = token_features(args, kwargs, _ANY_LENGTH)
            result = first_tensor(output)
            if features is None or result is None or not is_sequence(result, _ANY_LENGTH):
                raise UnsupportedMixerError(
                    "it does not map features [B, L, D] to features, so that it has no Jacobian "
                    "by tokens"
                )
            recorder.record(
                module,
                mixer=mixer,
                operator=self._operator(_Call(module, args, kwargs, features), result),
                inputs=features.detach()[:, None],
                outputs=result.detach()[:, None],
            )
        except (InvalidTypeError, NotCausalError, UnsupportedMixerError) as error:
            # Some only show when the sink asks for products.
            recorder.refuse(module, mixer=mixer, reason=error.what)

    def _operator(self, call: _Call, result: Tensor) -> JacobianOperator:
        """The Jacobian of the module in float64, or else in its own dtype.

        Raises:
            UnsupportedMixerError: it cannot be differentiated, or gives something else if it is
                run again.
        """
        bound, work_bytes = residual_bound(result.dtype), self.memory_budget // 8
        fits = 4 * call.float64_bytes() <= self.memory_budget
        wide = _in_float64(call, work_bytes) if fits else None
        if wide is not None and _difference(wide, result) <= bound:
            return wide
        try:
            operator = JacobianOperator(call.in_own_dtype(), call.features, work_bytes=work_bytes)
        except InvalidTypeError as error:
            hint = "" if fits else " (in float64, its weights do not fit into the memory budget)"
            raise UnsupportedMixerError(f"{error.what}{hint}") from error
        except HfEssError:
            raise
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise UnsupportedMixerError(f"it cannot be differentiated: {error}") from error
        difference = _difference(operator, result)
        if not difference <= bound:
            raise UnsupportedMixerError(
                "run again on the same features, it gives something else: the outputs differ by "
                f"{difference:.1e}"
            )
        return operator


@dataclass(frozen=True)
class _Call:
    """One run of a module, as a function of its features; the other arguments stay as they were."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    features: Tensor

    def float64_bytes(self) -> int:
        """Size of the module's weights in float64."""
        return FLOAT64_BYTES * sum(weight.numel() for weight in self.module.parameters())

    def in_float64(self) -> Callable[[Tensor], Any]:
        """The module with float64 weights and arguments."""
        with weights_here(self.module):
            wide = float64_version(self.module)

        def run(*args: Any, **kwargs: Any) -> Any:
            # Accelerate would bring the weights in their own dtype.
            with without_offloading(self.module):
                return wide(*args, **kwargs)

        return self._of_features(run)

    def in_own_dtype(self) -> Callable[[Tensor], Any]:
        """The module as it is."""
        return self._of_features(self.module)

    def _of_features(self, run: Callable[..., Any]) -> Callable[[Tensor], Any]:
        def function(features: Tensor) -> Any:
            args, kwargs = tree_map(
                lambda value: features if value is self.features else value,
                (self.args, self.kwargs),
            )
            return first_tensor(run(*args, **kwargs))

        return function


def _in_float64(call: _Call, work_bytes: int) -> JacobianOperator | None:
    """The Jacobian of a call in float64; None where it knows one dtype only, or packed weights."""
    features = call.features.to(torch.float64)
    try:
        return JacobianOperator(call.in_float64(), features, work_bytes=work_bytes)
    except HfEssError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        return None


def _difference(operator: JacobianOperator, result: Tensor) -> float:
    """How much the linearised run differs from the recorded one, relative to the largest output."""
    if operator.outputs.shape != result.shape:
        return math.inf
    meter = ResidualMeter(operator.batch)
    meter.add(operator.outputs.to(torch.float64)[:, None], result[:, None])
    return float(meter.residual().max())
