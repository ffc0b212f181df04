"""Which models can be given a smaller state, and what is cut where: one class for each family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.initialization import no_init_weights

from hf_ess.errors import UnsupportedModelError


@dataclass(frozen=True, eq=False)
class StateOfMixer:
    """The state of one mixer, and what of it can be chosen.

    Attributes:
        name: dotted name of the module in its model.
        index: number of its layer.
        module: the mixer.
        size: N, the channels of the state of each group.
        units: int64 `[U, k]`, channels that stay or go together.
        reading: what C is made of, `[S, N, ..]` for S sets of groups that choose together.
        writing: what B is made of, `[S, N, ..]`.
        fixed: why channels that stay cannot make up for others by a factor, empty if they can.
        reader: the linear map from whose inputs `reading` makes C, if `fixed` is empty.
    """

    name: str
    index: int
    module: nn.Module
    size: int
    units: Tensor
    reading: Tensor
    writing: Tensor
    fixed: str = ""
    reader: nn.Module | None = None

    @property
    def sets(self) -> int:
        """S, the sets of groups that have a choice of their own."""
        return int(self.reading.shape[0])

    def summed(self, values: Tensor) -> Tensor:
        """Values of operators `[B, G, ..]` summed over those that choose together, `[S, ..]`."""
        return by_set(values.sum(0), self.sets).sum(1)

    def magnitudes(self) -> Tensor:
        """Norm of the rows of B times that of the rows of C, `[S, U]` float64."""
        norms = [
            rows.detach().double().flatten(2)[:, self.units].square().sum((-1, -2)).sqrt()
            for rows in (self.writing, self.reading)
        ]
        return norms[0] * norms[1]


@dataclass(frozen=True, eq=False)
class Selection:
    """What stays of the state of a mixer.

    Attributes:
        units: int64 `[S, n]`, ascending.
        factors: `[S, n]` float64 on what C reads of each unit.
        of: the units as channels, int64 `[U, k]`.
        rows: what C is made of instead, `[S, n k, ..]`; None for the old rows times the factors.
    """

    units: Tensor
    factors: Tensor
    of: Tensor
    rows: Tensor | None = None

    @property
    def size(self) -> int:
        """Channels that stay."""
        return int(self.units.shape[1] * self.of.shape[1])

    @property
    def channels(self) -> Tensor:
        """Their numbers, `[S, n k]`; those of pairs are first the first ones, as in the whole."""
        return self.of[self.units].transpose(1, 2).flatten(1)

    def kept(self, rows: Tensor) -> Tensor:
        """The rows `[S, N, ..]` that stay, `[S, n k, ..]`."""
        sets = torch.arange(len(rows), device=rows.device)[:, None]
        return rows[sets, self.channels.to(rows.device)]

    def read(self, rows: Tensor) -> Tensor:
        """The same of rows that C is made of, times their factors, or what was fitted instead."""
        kept = self.kept(rows)
        if self.rows is not None:
            return self.rows.to(kept)
        factors = self.factors.repeat(1, self.of.shape[1]).to(kept.device)
        factors = factors.reshape(*factors.shape, *[1] * (kept.ndim - 2))
        return (kept.double() * factors).to(kept.dtype)


class Family(ABC):
    """Models whose states can be made smaller in one way."""

    # What users read of what is supported.
    models: str
    # Whether all layers have a state of one size.
    one_size = False

    @abstractmethod
    def has(self, model: nn.Module) -> bool:
        """Whether a model belongs to this family."""

    @abstractmethod
    def states(self, model: nn.Module) -> list[StateOfMixer]:
        """The states of its mixers, in order."""

    @abstractmethod
    def resize(self, config: Any, sizes: Mapping[int, int]) -> None:
        """Sets the state sizes of layers, by their numbers, in a configuration."""

    @abstractmethod
    def cut(self, state: StateOfMixer, selection: Selection) -> dict[str, Tensor]:
        """Those weights of a mixer that change, by their names in the module."""

    def turns(self, state: StateOfMixer, length: int) -> Tensor:
        """What is done to what `reader` gives before it reads the state, `[L|1, S|1, N, N]`."""
        return torch.eye(state.size, device=state.reading.device)[None, None]

    def smaller(self, model: Any, chosen: Mapping[str, Selection]) -> Any:
        """A new model of the same class with what stays of the states of all mixers.

        It generates with the settings of the given one.
        """
        states = self.states(model)
        config = deepcopy(model.config)
        config._name_or_path = ""  # what it was loaded from is another model
        self.resize(config, {state.index: chosen[state.name].size for state in states})
        weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        for state in states:
            changed = self.cut(state, chosen[state.name])
            weights |= {f"{state.name}.{name}": tensor for name, tensor in changed.items()}
        with torch.random.fork_rng(devices=[]), no_init_weights():
            new = type(model)(config)
        new.load_state_dict({n: w.detach().contiguous() for n, w in weights.items()}, assign=True)
        new.to(next(model.parameters()).device)  # buffers that are not saved
        new.tie_weights()
        for name, weight in model.named_parameters():
            new.get_parameter(name).requires_grad_(weight.requires_grad)
        if getattr(model, "generation_config", None) is not None:
            new.generation_config = deepcopy(model.generation_config)
        return new.train(model.training)


def without_weights(model: Any, config: Any) -> Any:
    """A model of the same class that a configuration describes, on the meta device."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return type(model)(config)


def unlike(model: nn.Module, described: nn.Module) -> Iterator[str]:
    """Names of weights that one has and the other has not, or has in another shape."""
    shapes, wanted = (
        {name: weight.shape for name, weight in one.state_dict().items()}
        for one in (model, described)
    )
    yield from (name for name, shape in shapes.items() if wanted.get(name) != shape)
    yield from (name for name in wanted if name not in shapes)


def by_set(rows: Tensor, sets: int) -> Tensor:
    """Rows `[S N, ..]` as `[S, N, ..]`."""
    return rows.reshape(sets, -1, *rows.shape[1:])


def singles(size: int) -> Tensor:
    """Each channel a unit of its own, `[N, 1]`."""
    return torch.arange(size)[:, None]


def refuse_model(model: nn.Module, supported: str) -> UnsupportedModelError:
    """The error for a model without a state that can be cut."""
    named = getattr(getattr(model, "config", None), "model_type", "")
    kind = f"{type(model).__name__} ({named})" if named else type(model).__name__
    return UnsupportedModelError(
        f"The states of {kind} cannot be truncated.",
        causes=[
            "its mixers have no state of fixed size (softmax attention, long convolutions)",
            "nobody has said yet which of its weights belong to which channel of the state",
            "it is wrapped (adapters, DataParallel): truncate the model inside",
        ],
        fix=f"Truncation knows {supported}.",
    )
