"""What all loss terms on operators share: watching the model, choosing layers, adding up."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor, nn

from hf_ess.analysis.model_checks import check_module
from hf_ess.arguments import check_number
from hf_ess.errors import (
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
    NotDifferentiableError,
    UnsupportedMixerError,
    UnsupportedModelError,
)
from hf_ess.training.proofs import objection
from hf_ess.training.undisturbed import without_autocast
from model_adapters import LayerOperator, Recorder, RefusedLayer, record_operators
from model_adapters.layer_choice import Layers, checked_layers, is_meant, names_of_layers

Entered = TypeVar("Entered", bound="Regularizer")


class Regularizer(ABC):
    """A loss term on the operators that chosen layers applied in the latest forward pass.

    `ESSRegularizer`, `TransitionRegularizer` and `HankelRegularizer` are such terms.

    While the context is open, every forward pass of the model hands over its operators; a call
    gives the term of the latest pass, weighted, and lets go of them. What the model computes does
    not change. With a weight of 0 nothing is watched, and the term is 0 exactly.

    Refused, if they are among the chosen layers, are mixers whose adapter keeps no graph, and
    those whose operator is not causal or does not rebuild what the mixer gave back. The latter is
    seen the first time that a mixer runs without dropout; with dropout its output is another one.
    Padding counts as text.

    Args:
        model: in training or evaluation mode.
        weight: factor on the term, finite and not negative.
        layers: indices or names, None for all.

    Raises:
        InvalidTypeError: an argument is of a wrong type.
        InvalidInputError: a weight that is negative or not finite, or an empty choice of layers.
        UnsupportedModelError: an encoder-decoder, or weights on the meta device.
    """

    def __init__(self, model: nn.Module, *, weight: float, layers: Layers) -> None:
        if not isinstance(model, nn.Module):
            raise InvalidTypeError(
                f"A regularizer needs a torch.nn.Module, got {type(model).__name__}."
            )
        check_module(model)
        self.model = model
        self.weight = check_number(
            "weight",
            weight,
            least=0,
            fix="Choose the direction by the target, not by the sign of the weight.",
        )
        self.layers = checked_layers(layers)
        self._stack: ExitStack | None = None
        self._recorder: Recorder | None = None
        self._taken: dict[tuple[str, int], LayerOperator] = {}
        self._objections: dict[tuple[str, int], str] = {}

    def __enter__(self: Entered) -> Entered:
        if self._stack is not None:
            raise InvalidInputError("This regularizer is watching its model already.")
        stack = ExitStack()
        if self.weight:
            recording = record_operators(self.model, self._take, keep_graph=True)
            self._recorder = stack.enter_context(recording)
        self._stack = stack
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stack, self._stack = self._stack, None
        self._recorder = None
        self._taken.clear()
        if stack is not None:
            stack.close()

    def __call__(self) -> Tensor:
        """The term of the latest forward pass, a number in float32 (float64 for such a model).

        Raises:
            InvalidInputError: the context is closed, no pass ran since the last call, or no layer
                is of that name.
            UnsupportedMixerError: the graph of a chosen layer cannot be kept, or its operator is
                not the one that it applied.
            UnsupportedModelError: no layer has what the term is about.
            NotDifferentiableError: no weight behind the operators is trained.
            NonFiniteError: the term is NaN or infinite; says in which layer.
        """
        dtype = self._dtype()
        if not self.weight:
            return torch.zeros((), dtype=dtype, device=next(self.model.parameters()).device)
        recorder = self._watching()
        chosen = self._chosen(*self._latest(recorder))
        with recorder.unobserved():
            terms = [self._checked_term(layer) for layer in chosen]
        total = torch.stack([term.to(terms[0].device) for term in terms]).mean()
        if torch.is_grad_enabled() and not total.requires_grad:
            raise NotDifferentiableError(
                "The loss term has no gradient.",
                causes=[
                    "the forward pass ran under torch.no_grad",
                    "the weights of the chosen layers and of those before are frozen",
                    "no weight shapes what the term is about (linear attention has A = I)",
                ],
                fix="Run the model with gradients, or set requires_grad on what is trained.",
            )
        return (self.weight * total).to(dtype)

    @abstractmethod
    def _term(self, layer: LayerOperator) -> Tensor:
        """The term of one layer, a float64 number."""

    def _applies_to(self, layer: LayerOperator) -> bool:
        """Whether the operator has what the term is about."""
        return True

    def _none_applies(self) -> UnsupportedModelError:
        """The error of a model without a layer that the term applies to."""
        return UnsupportedModelError(
            f"No layer of {type(self.model).__name__} has an operator to regularize.",
            causes=["none of its mixers is known, or none ran"],
            fix="`hf-ess adapters` lists what is known.",
        )

    def _take(self, layer: LayerOperator) -> None:
        if self.layers is not None and not any(is_meant(layer, name) for name in self.layers):
            return
        key = layer.name, layer.call
        if key in self._taken:  # a new forward pass
            self._taken.clear()
        self._taken[key] = layer
        # Now, since later layers may change outputs in place.
        if self._applies_to(layer) and self._recorder is not None:
            with self._recorder.unobserved():
                self._objections[key] = without_autocast(partial(objection, self.model))(layer)

    def _watching(self) -> Recorder:
        if self._recorder is None:
            raise InvalidInputError(
                f"{type(self).__name__} is not watching the model.",
                fix="Call it within the context: `with regularizer: ...`.",
            )
        return self._recorder

    def _latest(self, recorder: Recorder) -> tuple[list[LayerOperator], list[RefusedLayer]]:
        """What the latest pass left, which is forgotten here."""
        taken, refused = list(self._taken.values()), list(recorder.refused)
        self._taken.clear()
        recorder.refused.clear()
        if not taken and not refused:
            raise InvalidInputError(
                "No operator was recorded since the last call.",
                causes=["the model did not run", "another copy of the model ran (model.module)"],
                fix="Run the model once before each call, within the context.",
            )
        return taken, refused

    def _chosen(
        self, taken: list[LayerOperator], refused: list[RefusedLayer]
    ) -> list[LayerOperator]:
        names = names_of_layers([*taken, *refused], self.layers)
        for other in refused:
            if other.name in names:
                raise UnsupportedMixerError(
                    f"Layer {other.name} ({other.mixer}) cannot be regularized: {other.reason}.",
                    fix="Name other layers in `layers`.",
                )
        fitting = []
        for layer in taken:
            if self._applies_to(layer):
                fitting.append(self._unobjectionable(layer))
            elif self.layers is not None:
                raise UnsupportedMixerError(
                    f"Layer {layer.name} ({layer.mixer}) was chosen, but {type(self).__name__} "
                    "says nothing about its operator.",
                    fix="Name other layers in `layers`.",
                )
        if not fitting:
            raise self._none_applies()
        return fitting

    def _unobjectionable(self, layer: LayerOperator) -> LayerOperator:
        if reason := self._objections.get((layer.name, layer.call)):
            raise UnsupportedMixerError(
                f"Layer {layer.name} ({layer.mixer}) cannot be regularized: {reason}.",
                fix="Name other layers in `layers`; hf_ess.analyze says which are verified.",
            )
        return layer

    def _checked_term(self, layer: LayerOperator) -> Tensor:
        try:
            term = self._term(layer)
        except NonFiniteError as error:
            raise _diverged(layer, error.what) from error
        if not math.isfinite(term.item()):
            raise _diverged(layer, f"The loss term is {term.item()}.")
        return term

    def _dtype(self) -> torch.dtype:
        wide = any(weight.dtype == torch.float64 for weight in self.model.parameters())
        return torch.float64 if wide else torch.float32


def _diverged(layer: LayerOperator, what: str) -> NonFiniteError:
    return NonFiniteError(
        f"Layer {layer.name} ({layer.mixer}): {what}",
        causes=["the training diverged, or its loss is NaN already", "an overflow in float16"],
        fix="Lower the learning rate or the weight of the term, or clip gradients.",
    )
