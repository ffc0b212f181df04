"""Hyena: long convolutions whose filters a network writes, with gates around each of them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import (
    ColumnScaled,
    ConvolutionOperator,
    LinearOperator,
    Product,
    RowScaled,
)
from model_adapters.function_adapter import Captured, call_arguments
from model_adapters.module_adapter import ModuleAdapter, ModuleRun
from model_adapters.patching import observed_calls
from model_adapters.recorder import Recorder
from model_adapters.registry import register_adapter

_CONVOLUTION = "fftconv"
_MODULES = ("in_proj", "short_filter", "filter_fn", "out_proj")


class _LongFilter(NamedTuple):
    """Taps `[D, L]` and direct term `[D]` of one long convolution."""

    taps: Tensor
    direct: Tensor


@register_adapter
class Hyena(ModuleAdapter):
    """`y = x_0 (h_N * (x_1 ( .. h_1 * (x_N v))))` with gates x and long filters h.

    Order 2 has one filter, `M_ij = x0_i (h_{i-j} + D [i = j]) x1_j`; each further order adds one
    gate and one filter before them. One operator per channel on the values v, which come out of
    the short convolution as the gates do; the filters are as long as the text.

    Source: Poli et al., "Hyena Hierarchy: Towards Larger Convolutional Language Models", ICML
    2023, definition 3.1; Nguyen et al., "HyenaDNA", NeurIPS 2023.
    """

    mixer = "hyena"
    models = "HyenaDNA (remote code), Hyena of the safari code and of hf_ess.synthetics"
    parts = ("short_filter", "out_proj")
    keeps_graph = True

    def __init__(self) -> None:
        # Filters of the operator that runs in this thread.
        self._here = threading.local()

    def knows(self, module: nn.Module) -> bool:
        return all(
            isinstance(getattr(module, name, None), nn.Module) for name in _MODULES
        ) and callable(_globals_of(module.get_submodule("filter_fn")).get(_CONVOLUTION))

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        operators = filter(self.knows, model.modules())
        spaces = [_globals_of(module.get_submodule("filter_fn")) for module in operators]
        with ExitStack() as stack:
            for names in {id(names): names for names in spaces}.values():
                stack.enter_context(observed_calls(names, _CONVOLUTION, recorder, self._note))
            stack.enter_context(super().watch(model, recorder))
            yield

    def _note(
        self, function: Callable[..., Any], recorder: Recorder, *args: Any, **kwargs: Any
    ) -> Any:
        filters = getattr(self._here, "filters", None)
        if filters is not None:
            _, taps, direct, *_ = call_arguments(function, args, kwargs, recorder.kept).values()
            filters.append(_LongFilter(taps, direct.reshape(-1)))
        return function(*args, **kwargs)

    def before(self, module: nn.Module, call: dict[str, Any]) -> dict[str, Any]:
        filters: list[_LongFilter] = []
        self._here.filters = filters
        return {"filters": filters}

    def captured(self, module: nn.Module, run: ModuleRun) -> Captured:
        self._here.filters = None
        filters: list[_LongFilter] = run.before["filters"]
        outputs = run.parts["out_proj"].features.detach().transpose(1, 2)
        length, channels = outputs.shape[-1], outputs.shape[1]
        features = run.parts["short_filter"].result[..., :length]
        if not filters or features.shape[1] != (len(filters) + 2) * channels:
            raise UnsupportedMixerError(
                "its gates, values and long filters are not as many as those of a Hyena operator"
            )
        *gates, values = features.split(channels, dim=1)
        return Captured(
            operator=_alternating(gates, filters),
            inputs=values[..., None],
            outputs=outputs[..., None],
        )


def _alternating(gates: list[Tensor], filters: list[_LongFilter]) -> LinearOperator:
    """Gates `[B, D, L]`, the last applied first; filters in the order in which they run."""
    operator: LinearOperator | None = None
    length = gates[0].shape[-1]
    for gate, (taps, direct) in zip(reversed(gates[1:]), filters, strict=True):
        convolution = ConvolutionOperator(taps, direct[None, :, None], length=length)
        gated = ColumnScaled(convolution, gate)
        operator = gated if operator is None else Product(gated, operator)
    assert operator is not None
    return RowScaled(operator, gates[0])


def _globals_of(module: nn.Module) -> dict[str, Any]:
    return getattr(inspect.unwrap(type(module).forward), "__globals__", {})
