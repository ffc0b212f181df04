"""Products of the operators of single state channels, and distances of operators, without M.

With a diagonal state M is a sum of N operators, one for each channel:
`M_n[i, j] = C_in A_in .. A_(j+1)n B_jn`. All their inner products follow from one pass over the
sequence, for `W_i[n, m] = sum_j (A_in .. A_(j+1)n B_jn) (A_im .. A_(j+1)m B_jm)` is
`A_in A_im W_(i-1)[n, m] + B_in B_im`, and row i adds `C_in C_im W_i[n, m]`: N^2 L numbers.

Source: the Gramian of a diagonal system (Moore, 1981) made time-varying; its use here is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.operators.chunks import slices
from hf_ess.operators.linear_operator import FLOAT64_BYTES, LinearOperator
from hf_ess.operators.state_space import Channels, StateSpaceOperator

# Bytes of one `[B, g, N, N]` that a pass holds a few of, and steps whose features it forms at once.
AT_ONCE = 2**25
STRETCH = 64
# Roundings of one step of a pass: two products with decays, a product and a sum, and the reading.
ROUNDINGS = 6
# Features of the steps from a start to a stop.
Features = Callable[[int, int], Channels]


def channel_gram(operator: StateSpaceOperator) -> Tensor:
    """`G[n, m] = <M_n, M_m>_F` of the operators of the state's channels, float64 `[B, G, N, N]`.

    The sum of all entries is `||M - D||_F^2`; the direct term D belongs to no channel.

    Args:
        operator: M, of a diagonal state.

    Raises:
        UnsupportedMixerError: the state is not diagonal.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator, channel_gram
        >>> key = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])[None, None]
        >>> operator = StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), key, key)
        >>> channel_gram(operator)  # the first channel fills three entries of M
        tensor([[[[3., 0.],
                  [0., 1.]]]], dtype=torch.float64)
    """
    parts = []
    for groups in _chunks(operator, operator.width):
        gram = torch.zeros((), dtype=torch.float64, device=operator.device)
        for step, state in states(operator.length, partial(operator.channels, groups)):
            gram = gram + step.read[..., :, None] * step.read[..., None, :] * state
        parts.append(gram)
    return torch.cat(parts, 1)


def distance_bound(first: StateSpaceOperator, second: StateSpaceOperator) -> Tensor:
    """An upper bound on `||M1 - M2||_F` of two operators of diagonal states, float64 `[B, G]`.

    It is the norm itself but for rounding: the squares that are summed may cancel, so that what
    they can have lost, about `1e-6 sum_n ||M_n||_F` for L = 1024, is added in the square.

    Args:
        first: M1.
        second: M2, of the same shape.

    Raises:
        InvalidInputError: the operators are of different shapes.
        UnsupportedMixerError: a state is not diagonal.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator, distance_bound
        >>> key, still = torch.eye(2)[None, None], torch.zeros(1, 1, 1)
        >>> both = StateSpaceOperator(ScalarDecay(still), key, key)
        >>> one = StateSpaceOperator(ScalarDecay(still), key[..., :1], key[..., :1])
        >>> distance_bound(both, one)
        tensor([[1.0000]], dtype=torch.float64)
    """
    check_same_shape(first, second)
    lost = ROUNDINGS * (first.length + ROUNDINGS) * torch.finfo(torch.float64).eps
    parts = []
    for groups in _chunks(first, first.width + second.width):
        square, norms = _square_and_norms(first.length, partial(difference, first, second, groups))
        parts.append((square.clamp(min=0.0) + lost * norms.square()).sqrt())
    return torch.cat(parts, 1)


def check_same_shape(first: LinearOperator, second: LinearOperator) -> None:
    """Refuses operators of different shapes.

    Raises:
        InvalidInputError: they differ.
    """
    if first.shape != second.shape:
        raise InvalidInputError(
            f"Operators of shapes {list(first.shape)} and {list(second.shape)} have no distance."
        )


def _square_and_norms(length: int, features: Features) -> tuple[Tensor, Tensor]:
    """`||M||_F^2` with the direct terms, and the sum of the norms of its parts, `[B, g]`."""
    square = own = direct = torch.zeros((), dtype=torch.float64)
    for step, state in states(length, features):
        read = (step.read[..., None, :] @ state)[..., 0, :]
        crossed = 2 * step.direct * (step.read * step.write).sum(-1)
        square = square + (read * step.read).sum(-1) + crossed + step.direct.square()
        own = own + step.read.square() * torch.diagonal(state, dim1=-2, dim2=-1)
        direct = direct + step.direct.square()
    return square, own.sqrt().sum(-1) + direct.sqrt()


def difference(
    first: StateSpaceOperator, second: StateSpaceOperator, groups: slice, start: int, stop: int
) -> Channels:
    """Both operators side by side, the second read with a minus."""
    one, other = (operator.channels(groups, start, stop) for operator in (first, second))
    return Channels(
        torch.cat([one.decay, other.decay], -1),
        torch.cat([one.write, other.write], -1),
        torch.cat([one.read, -other.read], -1),
        one.direct - other.direct,
    )


def states(length: int, features: Features) -> Iterator[tuple[Channels, Tensor]]:
    """The features of each step `[B, g, N]`, and `W_i` `[B, g, N, N]` after it.

    Args:
        length: L.
        features: gives those of the steps from a start to a stop, `[B, g, s, N]`.

    Example:
        >>> import torch
        >>> from hf_ess.operators.channel_products import states
        >>> from hf_ess.operators.state_space import Channels
        >>> one = torch.ones(1, 1, 3, 1)
        >>> sums = states(3, lambda start, stop: Channels(one, one, one, one[..., 0]))
        >>> [float(state) for _, state in sums]
        [1.0, 2.0, 3.0]
    """
    state: Tensor | None = None
    for start in range(0, length, STRETCH):
        stretch = features(start, min(start + STRETCH, length))
        for step in map(Channels, *(feature.unbind(2) for feature in stretch)):
            written = step.write[..., :, None] * step.write[..., None, :]
            if state is None:
                state = written
            else:
                passed = step.decay[..., :, None] * step.decay[..., None, :]
                state = torch.addcmul(written, passed, state)
            yield step, state


def _chunks(operator: StateSpaceOperator, width: int) -> Iterator[slice]:
    bytes_per_group = operator.batch * width**2 * FLOAT64_BYTES
    return slices(operator.groups, max(1, AT_ONCE // bytes_per_group))
