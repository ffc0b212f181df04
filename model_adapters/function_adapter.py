"""Adapters for mixers that call one function of their modelling file.

Recurrent mixers of transformers compute their scan in a module-level function (`mamba_chunk_scan`,
`torch_chunk_gated_delta_rule`, ...), which is a plain PyTorch function or, with kernel packages
installed, an object of the same signature. Replacing the name in the file's globals shows its
arguments and its result in both cases.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from model_adapters.captured import EARLIER_STATE, Captured
from model_adapters.mixer_scope import around_convolution
from model_adapters.patching import observed_calls, switched_off
from model_adapters.recorder import CORE, MIXER, Recorder
from model_adapters.registry import MixerAdapter

__all__ = [
    "Captured",
    "FunctionAdapter",
    "call_arguments",
    "refuse_earlier_state",
    "refuse_packed_sequences",
]


class FunctionAdapter(MixerAdapter):
    """Watches the functions named in `functions` wherever a module of the model calls them.

    `hf_ess.register_adapter` makes it known; docs/adding-a-mixer.md is a whole example.

    A subclass says `mixer`, `models`, `functions`, and how a call becomes an operator. It may
    also name what the same files use instead of these functions:

    Attributes:
        functions: names of the mixing functions over whole sequences.
        decoding: names of functions that go on from a cache by one token; always refused.
        fused_switch: attribute of modules whose true value sends them through a kernel that hides
            the mixing function; false while a recording runs.
        convolved: "first" or "last" channels of a short convolution are what the function mixes;
            empty if there is none. For scope "mixer".
    """

    functions: tuple[str, ...]
    decoding: tuple[str, ...] = ()
    fused_switch: str = ""
    convolved: str = ""

    @abstractmethod
    def captured(self, module: nn.Module, call: dict[str, Any], result: Any) -> Captured:
        """The operator of one call.

        Args:
            module: the module that runs.
            call: arguments of the function by name, defaults included.
            result: what the function returned.

        Raises:
            UnsupportedMixerError: this call cannot be turned into an operator; says why.
        """

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        with ExitStack() as stack:
            for namespace in self._namespaces(model):
                for name in _callable_names(namespace, self.functions):
                    stack.enter_context(observed_calls(namespace, name, recorder, self._observe))
                for name in _callable_names(namespace, self.decoding):
                    stack.enter_context(observed_calls(namespace, name, recorder, self._refuse))
            if self.fused_switch:
                stack.enter_context(self._unfused(model))
            yield

    def _namespaces(self, model: nn.Module) -> list[dict[str, Any]]:
        """Globals of the modelling files that hold a mixing function."""
        found = (_globals_of(module) for module in model.modules())
        wanted = {id(names): names for names in found if _callable_names(names, self.functions)}
        return list(wanted.values())

    @contextmanager
    def _unfused(self, model: nn.Module) -> Iterator[None]:
        """Sends modules with a fused path through the mixing function instead."""
        with ExitStack() as stack:
            for module in model.modules():
                if _callable_names(_globals_of(module), self.functions):
                    stack.enter_context(switched_off(module, self.fused_switch))
            yield

    def _refuse(
        self, function: Callable[..., Any], recorder: Recorder, *args: Any, **kwargs: Any
    ) -> Any:
        if recorder.running is not None:
            recorder.refuse(recorder.running, mixer=self.mixer, reason=EARLIER_STATE)
        with recorder.inside_mixer():
            return function(*args, **kwargs)

    def _observe(
        self, function: Callable[..., Any], recorder: Recorder, *args: Any, **kwargs: Any
    ) -> Any:
        module = recorder.running
        if module is None:
            return function(*args, **kwargs)
        call = call_arguments(function, args, kwargs, kept=recorder.kept)
        snapshot = self.before(call)
        with recorder.inside_mixer():
            result = function(*args, **kwargs)
        try:
            call = {**call, **snapshot}
            captured = self.captured(module, call, result)
            wide = recorder.scope == MIXER
            wider = self.widened(module, call, captured, recorder) if wide else None
        except UnsupportedMixerError as error:
            recorder.refuse(module, mixer=self.mixer, reason=error.what)
            return result
        scope = CORE if wider is None else MIXER
        recorder.record(module, mixer=self.mixer, scope=scope, **vars(wider or captured))
        return result

    def widened(
        self, module: nn.Module, call: dict[str, Any], captured: Captured, recorder: Recorder
    ) -> Captured | None:
        """The operator together with what surrounds it, None if nothing around it is known.

        Args:
            module: the module that runs.
            call: arguments of the function by name, defaults included.
            captured: the core, as `captured` returned it.
            recorder: knows the latest convolution.

        Raises:
            UnsupportedMixerError: the surroundings cannot be turned into an operator; says why.
        """
        if not self.convolved or recorder.convolution is None:
            return None
        return around_convolution(
            captured, recorder.convolution, module, last=self.convolved == "last"
        )

    def before(self, call: dict[str, Any]) -> dict[str, Any]:
        """Arguments to copy before the function runs, for functions that write into theirs."""
        return {}


def _globals_of(module: nn.Module) -> dict[str, Any]:
    """Globals of the file in which the forward of a module is written."""
    forward = inspect.unwrap(type(module).forward)
    return getattr(forward, "__globals__", {})


def _callable_names(namespace: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if callable(namespace.get(name))]


def call_arguments(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kept: Callable[[Tensor], Tensor] = Tensor.detach,
) -> dict[str, Any]:
    """Arguments by name, with defaults; those of `**kwargs` under their own names.

    A `FunctionAdapter` gets its calls in this form.

    Args:
        function: what was called, a function or a module.
        args: with what, by place.
        kwargs: with what, by name.
        kept: what becomes of tensors: without a graph, if nobody asks for it.
    """
    target = function.forward if isinstance(function, nn.Module) else function
    bound = inspect.signature(target).bind(*args, **kwargs)
    bound.apply_defaults()
    call: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        call |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return {
        name: kept(value) if isinstance(value, Tensor) else value for name, value in call.items()
    }


def refuse_earlier_state(call: dict[str, Any], *names: str) -> None:
    """Refuses a call that starts from a state: its outputs are not `M u` alone.

    For `FunctionAdapter.captured`.

    Args:
        call: arguments by name, as `FunctionAdapter.captured` gets them.
        names: of those that may hold a state.

    Raises:
        UnsupportedMixerError: one of the named arguments holds a state.
    """
    for name in names:
        if call.get(name) is not None:
            raise UnsupportedMixerError(EARLIER_STATE)


def refuse_packed_sequences(call: dict[str, Any], *names: str) -> None:
    """Refuses a call in which several texts share one sequence.

    For `FunctionAdapter.captured`.

    Args:
        call: arguments by name, as `FunctionAdapter.captured` gets them.
        names: of those that say where texts begin.

    Raises:
        UnsupportedMixerError: one of the named arguments says where texts begin.
    """
    for name in names:
        if call.get(name) is not None:
            raise UnsupportedMixerError(
                "several texts were packed into one sequence; analyse each text alone"
            )
