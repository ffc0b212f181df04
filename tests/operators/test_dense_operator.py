"""A dense operator is its matrix, checked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_ess import InvalidInputError, InvalidTypeError, NonFiniteError, NotCausalError
from hf_ess.operators import DenseOperator, future_share

BATCH, GROUPS, LENGTH, CHANNELS = 2, 3, 7, 5


def lower(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).tril()


@pytest.mark.parametrize("leading", [(), (GROUPS,), (BATCH, GROUPS)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_shape_and_matrix(leading: tuple[int, ...], dtype: torch.dtype) -> None:
    matrix = lower(*leading, LENGTH, LENGTH, dtype=dtype)
    operator = DenseOperator(matrix)
    assert operator.shape == (*(1, 1, *leading)[-2:], LENGTH, LENGTH)
    assert operator.device == matrix.device
    dense = operator.to_dense()
    assert dense.dtype == torch.float64
    assert torch.equal(dense, matrix.double().reshape(operator.shape))


@pytest.mark.parametrize("groups", [slice(0, 1), slice(1, 3), slice(2, None), slice(None)])
def test_chosen_groups(groups: slice) -> None:
    matrix = lower(BATCH, GROUPS, LENGTH, LENGTH)
    assert torch.equal(DenseOperator(matrix).to_dense(groups), matrix[:, groups])


@pytest.mark.parametrize("groups", [None, slice(0, 1), slice(1, 3)])
def test_apply_equals_loops(groups: slice | None) -> None:
    matrix = lower(BATCH, GROUPS, LENGTH, LENGTH)
    chosen = range(GROUPS)[groups or slice(None)]
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(BATCH, len(chosen), LENGTH, CHANNELS, generator=generator)
    y = DenseOperator(matrix).apply(u, groups)
    assert y.dtype == torch.float64
    for b in range(BATCH):
        for place, g in enumerate(chosen):
            for i in range(LENGTH):
                for c in range(CHANNELS):
                    past = range(i + 1)
                    true = sum(float(matrix[b, g, i, j]) * float(u[b, place, j, c]) for j in past)
                    assert float(y[b, place, i, c]) == pytest.approx(true, abs=1e-13)


@pytest.mark.parametrize(
    "shape",
    [
        (BATCH + 1, GROUPS, LENGTH, 1),
        (BATCH, GROUPS - 1, LENGTH, 1),
        (BATCH, GROUPS, LENGTH - 1, 1),
        (BATCH, GROUPS, LENGTH),
        (GROUPS, LENGTH, 1),
    ],
)
def test_apply_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    operator = DenseOperator(lower(BATCH, GROUPS, LENGTH, LENGTH))
    with pytest.raises(InvalidInputError, match=r"maps inputs of shape \[2, 3, 7, 'C'\]"):
        operator.apply(torch.zeros(shape))


@pytest.mark.parametrize(
    "matrix",
    [
        [[1.0]],
        torch.ones(3, 3, dtype=torch.int64).tril(),
        torch.ones(3, 3, dtype=torch.bool).tril(),
        torch.ones(3, 3, dtype=torch.complex64).tril(),
    ],
)
def test_other_types_are_refused(matrix: object) -> None:
    with pytest.raises(InvalidTypeError, match="real floating-point"):
        DenseOperator(matrix)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 4), (1, 1, 1, 3, 3), (0, 0), (0, 3, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="needs shape"):
        DenseOperator(torch.zeros(shape))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_entries_are_refused(bad: float) -> None:
    matrix = lower(LENGTH, LENGTH)
    matrix[3, 2] = bad
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        DenseOperator(matrix)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_above_the_diagonal_is_no_future(dtype: torch.dtype) -> None:
    matrix = torch.ones(LENGTH, LENGTH, dtype=dtype).tril()
    matrix[0, 1] = torch.finfo(dtype).eps
    assert DenseOperator(matrix).length == LENGTH
    matrix[0, 1] = torch.finfo(dtype).eps * LENGTH * 2
    with pytest.raises(NotCausalError, match="not lower triangular"):
        DenseOperator(matrix)


def test_share_of_the_future() -> None:
    matrix = torch.tensor([[2.0, -0.5], [4.0, 1.0]])
    assert future_share(matrix) == 0.125
    assert future_share(matrix.tril()) == 0.0
    assert future_share(torch.zeros(3, 3)) == 0.0
    assert future_share(torch.zeros(0, 0)) == 0.0
    assert future_share(torch.stack([matrix.tril(), matrix])) == 0.125


@pytest.mark.parametrize("state_size", [None, 0, 2, 100])
def test_capacity_follows_the_state_size(state_size: int | None) -> None:
    operator = DenseOperator(lower(GROUPS, LENGTH, LENGTH), state_size=state_size)
    positions = torch.arange(1, LENGTH)
    size = 100 if state_size is None else state_size
    assert operator.state_size == state_size
    assert operator.capacity(positions).flatten().tolist() == [
        min(i, size) for i in range(1, LENGTH)
    ]
    assert operator.attainable(positions).flatten().tolist() == [
        min(i, LENGTH - i, size) for i in range(1, LENGTH)
    ]


def test_a_printed_operator_says_what_it_is() -> None:
    matrix = lower(BATCH, GROUPS, LENGTH, LENGTH)
    assert repr(DenseOperator(matrix, state_size=4)) == (
        "DenseOperator(shape=[2, 3, 7, 7], state_size=4)"
    )
    assert "state_size=grows" in repr(DenseOperator(matrix))
