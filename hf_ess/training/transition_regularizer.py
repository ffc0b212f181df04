"""The paper's regularizer: transitions near the identity keep what was written."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hf_ess.errors import UnsupportedModelError
from hf_ess.operators import LinearOperator, StateSpaceOperator
from hf_ess.operators.compositions import Composition
from hf_ess.training.regularizer import Regularizer
from model_adapters import LayerOperator
from model_adapters.layer_choice import Layers


class TransitionRegularizer(Regularizer):
    """`weight * mean |A_i - I|_F`, over layers, samples, groups and steps.

    For every mixer with a transition: selective state spaces, linear attention with decays, delta
    rules. The paper adds it to the second of two mixers only and finds that best (`layers=[1]`),
    with weights 2^-3 .. 2^5; how it averages over steps and heads is not said there, the mean is
    ours. Transitions of scalar decays count as the N x N matrices that they are. Layers without a
    transition (attention, convolutions) are left out, unless `layers` names them.

    Args:
        model: the model that trains.
        weight: lambda; 0 switches everything off.
        layers: indices or names, None for all that have a transition.

    Raises:
        InvalidTypeError: an argument is of a wrong type.
        InvalidInputError: a weight out of range, or an empty choice of layers.
        UnsupportedModelError: when called, no layer has a transition.

    Source: Parnichkun et al., ICML 2025, appendix A.

    Example:
        >>> import torch, hf_ess
        >>> from transformers import MambaConfig, MambaForCausalLM
        >>> config = MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=16)
        >>> model, ids = MambaForCausalLM(config), torch.randint(0, 16, (1, 12))
        >>> with hf_ess.TransitionRegularizer(model, weight=0.125, layers=[1]) as penalty:
        ...     loss = model(ids, labels=ids).loss + penalty()
        >>> loss.backward()
    """

    def __init__(self, model: nn.Module, *, weight: float = 1.0, layers: Layers = None) -> None:
        super().__init__(model, weight=weight, layers=layers)

    def _applies_to(self, layer: LayerOperator) -> bool:
        return next(recurrences_of(layer.operator), None) is not None

    def _none_applies(self) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"No layer of {type(self.model).__name__} has a transition from state to state.",
            causes=["its mixers are attention or convolutions"],
            fix="Use ESSRegularizer, which needs no transition.",
        )

    def _term(self, layer: LayerOperator) -> Tensor:
        distances = [
            recurrence.transition_from_identity().mean()
            for recurrence in recurrences_of(layer.operator)
        ]
        return torch.stack(distances).mean()


def recurrences_of(operator: LinearOperator) -> Iterator[StateSpaceOperator]:
    """The recurrences that an operator is, or is made of."""
    if isinstance(operator, StateSpaceOperator):
        yield operator
    elif isinstance(operator, Composition):
        for part in operator.parts:
            yield from recurrences_of(part)
