"""Which layers of a model a user means by indices and names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from hf_ess.errors import InvalidInputError, InvalidTypeError

Layers = Sequence[int | str] | int | str | None


class NamedLayer(Protocol):
    """A mixer with its path in the model and the number of its layer."""

    @property
    def name(self) -> str: ...

    @property
    def index(self) -> int: ...


def checked_layers(layers: Layers) -> list[int | str] | None:
    """The chosen layers as a list, None for all of them.

    Raises:
        InvalidInputError: an empty choice.
        InvalidTypeError: neither indices nor names.

    Example:
        >>> from model_adapters.layer_choice import checked_layers
        >>> checked_layers(range(2)), checked_layers("model.layers.3")
        ([0, 1], ['model.layers.3'])
    """
    if layers is None:
        return None
    chosen: list[Any] = list(layers) if isinstance(layers, (list, tuple, range)) else [layers]
    if any(isinstance(layer, bool) or not isinstance(layer, (int, str)) for layer in chosen):
        raise InvalidTypeError(f"layers must be indices or names, got {layers!r}.")
    if not chosen:
        raise InvalidInputError("layers is empty.", fix="Pass None for every layer.")
    return chosen


def is_meant(layer: NamedLayer, wanted: int | str) -> bool:
    """Whether an index or a name, of the mixer or of a module around it, means a layer."""
    if isinstance(wanted, str):
        return f"{layer.name}.".startswith(f"{wanted}.")
    return wanted == layer.index


def names_of_layers(found: Iterable[NamedLayer], layers: Sequence[int | str] | None) -> set[str]:
    """Names of the mixers that a user asked for; all of them for None.

    Raises:
        InvalidInputError: one of the wanted layers is not among those that were found.
    """
    known = list(found)
    if layers is None:
        return {layer.name for layer in known}
    chosen: set[str] = set()
    for wanted in layers:
        matching = {layer.name for layer in known if is_meant(layer, wanted)}
        if not matching:
            indices = sorted({layer.index for layer in known})
            raise InvalidInputError(
                f"No analysable layer is called {wanted!r}.",
                fix=f"Choose from the indices {indices[0]}..{indices[-1]}, or from names such as "
                f"{known[0].name!r}."
                if known
                else "This model has none.",
            )
        chosen |= matching
    return chosen
