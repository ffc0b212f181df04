"""Operators that mix channels: one matrix over all channels, a block for each pair of tokens."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError, NonFiniteError, NotCausalError
from hf_ess.operators.dense import future_share
from hf_ess.operators.linear_operator import FLOAT64_BYTES, LinearOperator


def block_future_share(matrix: Tensor, channels_out: int, channels_in: int) -> float:
    """Largest |entry| from a later token, relative to the largest |entry|.

    Args:
        matrix: `[..., L*O, L*I]`.
        channels_out: O.
        channels_in: I.

    Example:
        >>> import torch
        >>> from hf_ess.operators import block_future_share
        >>> within_tokens = torch.block_diag(torch.ones(2, 3), torch.ones(2, 3))
        >>> block_future_share(within_tokens, channels_out=2, channels_in=3)
        0.0
    """
    length = matrix.shape[-1] // channels_in
    blocks = matrix.reshape(*matrix.shape[:-2], length, channels_out, length, channels_in)
    return future_share(blocks.abs().amax((-3, -1)))


class MimoOperator(LinearOperator):
    """A multi-input multi-output operator: `y_t = sum over s <= t of M_ts u_s`, M_ts `[O, I]`.

    `DenseMimoOperator` is the plainest one.

    All channels of a group share one state, as in S5, dense state spaces, and Jacobians. The dense
    form has tokens as its outer and channels as its inner index: output channel o of token t is
    row `t * O + o`, and `H_i = M[O*i:, :I*i]`. Letters: O output channels, I input channels.

    Inputs of `apply` are `[B, G', L, I]`, outputs `[B, G', L, O]`.

    Source: Parnichkun et al., ICML 2025, section 3 (the flattened operator of MIMO systems).
    """

    @property
    @abstractmethod
    def channels_in(self) -> int:
        """I, the number of input channels of a group."""

    @property
    @abstractmethod
    def channels_out(self) -> int:
        """O, the number of output channels of a group."""

    @abstractmethod
    def to_dense(self, groups: slice | None = None) -> Tensor:
        """M as float64 `[B, G', L*O, L*I]` for the chosen groups (all of them by default)."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(B, G, L*O, L*I)`."""
        rows, columns = self.length * self.channels_out, self.length * self.channels_in
        return self.batch, self.groups, rows, columns

    def capacity(self, positions: Tensor) -> Tensor:
        """`min(N, I * i)` at each position, int64 `[1, 1, P]`."""
        return super().capacity(positions * self.channels_in)

    def attainable(self, positions: Tensor) -> Tensor:
        """`min(N, I * i, O * (L - i))` at each position, int64 `[1, 1, P]`."""
        rows = self.channels_out * (self.length - positions)
        return torch.minimum(self.capacity(positions), rows.to(torch.int64)[None, None, :])

    def dense_bytes_per_group(self) -> int:
        widest = max(self.channels_in, self.channels_out)
        return 3 * self.batch * (self.length * widest) ** 2 * FLOAT64_BYTES

    def apply(self, u: Tensor, groups: slice | None = None) -> Tensor:
        """`M u` in float64: u is `[B, G', L, I]`, the result `[B, G', L, O]`.

        Raises:
            InvalidInputError: u has another shape than the operator.
        """
        chosen = groups if groups is not None else slice(0, self.groups)
        count = len(range(*chosen.indices(self.groups)))
        expected = (self.batch, count, self.length, self.channels_in)
        if tuple(u.shape) != expected:
            raise InvalidInputError(
                f"The operator maps inputs of shape {[*expected]}, got {list(u.shape)}."
            )
        flat = u.to(torch.float64).reshape(*expected[:2], -1, 1)
        return (self.to_dense(chosen) @ flat).reshape(*expected[:3], self.channels_out)


class DenseMimoOperator(MimoOperator):
    """A multi-input multi-output operator given as a dense matrix.

    Args:
        matrix: `[L*O, L*I]`, `[G, L*O, L*I]` or `[B, G, L*O, L*I]`, real, lower triangular in
            blocks up to rounding; the blocks on its diagonal may be full.
        channels_out: O.
        channels_in: I.
        state_size: largest rank that the structure behind the matrix allows, None if unknown.

    Raises:
        InvalidTypeError: not a real floating-point tensor.
        InvalidInputError: the shape does not fit the numbers of channels.
        NonFiniteError: NaN or infinite entries.
        NotCausalError: entries above the diagonal blocks larger than rounding.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseMimoOperator
        >>> running_sum = torch.ones(4, 4).tril()
        >>> exchange = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> operator = DenseMimoOperator(torch.kron(running_sum, exchange), 2, 2)
        >>> operator.length, operator.shape
        (4, (1, 1, 8, 8))
    """

    def __init__(
        self,
        matrix: Tensor,
        channels_out: int,
        channels_in: int,
        *,
        state_size: int | None = None,
    ) -> None:
        _check_matrix(matrix, channels_out, channels_in)
        self._matrix = matrix[(None,) * (4 - matrix.ndim)]
        self._channels = channels_out, channels_in
        self._state_size = state_size

    @property
    def batch(self) -> int:
        return self._matrix.shape[0]

    @property
    def groups(self) -> int:
        return self._matrix.shape[1]

    @property
    def length(self) -> int:
        return self._matrix.shape[-1] // self.channels_in

    @property
    def channels_in(self) -> int:
        return self._channels[1]

    @property
    def channels_out(self) -> int:
        return self._channels[0]

    @property
    def device(self) -> torch.device:
        return self._matrix.device

    @property
    def state_size(self) -> int | None:
        return self._state_size

    def to_dense(self, groups: slice | None = None) -> Tensor:
        chosen = self._matrix if groups is None else self._matrix[:, groups]
        return chosen.to(torch.float64)


def _check_matrix(matrix: Tensor, channels_out: int, channels_in: int) -> None:
    if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
        raise InvalidTypeError(
            "A dense operator needs a real floating-point torch tensor, got "
            f"{matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__}."
        )
    if channels_out < 1 or channels_in < 1:
        raise InvalidInputError(f"Channels must be positive, got {channels_out}, {channels_in}.")
    if (
        matrix.ndim not in (2, 3, 4)
        or not matrix.numel()
        or matrix.shape[-1] % channels_in
        or matrix.shape[-2] * channels_in != matrix.shape[-1] * channels_out
    ):
        raise InvalidInputError(
            f"An operator from {channels_in} to {channels_out} channels needs shape "
            f"[..., L*{channels_out}, L*{channels_in}], got {list(matrix.shape)}."
        )
    if not torch.isfinite(matrix).all():
        raise NonFiniteError("The operator's matrix has NaN or infinite entries.")
    share = block_future_share(matrix, channels_out, channels_in)
    if share > torch.finfo(matrix.dtype).eps * matrix.shape[-1]:
        raise NotCausalError(
            f"The matrix is not lower triangular in blocks of {channels_out} x {channels_in}: "
            f"entries from later tokens reach {share:.1e} of the largest entry.",
            causes=[
                "the mixer is bidirectional",
                "channels are the outer and tokens the inner index",
            ],
            fix="Order rows and columns by token first: row t * O + o, column s * I + i.",
        )
