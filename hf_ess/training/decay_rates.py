"""Decay rates `[1 .. N]` divided by alpha: states of S6 and its kind that last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_ess.arguments import check_number
from hf_ess.errors import InvalidTypeError, UnsupportedModelError
from hf_ess.operators import LinearOperator, StateSpaceOperator
from hf_ess.operators.steps import DiagonalSteps, LowRankSteps
from hf_ess.training.noise import run_on, trial_inputs
from hf_ess.training.transition_regularizer import recurrences_of
from hf_ess.training.undisturbed import undisturbed
from model_adapters import LayerOperator, record_operators
from model_adapters.layer_choice import Layers, checked_layers, is_meant, names_of_layers
from model_adapters.recorder import layer_index

# What mixers call the logarithm of their decay rates. A name alone is not believed.
LOG_RATES = ("A_log", "log_rate")
# The proof halves rates and looks at the logarithms of decays, in the dtype of the weights.
PROOF = 2.0
FINEST = 1e-5
ROUNDINGS = 16.0
SMALLEST_DECAY = 1e-300


@dataclass(frozen=True)
class DecayRates:
    """Rates of one mixer, `A = exp(-exp(parameter) ..)`.

    Attributes:
        name: dotted name of the module that has them, the mixer or a part of it.
        index: number of its layer.
        module: that module.
        parameter: logarithms of the rates, a weight of it.
    """

    name: str
    index: int
    module: nn.Module
    parameter: nn.Parameter

    def belong_to(self, mixer: str) -> bool:
        """Whether a mixer of this name is the module or holds it."""
        return is_meant(self, mixer)


@dataclass(frozen=True)
class _Applied:
    """Decays and write vectors of one recurrence, float64."""

    decay: Tensor
    write: Tensor


def divide_decay_rates(
    model: nn.Module, alpha: float, *, layers: Layers = None, inputs: Tensor | None = None
) -> tuple[str, ...]:
    """Divides the decay rates of a model by alpha, in place: `A = exp(-rate / alpha ..)`.

    Rates of S6, Mamba and GLA-S6 begin as [1 .. N]: all but the first few states are gone after a
    token, and a larger N adds none that last. Divided by alpha they last alpha times longer.
    Only A changes; scaling the steps dt of S6 would scale B too.

    Nothing is believed by its name: the model runs on a few tokens before and after the rates of
    one mixer of each class are halved, and the recorded operators must show decays of half the
    logarithm and the same B.

    Args:
        model: a model or a mixer, best before its training.
        alpha: positive; 2^10 .. 2^14 in the paper.
        layers: indices or names, None for all whose rates are known.
        inputs: vectors `[B, L, d]` or token ids `[B, L]` for that run, for a mixer alone that
            does not say how wide its inputs are.

    Returns:
        The names of the modules that changed, in order.

    Raises:
        InvalidTypeError: no model, or alpha is no number.
        InvalidInputError: alpha is not positive and finite, or a layer is not there.
        UnsupportedModelError: no mixer has rates that are known, or one of the chosen layers does
            not apply them as decays.

    Source: Parnichkun et al., ICML 2025, section 5.1 and appendix D.2 (GLA-S6); that it is done
    to Mamba and gated delta rules is ours.

    Example:
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> from hf_ess.training import divide_decay_rates
        >>> model = build_model(SyntheticConfig(["S6", "GLA"], vocab_size=16, state_size=4))
        >>> divide_decay_rates(model, 1024)
        ('layers.0.mixer',)
        >>> (1024 * model.layers[0].mixer.log_rate[0].exp()).round().tolist()
        [1.0, 2.0, 3.0, 4.0]
    """
    shift = math.log(checked_alpha(alpha))
    rates = known_decay_rates(model, layers=layers, inputs=inputs)
    _add_to([one.parameter for one in rates], -shift)
    return tuple(one.name for one in rates)


@contextmanager
def divided_decay_rates(rates: Sequence[DecayRates], alpha: float) -> Iterator[None]:
    """The same for a while: afterwards the rates are what they were, to the bit."""
    kept = [(one.parameter, one.parameter.detach().clone()) for one in rates]
    try:
        _add_to([one.parameter for one in rates], -math.log(alpha))
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)


def known_decay_rates(
    model: nn.Module, *, layers: Layers = None, inputs: Tensor | None = None
) -> list[DecayRates]:
    """The rates of every mixer that has some, proved by its operators.

    Raises:
        InvalidTypeError, InvalidInputError, UnsupportedModelError: as `divide_decay_rates`.

    Example:
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["S6", "GLA"], vocab_size=16, state_size=4))
        >>> [(one.index, one.parameter.shape) for one in known_decay_rates(model)]
        [(0, torch.Size([64, 4]))]
    """
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"Rates are those of a torch.nn.Module, not of {model!r}.")
    chosen = checked_layers(layers)
    found = list(named_decay_rates(model))
    names = names_of_layers(found, chosen) if found else set()
    wanted = [one for one in found if one.name in names]
    objections = _objections(model, wanted, inputs)
    known = [one for one in wanted if type(one.module) not in objections]
    if not known or (chosen is not None and objections):
        raise _unknown(model, [f"{_kind(one)}: {why}" for one, why in objections.values()])
    return known


def named_decay_rates(model: nn.Module) -> Iterator[DecayRates]:
    """Weights that have the name of rates, unproved."""
    for name, module in model.named_modules():
        for rate in LOG_RATES:
            parameter = dict(module.named_parameters(recurse=False)).get(rate)
            if parameter is not None and parameter.is_floating_point():
                index = layer_index(name, otherwise=-1)
                yield DecayRates(name or type(module).__name__, index, module, parameter)


def checked_alpha(alpha: float) -> float:
    """A positive finite number.

    Raises:
        InvalidTypeError: no number.
        InvalidInputError: zero, negative, NaN or infinite.
    """
    return check_number("alpha", alpha, above=0, fix="Use for example 1024.")


def _add_to(parameters: Sequence[nn.Parameter], shift: float) -> None:
    """Adds a number to weights, once where several mixers share one."""
    with torch.no_grad():
        for parameter in {id(parameter): parameter for parameter in parameters}.values():
            parameter.add_(shift)


def _unknown(model: nn.Module, objections: Sequence[str]) -> UnsupportedModelError:
    if objections:
        return UnsupportedModelError(
            f"{type(model).__name__} has weights that are named as decay rates are, and are none.",
            causes=objections,
            fix="Name other layers in `layers`, if there are some.",
        )
    return UnsupportedModelError(
        f"No mixer of {type(model).__name__} has decay rates that are known.",
        causes=[
            f"no mixer has a weight {' or '.join(LOG_RATES)}",
            "attention and convolutions have no decay; that of GLA, WLA, RG-LRU and RWKV is no "
            "rate [1 .. N] times a step",
        ],
        fix="Choose another initialization of the decays in the code of the model.",
    )


def _kind(one: DecayRates) -> str:
    return f"{one.name} ({type(one.module).__name__})"


def _objections(
    model: nn.Module, rates: Sequence[DecayRates], inputs: Tensor | None
) -> dict[type[nn.Module], tuple[DecayRates, str]]:
    """Of which classes halved rates do not halve the logarithms of decays, shown by one of each."""
    shown = {type(one.module): one for one in reversed(rates)}
    found: dict[type[nn.Module], tuple[DecayRates, str]] = {}
    if not shown:
        return found
    with undisturbed(model):
        inputs = trial_inputs(model) if inputs is None else inputs
        before = _applied(model, inputs, list(shown.values()))
        for kind, one in shown.items():
            with divided_decay_rates([one], PROOF):
                after = _applied(model, inputs, [one])
            why = _objection(before[one.name], after[one.name], one.parameter.dtype)
            if why:
                found[kind] = one, why
    return found


def _applied(
    model: nn.Module, inputs: Tensor, rates: Sequence[DecayRates]
) -> dict[str, list[_Applied]]:
    """What the recurrences of the mixers with these rates apply on these inputs."""
    found: dict[str, list[_Applied]] = {one.name: [] for one in rates}

    def note(layer: LayerOperator) -> None:
        for one in rates:
            if one.belong_to(layer.name):
                found[one.name] += _parts(layer.operator)

    with record_operators(model, note):
        run_on(model, inputs)
    return found


def _parts(operator: LinearOperator) -> Iterator[_Applied]:
    for recurrence in recurrences_of(operator):
        yield from _of_recurrence(recurrence)


def _of_recurrence(recurrence: StateSpaceOperator) -> Iterator[_Applied]:
    stretch = recurrence.stretch(slice(0, recurrence.groups), 0, recurrence.length)
    if isinstance(stretch.steps, DiagonalSteps):
        yield _Applied(stretch.steps.decay, stretch.write)
    elif isinstance(stretch.steps, LowRankSteps):
        yield _Applied(stretch.steps.diagonal, stretch.write)


def _objection(before: list[_Applied], after: list[_Applied], dtype: torch.dtype) -> str:
    """Why halved rates are not what the operators show, empty where they are."""
    if not before or len(before) != len(after):
        return "no operator with decays was recorded of it"
    rtol = max(FINEST, ROUNDINGS * torch.finfo(dtype).eps)
    moved = False
    for old, new in zip(before, after, strict=True):
        present = (old.decay > SMALLEST_DECAY) & (new.decay > SMALLEST_DECAY)
        slow, fast = new.decay[present].log(), old.decay[present].log()
        if not torch.allclose(PROOF * slow, fast, rtol=rtol, atol=rtol * FINEST):
            return "its decays do not follow it"
        if not torch.allclose(new.write, old.write, rtol=rtol, atol=0.0):
            return "it changes what is written to the state too"
        moved = moved or bool((fast < -FINEST).any())
    return "" if moved else "nothing decays there"
