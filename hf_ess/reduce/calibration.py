"""What truncation asks a model about: the operators of its states on given inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.analysis.model_checks import check_token_ids, input_device
from hf_ess.analysis.rebuilding import why_unverified
from hf_ess.errors import InvalidInputError, InvalidTypeError, UnsupportedMixerError
from hf_ess.operators import StateSpaceOperator, channel_gram, distance_bound
from hf_ess.reduce.channel_choice import units_gram
from hf_ess.reduce.families import StateOfMixer
from hf_ess.spectra import block_singular_values
from model_adapters import LayerOperator, record_operators

# Blocks at which the smallest possible error is computed, as parts of the text.
PARTS = (0.25, 0.5, 0.75)
Done = Callable[[], object]


@dataclass(frozen=True, eq=False)
class Calibration:
    """One mixer on the calibration inputs, before truncation.

    Attributes:
        mixer: its kind, as reports name it.
        operator: what it applied, `[B, G, L, L]`.
        gram: of the operators of its units, `[S, U, U]`, summed over what chooses together.
        norm: `||M - D||_F`, `[B, G]`.
        inputs: what the module got, `[B, L, d]`.
        features: what its reader got, `[B, L, d']`; None without one.
    """

    mixer: str
    operator: StateSpaceOperator
    gram: Tensor
    norm: Tensor
    inputs: Tensor
    features: Tensor | None

    def unbeatable(self, size: int) -> Tensor:
        """A lower bound on the error of any state of `size` numbers, float64 `[B, G]`.

        The largest singular value number `size + 1` of three blocks, less its rounding error.

        Source: Schmidt and Mirsky: no matrix of rank n is nearer in the spectral norm; a state of
        n numbers makes blocks of rank n (Parnichkun et al., ICML 2025, theorem 3.2).
        """
        length = self.operator.length
        positions = sorted({min(max(round(length * part), 1), length - 1) for part in PARTS})
        spectra = block_singular_values(self.operator, positions)
        if spectra.values.shape[-1] <= size:
            return torch.zeros_like(self.norm)
        left = spectra.values[..., size] - spectra.value_errors()[..., size]
        return left.clamp(min=0.0).amax(-1)


def model_inputs(model: nn.Module, inputs: Any) -> dict[str, Any]:
    """Arguments for a forward pass from token ids `[B, L]` or from named arguments.

    Raises:
        InvalidTypeError: neither of the two.
        InvalidInputError: fewer than two tokens, not `[B, L]`, or ids that the model does not know.
    """
    given = {"input_ids": inputs} if isinstance(inputs, Tensor) else inputs
    if not hasattr(given, "keys") or not {"input_ids", "inputs_embeds"} & set(given.keys()):
        raise InvalidTypeError(
            f"Cannot calibrate on inputs of type {type(inputs).__name__}.",
            fix="Pass token ids [B, L], or what the model is called with as a mapping.",
        )
    named = {name: given[name] for name in given.keys()}  # noqa: SIM118 - BatchEncoding
    tokens = named.get("input_ids", named.get("inputs_embeds"))
    if not isinstance(tokens, Tensor) or tokens.ndim < 2 or not len(tokens) or tokens.shape[1] < 2:
        shape = list(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InvalidInputError(
            f"Calibration needs texts of at least two tokens as a tensor [B, L], got {shape}."
        )
    if "input_ids" in named:
        _check_ids(model, tokens)
    device = input_device(model)
    placed = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in named.items()}
    return {"use_cache": False} | placed


def _check_ids(model: nn.Module, ids: Tensor) -> None:
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise InvalidTypeError(
            f"Token ids must be whole numbers, got {ids.dtype}.",
            fix='Pass vectors as {"inputs_embeds": ...}.',
        )
    if (ids < 0).any():
        raise InvalidInputError(f"Token ids begin at 0, got {int(ids.min())}.")
    check_token_ids(model, list(ids))


@torch.no_grad()
def calibrated(
    model: nn.Module, states: Sequence[StateOfMixer], inputs: Mapping[str, Any], done: Done
) -> dict[str, Calibration]:
    """What each mixer applied to the inputs, by its name.

    Raises:
        UnsupportedMixerError: an operator is not recovered, or does not rebuild the output.
        NonFiniteError: NaN or infinite features.
    """
    by_name = {state.name: state for state in states}
    received: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    found: dict[str, Calibration] = {}

    def take(layer: LayerOperator) -> None:
        if layer.name in by_name:
            operator = _verified(layer)
            state = by_name[layer.name]
            gram = units_gram(channel_gram(operator), state.units)
            norm = gram.sum((-1, -2)).clamp(min=0.0).sqrt()
            found[layer.name] = Calibration(
                mixer=layer.mixer,
                operator=operator,
                gram=state.summed(gram),
                norm=norm,
                inputs=received.pop(layer.name),
                features=read.pop(layer.name, None),
            )
            done()

    modules = {state.name: state.module for state in states}
    readers = {state.name: state.reader for state in states if state.reader is not None}
    with (
        _hooks(modules, partial(_note, received)),
        _hooks(readers, partial(_note, read)),
        record_operators(model, take) as recorder,
    ):
        model(**inputs)
    reasons = {layer.name: layer.reason for layer in recorder.refused}
    for name in by_name:
        if name not in found:
            reason = reasons.get(name, "it did not run")
            raise UnsupportedMixerError(f"The operator of {name} is not known: {reason}.")
    return found


@torch.no_grad()
def certificates(
    model: nn.Module,
    states: Sequence[StateOfMixer],
    before: Mapping[str, Calibration],
    inputs: Mapping[str, Any],
    done: Done,
) -> dict[str, Tensor]:
    """Upper bounds on `||M - M_kept||_F` `[B, G]` of what the smaller model really applies.

    Each of its mixers gets the inputs that the whole one got, whatever the layers before it do.
    """
    found: dict[str, Tensor] = {}

    def take(layer: LayerOperator) -> None:
        if layer.name in before:
            found[layer.name] = distance_bound(before[layer.name].operator, _verified(layer))
            done()

    modules = {state.name: state.module for state in states}
    with _hooks(modules, partial(_replace, before)), record_operators(model, take):
        model(**inputs)
    return found


def _verified(layer: LayerOperator) -> StateSpaceOperator:
    operator = layer.operator
    if not isinstance(operator, StateSpaceOperator):
        raise UnsupportedMixerError(f"The operator of {layer.name} is no state space.")
    reason = why_unverified(layer)
    if reason:
        raise UnsupportedMixerError(f"The operator of {layer.name} is not known: {reason}.")
    return operator


@contextmanager
def _hooks(
    modules: Mapping[str, nn.Module], hook: Callable[[str, Any, Any], Any]
) -> Iterator[None]:
    """Calls the hook with the name, the arguments and the keywords of each module that runs."""
    with ExitStack() as stack:
        for name, module in modules.items():

            def called(module: Any, args: Any, kwargs: Any, name: str = name) -> Any:
                return hook(name, args, kwargs)

            handle = module.register_forward_pre_hook(called, with_kwargs=True)
            stack.callback(handle.remove)
        yield


def _note(received: dict[str, Tensor], name: str, args: Any, kwargs: Any) -> None:
    received[name] = args[0] if args else kwargs["hidden_states"]


def _replace(before: Mapping[str, Calibration], name: str, args: Any, kwargs: Any) -> Any:
    own = before[name].inputs
    return ((own, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": own})
