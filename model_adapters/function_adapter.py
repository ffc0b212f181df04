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
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hf_ess.errors import UnsupportedMixerError
from hf_ess.operators import LinearOperator
from model_adapters.patching import observed_calls
from model_adapters.recorder import Recorder
from model_adapters.registry import MixerAdapter


@dataclass(frozen=True)
class Captured:
    """What a mixing function applied in one call.

    Attributes:
        operator: M, `[B, G, L, L]`.
        inputs: u, `[B, G, L, C]`.
        outputs: what the function returned, `[B, G, L, C]`.
        output_gate: factor on `M u` inside the function, `[B, G, L, C]`; None for one.
    """

    operator: LinearOperator
    inputs: Tensor
    outputs: Tensor
    output_gate: Tensor | None = None


class FunctionAdapter(MixerAdapter):
    """Watches the functions named in `functions` wherever a module of the model calls them.

    A subclass says `mixer`, `models`, `functions`, and how a call becomes an operator.
    """

    functions: tuple[str, ...]

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
            for namespace, name in self._watched_names(model):
                stack.enter_context(observed_calls(namespace, name, recorder, self._observe))
            yield

    def _watched_names(self, model: nn.Module) -> list[tuple[dict[str, Any], str]]:
        """Each (globals of a modelling file, function name) that a module's forward refers to."""
        found: dict[tuple[int, str], tuple[dict[str, Any], str]] = {}
        for module_class in {type(module) for module in model.modules()}:
            forward = inspect.unwrap(module_class.forward)
            namespace = getattr(forward, "__globals__", None)
            if namespace is None:
                continue
            for name in self.functions:
                if name in namespace and callable(namespace[name]):
                    found[id(namespace), name] = namespace, name
        return list(found.values())

    def _observe(
        self, function: Callable[..., Any], recorder: Recorder, *args: Any, **kwargs: Any
    ) -> Any:
        module = recorder.running
        if module is None:
            return function(*args, **kwargs)
        call = _arguments(function, args, kwargs)
        snapshot = self.before(call)
        with recorder.inside_mixer():
            result = function(*args, **kwargs)
        try:
            captured = self.captured(module, {**call, **snapshot}, result)
        except UnsupportedMixerError as error:
            recorder.refuse(module, mixer=self.mixer, reason=error.what)
            return result
        recorder.record(module, mixer=self.mixer, **vars(captured))
        return result

    def before(self, call: dict[str, Any]) -> dict[str, Any]:
        """Arguments to copy before the function runs, for functions that write into theirs."""
        return {}


def _arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments by name, with defaults; those of `**kwargs` under their own names."""
    target = function.forward if isinstance(function, nn.Module) else function
    bound = inspect.signature(target).bind(*args, **kwargs)
    bound.apply_defaults()
    call: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        call |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return {
        name: value.detach() if isinstance(value, Tensor) else value for name, value in call.items()
    }


def refuse_earlier_state(call: dict[str, Any], *names: str) -> None:
    """Refuses a call that starts from a state: its outputs are not `M u` alone.

    Raises:
        UnsupportedMixerError: one of the named arguments holds a state.
    """
    for name in names:
        if call.get(name) is not None:
            raise UnsupportedMixerError(
                "the mixer was called with an earlier state (a cache), whose response adds to M u"
            )
