"""Who runs now, what was recorded, what was refused: the bookkeeping of one recording."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hf_ess.operators import LinearOperator

if TYPE_CHECKING:
    from model_adapters.mixer_scope import Convolution


CORE = "core"
MIXER = "mixer"
SCOPES = (CORE, MIXER)
WITHOUT_GRAPH = "its adapter hands over operators without a graph to the weights"


@dataclass(frozen=True)
class LayerOperator:
    """One operator that one mixer applied in one forward pass.

    `hf_ess.record_operators` hands them to its sink.

    Attributes:
        name: dotted path of the module, as in `model.named_modules()`.
        index: number of the layer that the module belongs to.
        mixer: family of the mixer, the `mixer` of the adapter that recorded it.
        operator: the causal operator M, `[B, G, L, L]`.
        inputs: what M was applied to, `[B, G, L, C]`, in the model's dtype.
        outputs: what the layer really computed from it, `[B, G, L, C]`, in the model's dtype.
        output_gate: factor on `M u` that the mixing function applies before it returns,
            `[B, G, L, C]`, no part of the operator; None for one.
        output_offset: what is added after the gate and does not depend on the inputs (from the
            bias of a convolution), `[B, G, L, C]`; None for zero. So the layer computes
            `outputs = output_gate * (M inputs) + output_offset`.
        scope: "mixer" if the operator includes the convolution and gates around the mixing
            function, "core" if it is that function alone.
        call: 0 for the first operator of this module in a forward pass, 1 for the next, ...
    """

    name: str
    index: int
    mixer: str
    operator: LinearOperator
    inputs: Tensor
    outputs: Tensor
    output_gate: Tensor | None = None
    call: int = 0
    output_offset: Tensor | None = None
    scope: str = CORE


@dataclass(frozen=True)
class RefusedLayer:
    """A mixer that ran and whose operator is not known, with the reason.

    A `Recorder` lists them.

    Attributes:
        name: dotted path of the module.
        index: number of the layer that the module belongs to.
        mixer: its family, as far as an adapter knew it.
        reason: why it has no operator.
    """

    name: str
    index: int
    mixer: str
    reason: str


Sink = Callable[[LayerOperator], None]
# Gets the keyword arguments of `Recorder.record`.
Taker = Callable[..., None]


def layer_index(name: str, otherwise: int) -> int:
    """The first number in a module path: `model.layers.3.self_attn` is of layer 3."""
    return next((int(part) for part in name.split(".") if part.isdigit()), otherwise)


class Recorder:
    """Collects the operators of one model while it runs in one thread.

    Adapters call `record` or `refuse`; the recorder adds names and numbers, and hands each
    operator to the sink at once, so that no more than one is alive. `hf_ess.record_operators` makes
    one, and gives it back.

    Args:
        model: whose modules have the names.
        sink: gets each `LayerOperator`.
        scope: "core" or "mixer".
        keep_graph: whether operators are to keep autograd's way back to the weights.
    """

    def __init__(
        self, model: nn.Module, sink: Sink, scope: str = CORE, *, keep_graph: bool = False
    ) -> None:
        self.model = model
        self.sink = sink
        self.scope = scope
        self.keep_graph = keep_graph
        # Families whose operators autograd can follow back to the weights.
        self.with_graph: set[str] = set()
        self.convolution: Convolution | None = None
        self.batch: int | None = None
        self.length: int | None = None
        self.refused: list[RefusedLayer] = []
        self.claimed: set[str] = set()
        self.waits = False
        # What keeps observers of every torch function away from what the sink computes.
        self.unobserved: Callable[[], AbstractContextManager[None]] = nullcontext
        self._names: dict[int, str] = {id(module): name for name, module in model.named_modules()}
        self._running: list[nn.Module] = []
        self._calls: Counter[str] = Counter()
        self._composed: dict[int, tuple[str, Taker]] = {}
        self._depth_in_mixer = 0
        self._thread = threading.get_ident()

    @property
    def here(self) -> bool:
        """Whether the calling thread is the one that is recorded, and this its latest recording."""
        return not self.waits and threading.get_ident() == self._thread

    def own(self, hook: Callable[..., None]) -> Callable[..., None]:
        """A hook that runs in the recorded thread alone.

        Another thread that runs the same model may meet a hook that is just being registered or
        removed, and pass it other arguments than it was registered for.
        """

        def own(*given: Any) -> None:
            if self.here:
                hook(*given)

        return own

    @property
    def running(self) -> nn.Module | None:
        """The innermost module that is running."""
        return self._running[-1] if self._running else None

    @property
    def in_mixer(self) -> bool:
        """Whether a mixing function runs that an adapter watches already."""
        return self._depth_in_mixer > 0

    @contextmanager
    def inside_mixer(self) -> Iterator[None]:
        """Marks the run of a watched mixing function; no other adapter takes its insides."""
        # Restored, not counted down: a sink may run the model again, which starts from zero.
        before = self._depth_in_mixer
        self._depth_in_mixer = before + 1
        try:
            yield
        finally:
            self._depth_in_mixer = before

    @contextmanager
    def composing(self, module: nn.Module, mixer: str, take: Taker) -> Iterator[None]:
        """Hands what other adapters record of a module to `take` instead of the sink.

        For an adapter that knows what becomes of their operators inside of the module, and
        records the result under its own `mixer`.

        Args:
            module: of which operators are taken, until the context is left.
            mixer: the adapter's own, whose operators go to the sink as ever.
            take: called with what another adapter would have recorded.
        """
        self._composed[id(module)] = mixer, take
        try:
            yield
        finally:
            del self._composed[id(module)]

    def kept(self, tensor: Tensor) -> Tensor:
        """A feature of an operator, with its graph only where one is asked for."""
        return tensor if self.keep_graph else tensor.detach()

    def is_composed(self, module: nn.Module) -> bool:
        """Whether an adapter composes the operators of a module."""
        return id(module) in self._composed

    def name_of(self, module: nn.Module) -> str:
        """Dotted path of a module of the model; its class name for a stranger."""
        return self._names.get(id(module)) or type(module).__name__

    def enter(self, module: nn.Module) -> None:
        """A module starts to run."""
        self._running.append(module)

    def leave(self, module: nn.Module) -> None:
        """A module has run or has failed; the modules inside it are over too."""
        while self._running and self._running.pop() is not module:
            pass

    def start_forward(self, batch: int | None, length: int | None) -> None:
        """The whole model starts to run on tokens of shape `[batch, length]` (None: not known)."""
        self.batch = batch
        self.length = length
        self._calls.clear()
        self._running.clear()
        self._depth_in_mixer = 0
        self.convolution = None

    def record(
        self,
        module: nn.Module,
        *,
        mixer: str,
        operator: LinearOperator,
        inputs: Tensor,
        outputs: Tensor,
        output_gate: Tensor | None = None,
        output_offset: Tensor | None = None,
        scope: str = CORE,
    ) -> None:
        """Hands an operator to the sink.

        Args:
            module: the mixer.
            mixer: its family.
            operator: M, `[B, G, L, L]`.
            inputs: u, `[B, G, L, C]`.
            outputs: what the layer computed, `[B, G, L, C]`.
            output_gate: factor on `M u` inside of the layer, `[B, G, L, C]`; None for one.
            output_offset: what the layer adds after that, `[B, G, L, C]`; None for zero.
            scope: "core", or "mixer" if M includes the convolution and gates around it.
        """
        composer, take = self._composed.get(id(module), (mixer, None))
        if take is not None and not mixer.startswith(composer):
            take(
                operator=operator,
                inputs=inputs,
                outputs=outputs,
                output_gate=output_gate,
                output_offset=output_offset,
            )
            return
        if self.keep_graph and mixer not in self.with_graph:
            self.refuse(module, mixer=mixer, reason=WITHOUT_GRAPH)
            return
        name, index, call = self._number(module)
        layer = LayerOperator(
            name,
            index,
            mixer,
            operator,
            inputs,
            outputs,
            output_gate,
            call,
            output_offset,
            scope,
        )
        with self.unobserved():
            self.sink(layer)

    def refuse(self, module: nn.Module, *, mixer: str, reason: str) -> None:
        """Notes that a mixer ran whose operator cannot be had.

        Args:
            module: the mixer.
            mixer: its family.
            reason: why, in words.
        """
        name, index, _ = self._number(module)
        self.refused.append(RefusedLayer(name, index, mixer, reason))

    def _number(self, module: nn.Module) -> tuple[str, int, int]:
        name = self.name_of(module)
        self.claimed.add(name)
        index = layer_index(name, otherwise=len(self._calls))
        call = self._calls[name]
        self._calls[name] += 1
        return name, index, call
