"""Features of recurrences: kept as the model computed them, widened a stretch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError, NonFiniteError


class Span(NamedTuple):
    """Groups of an operator (of `total`) and a stretch start..stop-1 of the sequence."""

    groups: slice
    total: int
    start: int
    stop: int


def choose_groups(tensor: Tensor, groups: slice, total: int) -> Tensor:
    """The chosen of `total` groups from `[B, g, ...]`, where g divides total.

    With fewer groups than operators, each is repeated for neighbouring operators, as key heads
    are for query heads; a single one stays an axis of one.

    Example:
        >>> import torch
        >>> from hf_ess.operators.features import choose_groups
        >>> choose_groups(torch.tensor([[7, 8]]), slice(1, 4), 4)
        tensor([[7, 8, 8]])
    """
    stored = tensor.shape[1]
    if stored == 1 or stored == total:
        return tensor if stored == 1 else tensor[:, groups]
    index = torch.arange(total, device=tensor.device)[groups] // (total // stored)
    return tensor[:, index]


@dataclass(frozen=True)
class Feature:
    """One tensor `[B|1, G|g|1, L|1, ...]` of a recurrence, in the dtype of the model.

    Raises:
        InvalidTypeError: not a floating-point or complex tensor.
        InvalidInputError: wrong number of axes.
        NonFiniteError: NaN or infinite (minus infinity is allowed where it stands for a reset).
    """

    name: str
    tensor: Tensor
    axes: int
    resets: bool = False

    def __post_init__(self) -> None:
        tensor = self.tensor
        if not isinstance(tensor, Tensor) or not (
            tensor.is_floating_point() or tensor.is_complex()
        ):
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InvalidTypeError(f"The {self.name} must be a floating-point tensor, got {kind}.")
        if tensor.ndim != self.axes or not tensor.numel():
            raise InvalidInputError(
                f"The {self.name} must have {self.axes} axes [B, G, L"
                f"{', ...' if self.axes > 3 else ''}], got {list(tensor.shape)}."
            )
        finite = torch.isfinite(tensor)
        if self.resets:
            finite |= tensor == -torch.inf
        if not finite.all():
            raise NonFiniteError(
                f"The {self.name} has NaN or infinite entries.",
                causes=["the model overflowed in half precision"],
                fix="Run the model in float32 or bfloat16 and check its outputs.",
            )

    @property
    def is_complex(self) -> bool:
        return self.tensor.is_complex()

    def widened(self, span: Span) -> Tensor:
        """The stretch of the chosen groups in float64 or complex128; axes of one stay."""
        tensor = self.tensor
        if tensor.shape[2] > 1:
            tensor = tensor[:, :, span.start : span.stop]
        chosen = choose_groups(tensor, span.groups, span.total)
        return chosen.to(torch.complex128 if chosen.is_complex() else torch.float64)


def common_size(sizes: dict[str, int], axis: str) -> int:
    """The size that several features share along an axis; those of size one fit any.

    Raises:
        InvalidInputError: two features disagree.
    """
    largest = max(sizes.values())
    wrong = {name: size for name, size in sizes.items() if size not in (1, largest)}
    if wrong:
        raise InvalidInputError(f"The features disagree about the {axis}: {sizes}.")
    return largest
