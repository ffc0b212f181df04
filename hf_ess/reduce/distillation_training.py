"""The training of one student layer: first on operators, then on what the layer gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_ess.arguments import check_number, check_whole
from hf_ess.errors import (
    HfEssError,
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
    NotDifferentiableError,
    UnsupportedMixerError,
)
from hf_ess.operators.frobenius import MEMORY_BUDGET
from hf_ess.reduce.layer_calls import Alone, LayerCall, first_output, recorded
from hf_ess.reduce.matching import activation_loss, check_operators, operator_loss

# Of the texts, one in so many is held out.
HELD_OUT = 8
# The terms of a loss, to be added.
Loss = Callable[[LayerCall], Iterator[Tensor]]


@dataclass(frozen=True)
class DistillationSettings:
    """How a student is trained; the arguments of `hf_ess.reduce.distill`.

    Raises:
        InvalidTypeError: a value of a wrong type.
        InvalidInputError: a value out of range.
    """

    operator_steps: int = 800
    activation_steps: int = 3200
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 8
    held_out: int | None = None
    seed: int = 0
    memory_budget: int = MEMORY_BUDGET

    def __post_init__(self) -> None:
        for name in ("operator_steps", "activation_steps", "seed"):
            check_whole(name, getattr(self, name), least=0)
        for name in ("batch_size", "memory_budget"):
            check_whole(name, getattr(self, name), least=1)
        if self.held_out is not None:
            check_whole("held_out", self.held_out, least=1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("weight_decay", self.weight_decay, least=0)

    @classmethod
    def of(cls, given: dict[str, Any]) -> DistillationSettings:
        """Settings from names and values.

        Raises:
            InvalidTypeError: an unknown name, or as the class.
            InvalidInputError: as the class.
        """
        known = [entry.name for entry in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise InvalidTypeError(
                f"There is no setting {unknown[0]!r}.", fix=f"It is one of {', '.join(known)}."
            )
        return cls(**given)

    def split(self, texts: int) -> int:
        """How many of the texts are trained on; the last ones are held out.

        Raises:
            InvalidInputError: nothing would be left.
        """
        held = max(1, texts // HELD_OUT) if self.held_out is None else self.held_out
        if held >= texts:
            raise InvalidInputError(
                f"Of {texts} text(s) {held} are held out, so that none is left to train on.",
                fix="Give more texts.",
            )
        return texts - held


@dataclass(frozen=True)
class DistillationErrors:
    """How far a student is from its teacher on texts that it was not trained on.

    A `DistilledLayer` has them of before and after its training.

    Attributes:
        operator: mean of `||M_s - M_t||_F^2 / ||M_t||_F^2`; None where operators are not matched.
        activation: mean of `||y_s - y_t||^2 / ||y_t||^2`.
    """

    operator: float | None
    activation: float


class StudentTraining:
    """A student layer, what its teacher was called with, and how they are matched.

    Args:
        student: trained in place.
        teacher: name of the teacher, for messages.
        calls: of the teacher on the texts to train on.
        held: of the teacher on the texts that are held out.
        settings: of the training.
        done: called after every step.

    Raises:
        InvalidTypeError, InvalidInputError: the student cannot take the teacher's place.
        UnsupportedMixerError: operators are to be matched, and are not known.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: str,
        calls: Sequence[LayerCall],
        held: Sequence[LayerCall],
        settings: DistillationSettings,
        done: Callable[[], object],
    ) -> None:
        self.student = Alone(student)
        self.teacher = teacher
        self.calls, self.held = calls, held
        self.settings = settings
        self.done = done
        self._order = torch.Generator().manual_seed(settings.seed)
        self._check_outputs()
        self.matched = self._operators_match()

    def match_operators(self) -> NDArray[np.float64]:
        """The phase of the operators; its loss at each step.

        Raises:
            NonFiniteError: the loss is NaN or infinite.
            NotDifferentiableError: nothing of the student shapes its operators.
        """
        if not self.settings.operator_steps:
            return np.zeros(0)
        with recorded(self.student) as run:

            def loss(call: LayerCall) -> Iterator[Tensor]:
                return self._operator_loss(run(call)[1], call)

            return self._trained(loss, self.settings.operator_steps, "operators")

    def match_activations(self) -> NDArray[np.float64]:
        """The phase of the activations; its loss at each step.

        Raises:
            NonFiniteError: the loss is NaN or infinite.
            NotDifferentiableError: the student has nothing to train.
        """

        def loss(call: LayerCall) -> Iterator[Tensor]:
            yield activation_loss(self._outputs(call), call.outputs)

        return self._trained(loss, self.settings.activation_steps, "activations")

    @torch.no_grad()
    def errors(self) -> DistillationErrors:
        """Of the student as it is, on the held-out texts.

        Raises:
            NonFiniteError: one is NaN or infinite.
        """
        weights = np.array([call.texts for call in self.held], dtype=np.float64)
        operator = None
        with self._finite("On the held-out texts"):
            losses = [activation_loss(self._outputs(call), call.outputs) for call in self.held]
            activation = _finite(float(np.average([*map(float, losses)], weights=weights)))
            if self.matched:
                with recorded(self.student) as run:
                    found = [sum(self._operator_loss(run(c)[1], c)) for c in self.held]
                operator = _finite(float(np.average([*map(float, found)], weights=weights)))
        return DistillationErrors(operator, activation)

    def _operator_loss(self, operators: Any, call: LayerCall) -> Iterator[Tensor]:
        budget = self.settings.memory_budget
        with torch.no_grad():
            squares = call.squared_norms(budget)
        return operator_loss(operators, call.operators, squares, budget)

    def _trained(self, loss: Loss, steps: int, what: str) -> NDArray[np.float64]:
        weights = [weight for weight in self.student.parameters() if weight.requires_grad]
        if not weights:
            raise NotDifferentiableError(
                "The student has no weight that is trained.",
                fix="Set requires_grad on the weights of the student.",
            )
        settings = self.settings
        optimizer = torch.optim.AdamW(
            weights, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        losses = np.zeros(steps)
        with torch.enable_grad():
            for step, call in enumerate(self._calls_in_order(steps)):
                optimizer.zero_grad()
                with self._finite(f"Step {step} of matching {what}"):
                    for part in loss(call):
                        losses[step] += _finite(part.item())
                        _backward(part, what)
                optimizer.step()
                self.done()
        optimizer.zero_grad()
        return losses

    def _calls_in_order(self, steps: int) -> Iterator[LayerCall]:
        """Each call once, in another order each time, until there are as many as steps."""
        left = steps
        while left > 0:
            order = torch.randperm(len(self.calls), generator=self._order)[:left]
            left -= len(order)
            yield from (self.calls[number] for number in order.tolist())

    def _outputs(self, call: LayerCall) -> Tensor:
        return first_output(self.student(*call.args, **call.kwargs))

    @torch.no_grad()
    def _check_outputs(self) -> None:
        call = self.held[0]
        kind = type(self.student.layer).__name__
        try:
            outputs = self._outputs(call)
        except HfEssError:
            raise
        except (TypeError, RuntimeError) as error:
            reason = (str(error).splitlines() or ["no message"])[0]
            raise InvalidTypeError(
                f"The student {kind} cannot be called as {self.teacher} is: {reason}.",
                causes=["it takes other arguments", "it has another width"],
                fix="Give a module that takes the arguments of the layer, or wrap it in one.",
            ) from error
        if outputs.shape != call.outputs.shape:
            raise InvalidInputError(
                f"The student {kind} gives back {list(outputs.shape)}, {self.teacher} "
                f"{list(call.outputs.shape)}.",
                fix="Give a student of the same width.",
            )

    @torch.no_grad()
    def _operators_match(self) -> bool:
        """Whether there are operators to compare; if they are to be matched, there have to be."""
        call = self.held[0]
        try:
            if not call.operators:
                raise UnsupportedMixerError(
                    f"The operator of {self.teacher} is not known: {call.reason}.",
                    fix="Match its outputs alone, with operator_steps=0.",
                )
            with recorded(self.student) as run:
                check_operators(run(call)[1], call.operators)
        except (InvalidInputError, UnsupportedMixerError):
            if self.settings.operator_steps:
                raise
            return False
        return True

    @contextmanager
    def _finite(self, where: str) -> Iterator[None]:
        """Says where it was that something became NaN or infinite, and why that may be."""
        try:
            yield
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{where}: {error.what}",
                causes=[
                    f"a learning rate that is too high ({self.settings.learning_rate:g})",
                    f"NaN in the student, or in what {self.teacher} computes",
                ],
                fix="Lower the learning rate, or look at the outputs of the layer.",
            ) from error


def _finite(loss: float) -> float:
    if not math.isfinite(loss):
        raise NonFiniteError(f"The distance of the student is {loss}.")
    return loss


def _backward(part: Tensor, what: str) -> None:
    if not part.requires_grad:
        raise NotDifferentiableError(
            f"Nothing that is trained in the student shapes its {what}.",
            fix="Leave this phase out, or set requires_grad on the weights of the student.",
        )
    # The next part of the loss goes back through the same features.
    torch.autograd.backward(part, retain_graph=True)
