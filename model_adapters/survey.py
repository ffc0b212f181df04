"""A short trial run: which mixers does a model have, and does an adapter know each of them?

The registered adapters say what they record; every module outside of those is asked whether it
lets one token reach another. A module that does is a mixer of an unknown kind and is named. What
a module does between its submodules, beside a mixer that an adapter knows, is not asked.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from model_adapters.recorder import LayerOperator, RefusedLayer, layer_index
from model_adapters.recording import eager_execution, record_operators, unrecorded
from model_adapters.weights import is_packed

# Modules of these exact types treat every token alone.
_POINTWISE = (
    nn.Linear, nn.Embedding, nn.Dropout, nn.Identity, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh,
    nn.Sigmoid, nn.Softmax,
)  # fmt: skip

# Largest change of a token by how others are rounded, relative to the largest feature.
PACKED_ROUNDING = 0.05


@dataclass(frozen=True)
class SurveyedMixer:
    """A mixer that an adapter recorded in the trial run of `survey`.

    A `Survey` lists them.

    Attributes:
        name: dotted path of the module.
        index: number of the layer that the module belongs to.
        mixer: its family.
        call: 0 for the first operator of the module in a forward pass, 1 for the next, ...
        future_share: how much of the operator lies above the diagonal, 0 for a causal one.
        groups: G.
        state_size: per channel; None where it grows with the text.
    """

    name: str
    index: int
    mixer: str
    call: int
    future_share: float
    groups: int = 0
    state_size: int | None = None


@dataclass(frozen=True)
class Survey:
    """What a trial run found.

    `model_adapters.survey` gives it back.

    Attributes:
        mixers: operators that adapters recorded, in order.
        refused: mixers that an adapter knows and whose operator it could not have.
        unclaimed: modules that mix tokens and that no adapter claims.
    """

    mixers: list[SurveyedMixer]
    refused: list[RefusedLayer]
    unclaimed: list[RefusedLayer]


def survey(
    model: nn.Module,
    run: Callable[[], object],
    length: int,
    future_share: Callable[[Tensor], float],
) -> Survey:
    """Runs the model twice on a short text and lists its mixers in a `Survey`.

    Args:
        model: the model, in evaluation mode.
        run: runs the model on `length` tokens of one sample.
        length: number of tokens of the trial text.
        future_share: how much of an operator `[B, G, L, L]` lies above its diagonal.
    """
    mixers: list[SurveyedMixer] = []

    def note(layer: LayerOperator) -> None:
        operator = layer.operator
        share = future_share(operator.to_dense())
        sizes = operator.groups, operator.state_size
        mixers.append(
            SurveyedMixer(layer.name, layer.index, layer.mixer, layer.call, share, *sizes)
        )

    with record_operators(model, note) as recorder:
        run()
    mixing = _modules_that_mix(model, run, range(length, length + 1), recorder.claimed)
    if not (mixers or recorder.refused or mixing):
        # Models that put a prompt before the text or pad it run on more tokens than they got.
        mixing = _modules_that_mix(model, run, range(length, sys.maxsize), recorder.claimed)
    unclaimed = [
        RefusedLayer(
            name,
            layer_index(name, otherwise=-1),
            type(module).__name__,
            "it lets earlier tokens reach later ones, and no adapter knows its operator",
        )
        for name, module in mixing.items()
    ]
    return Survey(mixers, recorder.refused, unclaimed)


def _modules_that_mix(
    model: nn.Module, run: Callable[[], object], lengths: range, claimed: set[str]
) -> dict[str, nn.Module]:
    """The innermost modules outside of the claimed ones in which a token reaches later ones."""
    mixing: dict[str, nn.Module] = {}
    asking = _Asking()
    named = dict(model.named_modules())
    mixers = {named[name] for name in claimed if name in named}
    handles = []
    try:
        for name, module in named.items():
            if type(module) in _POINTWISE or not name or _related(name, module, claimed, mixers):
                continue
            handles.append(
                module.register_forward_hook(_asks(name, lengths, mixing, asking), with_kwargs=True)
            )
        with unrecorded(model), eager_execution(model):
            run()
    finally:
        for handle in handles:
            handle.remove()
    return _innermost(mixing)


def _innermost(mixing: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Those that hold no other, where a shift without weights counts to the mixer around it."""
    weighted = {name for name, module in mixing.items() if any(True for _ in module.parameters())}
    mixers = {
        name
        for name in mixing
        if name in weighted or not any(name.startswith(f"{other}.") for other in weighted)
    }
    return {
        name: module
        for name, module in mixing.items()
        if name in mixers and not any(other.startswith(f"{name}.") for other in mixers)
    }


