"""Adapters for mixers that write their mathematics out in the forward of a module.

What such a module mixes is seen from outside: its arguments, what its parts (submodules) got and
gave while it ran, and its result. Forward hooks show all of that.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hf_ess.errors import UnsupportedMixerError
from model_adapters.function_adapter import Captured, call_arguments
from model_adapters.recorder import Recorder
from model_adapters.registry import MixerAdapter
from model_adapters.weights import where_it_runs


@dataclass(frozen=True)
class PartRun:
    """One run of a submodule.

    A `ModuleRun` holds those of the parts.

    Attributes:
        call: its arguments by name.
        result: what it returned.
    """

    call: dict[str, Any]
    result: Any

    @property
    def features(self) -> Tensor:
        """The first argument."""
        features: Tensor = next(iter(self.call.values()))
        return features


@dataclass
class ModuleRun:
    """One run of a mixer.

    A `ModuleAdapter` turns it into an operator.

    Attributes:
        call: arguments of the module's forward by name, defaults included.
        before: what `before` noted when the run began.
        parts: the first run of each part that ran.
        found: what other adapters recorded of the module, where the adapter composes that.
        result: what the module returned.
    """

    call: dict[str, Any]
    before: dict[str, Any]
    parts: dict[str, PartRun] = field(default_factory=dict)
    found: list[Captured] = field(default_factory=list)
    result: Any = None


class ModuleAdapter(MixerAdapter):
    """Watches the modules that it `knows`, and the submodules named in `parts`.

    `hf_ess.register_adapter` makes it known.

    A subclass says `mixer`, `models`, `parts`, which modules it knows, and how a run becomes an
    operator. Where it `composes`, it makes that of operators which other adapters record of the
    module, and which are recorded no more themselves.
    """

    parts: tuple[str, ...] = ()
    composes: bool = False

    @abstractmethod
    def knows(self, module: nn.Module) -> bool:
        """Whether a module is a mixer of this family, by what it is made of."""

    @abstractmethod
    def captured(self, module: nn.Module, run: ModuleRun) -> Captured | dict[str, Captured | str]:
        """The operator of one run, or several by the names of their mixers.

        A reason in place of an operator says of a part why it has none.

        Raises:
            UnsupportedMixerError: this run cannot be turned into an operator; says why.
        """

    def before(self, module: nn.Module, call: dict[str, Any]) -> dict[str, Any]:
        """What to note when a run begins, of states that it will overwrite."""
        return {}

    @contextmanager
    def watch(self, model: nn.Module, recorder: Recorder) -> Iterator[None]:
        with ExitStack() as stack:
            for module in filter(self.knows, model.modules()):
                hooks = _ModuleHooks(self, recorder)
                for handle in hooks.install(module):
                    stack.callback(handle.remove)
                if self.composes:
                    stack.enter_context(recorder.composing(module, self.mixer, hooks.take))
            yield


class _ModuleHooks:
    """The hooks on one mixer and its parts."""

    def __init__(self, adapter: ModuleAdapter, recorder: Recorder) -> None:
        self.adapter = adapter
        self.recorder = recorder
        self._run: ModuleRun | None = None

    def install(self, module: nn.Module) -> list[RemovableHandle]:
        own = self.recorder.own
        handles = [
            module.register_forward_pre_hook(own(self._start), with_kwargs=True),
            module.register_forward_hook(own(self._end)),
        ]
        for name in self.adapter.parts:
            part, note = module.get_submodule(name), own(self._note(name))
            handles.append(part.register_forward_hook(note, with_kwargs=True))
        return handles

    def _start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = where_it_runs(module, call_arguments(module, args, kwargs))
        self._run = ModuleRun(call, self.adapter.before(module, call))

    def _note(self, name: str) -> Any:
        def note(
            part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
        ) -> None:
            if self._run is not None:
                kept = self.recorder.kept
                call = where_it_runs(part, call_arguments(part, args, kwargs, kept))
                run = PartRun(call, kept(result) if isinstance(result, Tensor) else result)
                self._run.parts.setdefault(name, run)

        return note

    def _end(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        if self._run is not None:
            self._run.result = result
            # What operators compute here is no attention of the model.
            with self.recorder.inside_mixer():
                self._record(module)

    def _record(self, module: nn.Module) -> None:
        run, self._run = self._run, None
        if run is None or (self.adapter.composes and not run.found):
            return
        try:
            captured = self.adapter.captured(module, run)
        except UnsupportedMixerError as error:
            self.recorder.refuse(module, mixer=self.adapter.mixer, reason=error.what)
            return
        named = captured if isinstance(captured, dict) else {self.adapter.mixer: captured}
        del run, captured
        for mixer in list(named):
            part = named.pop(mixer)
            if isinstance(part, str):
                self.recorder.refuse(module, mixer=mixer, reason=part)
            else:
                self.recorder.record(module, mixer=mixer, **vars(part))

    def take(self, **found: Any) -> None:
        """Gets what another adapter recorded of the module."""
        if self._run is not None:
            self._run.found.append(Captured(**found))


def heads_first(features: Tensor, heads: int) -> Tensor:
    """`[B, L, H * D]` as `[B, H, L, D]`.

    For a `ModuleAdapter`, whose operators have their groups before their tokens.

    Args:
        features: of all heads, side by side.
        heads: H.
    """
    return features.detach().reshape(*features.shape[:2], heads, -1).transpose(1, 2)
