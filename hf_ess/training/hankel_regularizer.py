"""A loss term on the sum of Hankel singular values: for layers that can be compressed."""

from __future__ import annotations

from torch import Tensor, nn

from hf_ess.spectra import Positions, block_singular_values
from hf_ess.training.few_positions import FEW, training_positions
from hf_ess.training.regularizer import Regularizer
from model_adapters import LayerOperator
from model_adapters.layer_choice import Layers


class HankelRegularizer(Regularizer):
    """`weight * mean(sum_k s_k)`, over layers, samples, groups and positions.

    The singular values of a block `M[i:, :i]` are the Hankel singular values of the operator at
    that position, and those after the n-th bound what a state of n numbers must lose. A small sum
    (the nuclear norm) leaves few of them large and layers that can be compressed, the opposite of
    pushing the ESS up. The source regularizes time-invariant systems with an
    infinite horizon; here they are those of the text, for any mixer.

    Args:
        model: the model that trains.
        weight: factor on the term; 0 switches everything off.
        layers: indices or names, None for all.
        positions: "few" (four, evenly spread), or as `hf_ess.analyze` takes them.

    Raises:
        InvalidTypeError: an argument is of a wrong type.
        InvalidInputError: a weight out of range, or an empty choice of layers.

    Source: arXiv 2510.22951, NeurIPS 2025 (Hankel singular value regularization); for operators
    of input-varying mixers ours.

    Example:
        >>> import torch, hf_ess
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        ...                      num_attention_heads=2, vocab_size=16)
        >>> model, ids = LlamaForCausalLM(config), torch.randint(0, 16, (1, 20))
        >>> with hf_ess.HankelRegularizer(model, weight=0.01) as penalty:
        ...     loss = model(ids, labels=ids).loss + penalty()
        >>> loss.backward()
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weight: float = 1.0,
        layers: Layers = None,
        positions: Positions = FEW,
    ) -> None:
        super().__init__(model, weight=weight, layers=layers)
        self.positions = positions

    def _term(self, layer: LayerOperator) -> Tensor:
        positions = training_positions(self.positions, layer.operator.length)
        spectra = block_singular_values(layer.operator, positions, differentiable=True)
        return spectra.values.sum(-1).mean()