def _related(name: str, module: nn.Module, claimed: set[str], mixers: set[nn.Module]) -> bool:
    """Whether a module is claimed, holds a claimed one, or is a part of one.

    A mixer that several layers share has one name and is held by all of them.
    """
    return any(part in mixers for part in module.modules()) or any(
        name == other or other.startswith(f"{name}.") or name.startswith(f"{other}.")
        for other in claimed
    )


@dataclass
class _Asking:
    """Who asks, and whether a module runs again now: what is inside of it is poisoned already."""

    busy: bool = False
    thread: int = field(default_factory=threading.get_ident)


def _asks(
    name: str, lengths: range, mixing: dict[str, nn.Module], asking: _Asking
) -> Callable[..., None]:
    """A forward hook that runs the module again with its first token poisoned."""

    def ask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        features = None if asking.busy else token_features(args, kwargs, lengths)
        if features is None or not is_sequence(first_tensor(output), lengths):
            return
        asking.busy = True
        try:
            if _first_token_reaches_others(module, args, kwargs, features, output):
                mixing[name] = module
        finally:
            asking.busy = False

    def hook(*given: Any) -> None:
        # What runs the model in another thread is not asked, and must get what it computes.
        if threading.get_ident() == asking.thread:
            ask(*given)

    return hook


def _first_token_reaches_others(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], features: Tensor, output: Any
) -> bool:
    """NaN spreads exactly as far as the token's influence, whatever its size."""
    poisoned = features.clone()
    poisoned[:, 0] = torch.nan

    def exchanged(value: Any) -> Any:
        return poisoned if value is features else value

    with torch.no_grad():
        try:
            again = module.forward(
                *(exchanged(arg) for arg in args),
                **{name: exchanged(value) for name, value in kwargs.items()},
            )
        except (RuntimeError, ValueError, IndexError):
            # Code that cannot run on NaN (a router that sorts, a check of values) is asked with
            # another number instead.
            poisoned[:, 0] = features[:, 0] * 2 + 1
            again = module.forward(
                *(exchanged(arg) for arg in args),
                **{name: exchanged(value) for name, value in kwargs.items()},
            )
    before, after = first_tensor(output), first_tensor(again)
    if before is None or after is None:
        return False
    # Not torch.equal: kernels may round a token differently when their batch looks different, and
    # those of packed weights choose by the whole batch which channels they round.
    packed = any(is_packed(weight) for weight in module.parameters())
    atol = PACKED_ROUNDING * float(before.abs().max()) if packed else 1e-4
    same = torch.isclose(after[:, 1:], before[:, 1:], rtol=1e-3, atol=atol)
    return not bool(same.all())


def token_features(args: tuple[Any, ...], kwargs: dict[str, Any], lengths: range) -> Tensor | None:
    """The argument of a module that holds features of every token, None if there is none."""
    values = (*args, *(kwargs[name] for name in ("hidden_states", "x") if name in kwargs))
    return next((value for value in values if is_sequence(value, lengths)), None)


def is_sequence(value: Any, lengths: range) -> bool:
    """Whether a value is features of every token, `[B, L, D]`."""
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim == 3
        and value.shape[1] in lengths
    )


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor of what a module returned, however it is wrapped."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)) and output:
        return first_tensor(output[0])
    values = getattr(output, "values", None)
    return first_tensor(list(values())) if callable(values) else None
