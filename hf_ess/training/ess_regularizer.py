"""A loss term that moves the effective state-size of layers towards a target."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hf_ess.arguments import check_number
from hf_ess.errors import InvalidInputError
from hf_ess.metrics import entropy_ess, soft_tolerance_ess
from hf_ess.spectra import Positions, block_singular_values
from hf_ess.training.few_positions import FEW, training_positions
from hf_ess.training.regularizer import Regularizer
from model_adapters import LayerOperator
from model_adapters.layer_choice import Layers

METRICS = ("entropy", "tolerance")
UNITS = ("share", "absolute")
SIDES = ("exactly", "at least", "at most")


class ESSRegularizer(Regularizer):
    """`weight * mean(((ESS - target) / attainable)^2)` over layers, samples, groups, positions.

    The attainable state size `min(TSS_i, i, L - i)` is the unit of the distance, so that layers
    of all kinds and positions near the ends count alike. Use it as a context around a training,
    or around a single step, and add what a call gives to any loss.

    Args:
        model: the model that trains.
        target: what the ESS of a channel should be: a share of the attainable size, above 0 and
            at most 1, or with `unit="absolute"` a number of states.
        weight: factor on the term; 0 switches everything off.
        layers: indices or names, None for all.
        metric: "entropy", or "tolerance" for the smooth count (`soft_tolerance_ess`).
        unit: "share" or "absolute".
        side: "exactly", or "at least" or "at most" to leave alone what lies beyond the target.
        positions: "few" (four, evenly spread), or as `hf_ess.analyze` takes them.
        tolerance: of the smooth count, absolute.
        width: of the smooth count's step, as `soft_tolerance_ess` takes it.

    Raises:
        InvalidTypeError: an argument is of a wrong type.
        InvalidInputError: a target, weight, or word out of range; when called, an absolute target
            that is larger than what a chosen layer can attain.

    Source: ours; Parnichkun et al., ICML 2025, names regularizers as a use of the ESS (its own,
    of appendix A, is `TransitionRegularizer`).

    Example:
        >>> import torch, hf_ess
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        ...                      num_attention_heads=2, vocab_size=16)
        >>> model, ids = LlamaForCausalLM(config), torch.randint(0, 16, (1, 20))
        >>> with hf_ess.ESSRegularizer(model, target=0.5, layers=[1]) as penalty:
        ...     loss = model(ids, labels=ids).loss + penalty()
        >>> loss.backward()
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        target: float,
        weight: float = 1.0,
        layers: Layers = None,
        metric: str = "entropy",
        unit: str = "share",
        side: str = "exactly",
        positions: Positions = FEW,
        tolerance: float = 1e-3,
        width: float = 0.25,
    ) -> None:
        super().__init__(model, weight=weight, layers=layers)
        self.target = check_number("target", target)
        for name, word, words in (
            ("metric", metric, METRICS),
            ("unit", unit, UNITS),
            ("side", side, SIDES),
        ):
            if word not in words:
                raise InvalidInputError(f"{name} must be one of {words}, got {word!r}.")
        if self.target <= 0 or (unit == "share" and self.target > 1):
            raise InvalidInputError(
                f"The target must be above 0{' and at most 1' if unit == 'share' else ''}, "
                f"got {target!r}.",
                causes=["a share above 1 is more than the layer can attain", "a wrong unit"],
                fix='Pass a share of the attainable size, or unit="absolute" for a number.',
            )
        self.metric = metric
        self.unit = unit
        self.side = side
        self.positions = positions
        self.tolerance = tolerance
        self.width = width
        self._measured(torch.zeros(1))

    def _term(self, layer: LayerOperator) -> Tensor:
        operator = layer.operator
        positions = training_positions(self.positions, operator.length)
        spectra = block_singular_values(operator, positions, differentiable=True)
        ess = self._measured(spectra.values)
        at = torch.tensor(positions, device=ess.device)
        attainable = operator.attainable(at).to(ess).expand_as(ess)
        distance = (ess - self._target(layer, attainable)) / attainable.clamp(min=1)
        if self.side == "at least":
            distance = distance.clamp(max=0)
        elif self.side == "at most":
            distance = distance.clamp(min=0)
        return distance[attainable > 0].square().mean()

    def _measured(self, singular_values: Tensor) -> Tensor:
        if self.metric == "entropy":
            return entropy_ess(singular_values)
        return soft_tolerance_ess(singular_values, self.tolerance, width=self.width)

    def _target(self, layer: LayerOperator, attainable: Tensor) -> Tensor:
        if self.unit == "share":
            return self.target * attainable
        least = int(attainable.min())
        if self.target > least:
            raise InvalidInputError(
                f"The target {self.target:g} is above what layer {layer.name} ({layer.mixer}) can "
                f"attain: {least} at one of its positions.",
                causes=["its state is smaller", "the position is near an end of the text"],
                fix="Lower the target, give it as a share, or choose other positions.",
            )
        return torch.full_like(attainable, self.target)
