"""Groups are formed as many at a time as the memory budget allows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_ess import MemoryBudgetError
from hf_ess.operators import DenseOperator, LinearOperator, SoftmaxAttentionOperator

LENGTH = 6


class Identity(LinearOperator):
    """The least that an operator must say."""

    def __init__(self, groups: int) -> None:
        self._groups = groups

    batch = 2
    length = LENGTH
    device = torch.device("cpu")

    @property
    def groups(self) -> int:
        return self._groups

    def to_dense(self, groups: slice | None = None) -> Tensor:
        count = len(range(self.groups)[groups or slice(None)])
        return torch.eye(LENGTH, dtype=torch.float64).expand(2, count, LENGTH, LENGTH)


@pytest.mark.parametrize("groups", [1, 2, 5, 8])
@pytest.mark.parametrize("fitting", [1, 2, 3, 8, 100])
def test_chunks_cover_all_groups_once_and_fit(groups: int, fitting: int) -> None:
    operator = Identity(groups)
    budget = fitting * operator.dense_bytes_per_group() + 1
    chunks = list(operator.group_chunks(budget))
    covered = [number for chunk in chunks for number in range(groups)[chunk]]
    assert covered == list(range(groups))
    sizes = [chunk.stop - chunk.start for chunk in chunks]
    assert max(sizes) == min(fitting, groups)
    assert len(sizes) == -(-groups // fitting)


def test_too_small_a_budget_is_an_error_with_advice() -> None:
    operator = Identity(3)
    with pytest.raises(MemoryBudgetError) as caught:
        list(operator.group_chunks(operator.dense_bytes_per_group() - 1))
    assert isinstance(caught.value, MemoryError)
    assert "length 6 for 2 sample(s)" in str(caught.value)
    assert "lower batch_size" in caught.value.fix
    assert f"memory_budget to {operator.dense_bytes_per_group()} bytes" in caught.value.fix
    assert "a text of at most 5 tokens" in caught.value.fix
    assert "window" not in caught.value.fix  # its rows cannot be formed on their own


def test_a_share_of_the_budget_is_asked_for_in_terms_of_the_budget() -> None:
    operator = Identity(3)
    needed = 2 * operator.dense_bytes_per_group()
    assert len(list(operator.group_chunks(needed, share=2))) == 3
    with pytest.raises(MemoryBudgetError, match=f"memory_budget to {needed} bytes"):
        list(operator.group_chunks(needed - 1, share=2))


def test_a_long_text_is_offered_a_window() -> None:
    features = torch.zeros(1, 1, 4096, 8)
    operator = SoftmaxAttentionOperator(features, features)
    with pytest.raises(MemoryBudgetError, match=r"window=256 needs about 3\d MiB") as caught:
        list(operator.group_chunks(2**27))
    assert "batch_size" not in caught.value.fix
    assert "at most 2048 tokens" in caught.value.fix


def test_what_follows_from_the_least() -> None:
    operator = Identity(3)
    u = torch.arange(2 * 2 * LENGTH * 4.0).reshape(2, 2, LENGTH, 4)
    assert operator.shape == (2, 3, LENGTH, LENGTH)
    assert operator.state_size is None
    assert torch.equal(operator.apply(u, slice(1, 3)), u.double())


@pytest.mark.parametrize("length", [16, 64])
def test_bytes_cover_the_result_and_grow_with_its_size(length: int) -> None:
    features = torch.zeros(2, 4, length, 8)
    for operator in (
        DenseOperator(torch.zeros(2, 4, length, length)),
        SoftmaxAttentionOperator(features, features),
    ):
        result = operator.to_dense(slice(0, 1))
        assert operator.dense_bytes_per_group() >= 2 * result.numel() * result.element_size()
        assert operator.dense_bytes_per_group() <= 8 * result.numel() * result.element_size()
