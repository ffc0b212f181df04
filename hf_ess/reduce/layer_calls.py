"""What one layer of a model was called with, what it gave back, and the operators in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.analysis.rebuilding import why_unverified
from hf_ess.errors import InvalidInputError, UnsupportedMixerError
from hf_ess.operators import LinearOperator, MimoOperator, squared_norm
from model_adapters import LayerOperator, RefusedLayer, record_operators
from model_adapters.layer_choice import checked_layers, is_meant, names_of_layers


@dataclass(eq=False)
class LayerCall:
    """One call of a layer on some texts.

    Attributes:
        args: what it was called with, by place.
        kwargs: what it was called with, by name.
        outputs: its first output, `[B, L, d]`.
        operators: what its mixing functions applied, in order, each `[B, G, L, L]`; none where
            no adapter knows them.
        reason: why there are none.
        squares: `||M||_F^2` of each operator, `[B, G]`, once they were asked for.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Tensor
    operators: list[LinearOperator] = field(default_factory=list)
    reason: str = ""
    squares: list[Tensor] | None = None

    @property
    def texts(self) -> int:
        """B."""
        return int(self.outputs.shape[0])

    def squared_norms(self, memory_budget: int) -> list[Tensor]:
        """`||M||_F^2` of each operator, `[B, G]`, computed once."""
        if self.squares is None:
            self.squares = [squared_norm(x, memory_budget=memory_budget) for x in self.operators]
        return self.squares


class Alone(nn.Module):
    """A layer as a model of its own, so that its operators can be recorded without the others."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)


@torch.no_grad()
def layer_name(model: nn.Module, layer: int | str, batch: Mapping[str, Any]) -> str:
    """Name of the module that an index or a name means.

    Args:
        model: in evaluation mode; it runs once, unless the name is that of a module.
        layer: index of the layer or name of the mixer, as in a report; or any module's name.
        batch: arguments of the model.

    Raises:
        InvalidInputError: there is none, or several are meant.
        InvalidTypeError: neither an index nor a name.
    """
    checked_layers([layer])
    if isinstance(layer, str) and layer and layer in dict(model.named_modules()):
        return layer
    found: list[LayerOperator | RefusedLayer] = []
    with record_operators(model, found.append) as recorder:
        model(**batch)
    names = names_of_layers([*found, *recorder.refused], [layer])
    if len(names) > 1:
        raise InvalidInputError(
            f"{layer!r} means {len(names)} mixers.", fix=f"Name one, such as {min(names)!r}."
        )
    return names.pop()


@torch.no_grad()
def calls_of(
    model: nn.Module, name: str, batches: Sequence[Mapping[str, Any]], done: Callable[[], object]
) -> list[LayerCall]:
    """The calls of the layer of that name, one for each batch of arguments of the model.

    Raises:
        InvalidInputError: the layer does not run, or more than once.
    """
    layer = model.get_submodule(name)
    calls: list[LayerCall] = []
    operators: list[LayerOperator] = []

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        calls.append(LayerCall(_kept(args), _kept(kwargs), first_output(output).clone()))

    handle = layer.register_forward_hook(note, with_kwargs=True)
    try:
        with record_operators(model, operators.append) as recorder:
            for number, batch in enumerate(batches, start=1):
                operators.clear()
                recorder.refused.clear()
                model(**batch)
                if len(calls) != number:
                    raise _runs_often(name, len(calls) - number + 1)
                own = [one for one in operators if is_meant(one, name)]
                refused = [f"{x.mixer}: {x.reason}" for x in recorder.refused if is_meant(x, name)]
                calls[-1].operators, calls[-1].reason = _usable(own, refused, verify=True)
                done()
    finally:
        handle.remove()
    return calls


@contextmanager
def recorded(layer: Alone) -> Iterator[Callable[[LayerCall], tuple[Tensor, list[LinearOperator]]]]:
    """Yields what calls a layer as another was called: its outputs and operators, with a graph.

    Raises:
        UnsupportedMixerError: when called, no operator of the layer can be had.
    """
    operators: list[LayerOperator] = []
    with record_operators(layer, operators.append, keep_graph=True) as recorder:

        def run(call: LayerCall) -> tuple[Tensor, list[LinearOperator]]:
            operators.clear()
            recorder.refused.clear()
            outputs = first_output(layer(*call.args, **call.kwargs))
            refused = [f"{x.mixer}: {x.reason}" for x in recorder.refused]
            found, reason = _usable(operators, refused, verify=False)
            if not found:
                raise UnsupportedMixerError(
                    f"The operator of the student {type(layer.layer).__name__} is not known: "
                    f"{reason}.",
                    fix="Leave its phase out, with operator_steps=0.",
                )
            return outputs, found

        yield run


def first_output(output: Any) -> Tensor:
    """The tensor that a layer gives back, or the first of several things.

    Raises:
        InvalidInputError: it is none.
    """
    first = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(first, Tensor):
        raise InvalidInputError(
            f"The layer gives back {type(first).__name__}, where a tensor is needed.",
            fix="Choose the module that mixes the tokens.",
        )
    return first


def _usable(
    layers: Sequence[LayerOperator], refused: Sequence[str], *, verify: bool
) -> tuple[list[LinearOperator], str]:
    """All operators of a layer, or none and why."""
    if refused:
        return [], "; ".join(refused)
    if not layers:
        return [], "no adapter knows its mixer"
    if any(isinstance(layer.operator, MimoOperator) for layer in layers):
        return [], "its operator mixes channels"
    unverified = [why_unverified(layer) for layer in layers] if verify else []
    if any(unverified):
        return [], "; ".join(filter(None, unverified))
    return [layer.operator for layer in layers], ""


def _kept(value: Any) -> Any:
    """The same arguments; later layers may change tensors in place."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (tuple, list):
        return type(value)(map(_kept, value))
    if type(value) is dict:
        return {key: _kept(one) for key, one in value.items()}
    return value


def _runs_often(name: str, times: int) -> InvalidInputError:
    return InvalidInputError(
        f"The layer {name} runs {times} times in a forward pass, and has to run once.",
        causes=["it is shared by several layers" if times else "it is skipped for these inputs"],
    )
