"""How far a student layer is from its teacher: in its operators, and in what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.operators import LinearOperator, squared_distances


def operator_loss(
    students: Sequence[LinearOperator],
    teachers: Sequence[LinearOperator],
    squares: Sequence[Tensor],
    memory_budget: int,
) -> Iterator[Tensor]:
    """The mean of `||M_s - M_t||_F^2 / ||M_t||_F^2` over samples and groups, in parts to be added.

    Each part is of a few groups, so that its graph fits the budget. Where a teacher's operator is
    zero, the square of the student's stands undivided.

    Args:
        students: M_s, in the order in which they were applied.
        teachers: M_t.
        squares: `||M_t||_F^2` of each, `[B, G]`.
        memory_budget: bytes for one part.

    Raises:
        InvalidInputError: the operators do not correspond to each other.
        MemoryBudgetError: one group of operators needs more.

    Source: Parnichkun et al., ICML 2025, appendix D.6; the mean over groups is ours.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseOperator
        >>> one, other = (DenseOperator(x * torch.eye(3)[None, None]) for x in (1.0, 3.0))
        >>> [float(part) for part in operator_loss([other], [one], [torch.tensor([[3.0]])], 10**6)]
        [4.0]
    """
    check_operators(students, teachers)
    for student, teacher, square in zip(students, teachers, squares, strict=True):
        scale = divisor(square) * square.numel() * len(teachers)
        for groups, distance in squared_distances(student, teacher, memory_budget=memory_budget):
            yield (distance / scale[:, groups]).sum()


def activation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean of `||y_s - y_t||^2 / ||y_t||^2` over samples, for outputs `[B, L, d]`.

    Source: Parnichkun et al., ICML 2025, appendix D.6; the squares relative to those of a sample
    are ours.

    Example:
        >>> import torch
        >>> activation_loss(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 3.0]]]))
        tensor(0.4000)
    """
    wide = torch.promote_types(teacher.dtype, torch.float32)
    student, teacher = student.to(wide), teacher.to(wide)
    axes = tuple(range(1, teacher.ndim))
    difference = (student - teacher).square().sum(axes)
    return (difference / divisor(teacher.square().sum(axes))).mean()


def check_operators(students: Sequence[LinearOperator], teachers: Sequence[LinearOperator]) -> None:
    """Refuses operators of which a pair has other groups, samples or lengths.

    Raises:
        InvalidInputError: they do not correspond to each other.
    """
    own, wanted = ([one.shape[:3] for one in side] for side in (students, teachers))
    if own != wanted:
        raise InvalidInputError(
            f"The operators of the student, [B, G, L] = {_listed(own)}, are not matched to those "
            f"of the teacher, {_listed(wanted)}.",
            causes=["heads of one are channels of the other", "they have another number of heads"],
            fix="Choose a student with as many groups, or match its outputs alone, with "
            "operator_steps=0.",
        )


def divisor(squares: Tensor) -> Tensor:
    """Squares to divide by, 1 for zero."""
    return torch.where(squares > 0, squares, torch.ones_like(squares))


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(str(list(shape)) for shape in shapes)
