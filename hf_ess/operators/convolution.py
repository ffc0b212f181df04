"""Causal convolutions: short, time-varying, long, and modal."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError
from hf_ess.operators.cascades import ShiftSteps
from hf_ess.operators.features import Feature, Span, common_size
from hf_ess.operators.linear_operator import EVERYTHING, FLOAT64_BYTES
from hf_ess.operators.realizations import RealizableOperator
from hf_ess.operators.recurrent import RecurrentOperator, Stretch
from hf_ess.operators.state_space import StateSpaceOperator
from hf_ess.operators.transitions import DiagonalDecay

# Taps up to which sums of shifted inputs beat Fourier transforms.
FEW_TAPS = 64
# A filter of more taps than this share of the sequence has no small state.
SHORT_SHARE = 0.25


class ConvolutionOperator(RealizableOperator):
    """`y_i = sum_k h_k u_{i-k} + D u_i`: causal Toeplitz, or a band of changing taps.

    Tap k weighs the input k steps back (a filter of `torch.nn.Conv1d` is stored the other way
    round: flip it). The state is the last `taps - 1` inputs.

    Args:
        taps: `[G, K]`, the same at every step, or `[B|1, G|g|1, L, K]`, different at every step.
            Taps beyond the sequence are not used.
        direct: D `[B|1, G|g|1, L|1]` on top of the first tap.
        batch: B, where the taps do not show it.
        groups: G, where the taps do not show it.
        length: L, where the taps do not show it; needed for `[G, K]`.

    Raises:
        InvalidTypeError: not real floating-point tensors.
        InvalidInputError: shapes that do not fit together, or no length.
        NonFiniteError: NaN or infinite taps.

    Source: Parnichkun et al., ICML 2025, section 3 (`M_ij = h_{i-j}`); Poli et al., "Hyena
    Hierarchy", ICML 2023.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ConvolutionOperator
        >>> ConvolutionOperator(torch.tensor([[1.0, 2.0]]), length=3).to_dense()[0, 0]
        tensor([[1., 0., 0.],
                [2., 1., 0.],
                [0., 2., 1.]], dtype=torch.float64)
    """

    def __init__(
        self,
        taps: Tensor,
        direct: Tensor | None = None,
        *,
        batch: int = 1,
        groups: int = 1,
        length: int | None = None,
    ) -> None:
        constant = isinstance(taps, Tensor) and taps.ndim == 2
        if constant and length is None:
            raise InvalidInputError("Constant taps [G, K] need the length of the sequence.")
        self._taps = Feature("taps", taps[None, :, None] if constant else taps, 4)
        self._direct = None if direct is None else Feature("direct terms", direct, 3)
        features = [self._taps] + ([] if self._direct is None else [self._direct])
        shapes = {feature.name: feature.tensor.shape for feature in features}
        sizes = {"length": length or 1} | {name: shape[2] for name, shape in shapes.items()}
        self._length = common_size(sizes, "length")
        self._batch = common_size(
            {"batch": batch} | {name: shape[0] for name, shape in shapes.items()}, "samples"
        )
        self._groups = max(groups, *(shape[1] for shape in shapes.values()), 1)
        if any(self._groups % shape[1] for shape in shapes.values()):
            raise InvalidInputError(f"The groups of the taps do not divide {self._groups}.")

    @property
    def batch(self) -> int:
        return self._batch

    @property
    def groups(self) -> int:
        return self._groups

    @property
    def length(self) -> int:
        return self._length

    @property
    def device(self) -> torch.device:
        return self._taps.tensor.device

    @property
    def memory(self) -> int:
        """How many steps back the last tap reaches."""
        return min(self._taps.tensor.shape[-1], self._length) - 1

    @property
    def constant(self) -> bool:
        """Whether all steps have the same taps."""
        return self._taps.tensor.shape[2] == 1

    @property
    def state_size(self) -> int | None:
        return self.memory if self.memory < self._length - 1 else None

    @property
    def short(self) -> bool:
        """Whether the state is small enough to be worth carrying."""
        return self.memory <= SHORT_SHARE * self._length

    def taps(self, groups: slice, start: int, stop: int) -> Tensor:
        """Float64 `[B|1, g|1, stop - start, memory + 1]`."""
        taps = self._taps.widened(Span(groups, self._groups, start, stop))[..., : self.memory + 1]
        return taps.expand(*taps.shape[:2], stop - start, -1)

    def diagonal(self, groups: slice, start: int, stop: int) -> Tensor:
        """First tap and direct term, `[B|1, g|1, stop - start]`."""
        first = self.taps(groups, start, stop)[..., 0]
        if self._direct is None:
            return first
        return first + self._direct.widened(Span(groups, self._groups, start, stop))

    def to_dense(self, groups: slice | None = None) -> Tensor:
        chosen = groups if groups is not None else slice(0, self._groups)
        count = len(range(*chosen.indices(self._groups)))
        shape = self._batch, count, self._length, self._length
        matrix = torch.zeros(shape, dtype=torch.float64, device=self.device)
        taps = self.taps(chosen, 0, self._length)
        for back in range(1, self.memory + 1):
            matrix.diagonal(-back, -2, -1).copy_(taps[..., back:, back])
        matrix.diagonal(0, -2, -1).copy_(self.diagonal(chosen, 0, self._length))
        return matrix

    def block_bytes_per_group(self, rows: int, columns: int) -> int:
        widened = 2 * self.batch * (1 if self.constant else rows) * (self.memory + 1)
        return (4 * self.batch * rows * columns + widened) * FLOAT64_BYTES

    def to_dense_block(
        self,
        groups: slice | None = None,
        rows: slice = EVERYTHING,
        columns: slice = EVERYTHING,
    ) -> Tensor:
        chosen = groups if groups is not None else slice(0, self._groups)
        count = len(range(*chosen.indices(self._groups)))
        (top, bottom, _), (left, right, _) = (s.indices(self._length) for s in (rows, columns))
        outputs = torch.arange(top, bottom, device=self.device)[:, None]
        back = outputs - torch.arange(left, right, device=self.device)
        taps = self.taps(chosen, top, bottom)
        index = back.clamp(0, self.memory).expand(*taps.shape[:2], -1, -1)
        matrix = taps.gather(-1, index).expand(self._batch, count, -1, -1)
        matrix = matrix.masked_fill((back < 0) | (back > self.memory), 0.0)
        diagonal = self.diagonal(chosen, top, bottom)[..., None]
        return torch.where(back == 0, diagonal, matrix)

    def _apply(self, u: Tensor, groups: slice) -> Tensor:
        taps = self.taps(groups, 0, self._length)
        outputs = self.diagonal(groups, 0, self._length)[..., None] * u
        if self.constant and self.memory > FEW_TAPS:
            return outputs + _convolved(u, taps[..., 0, 1:])
        for back in range(1, self.memory + 1):
            outputs[:, :, back:] += taps[..., back:, back, None] * u[:, :, : self._length - back]
        return outputs

    def realization(self) -> RecurrentOperator | None:
        return ShiftRecurrence(self) if self.short else None

    def dense_bytes_per_group(self) -> int:
        return super().dense_bytes_per_group() + 2 * self._length * FLOAT64_BYTES


def _convolved(u: Tensor, later_taps: Tensor) -> Tensor:
    """Inputs `[B, g, L, C]` convolved with taps 1.. `[B|1, g|1, K - 1]` by Fourier transforms."""
    length = u.shape[-2]
    points = 2 * length
    taps = torch.nn.functional.pad(later_taps, (1, 0))
    spectrum = torch.fft.rfft(u, points, dim=-2) * torch.fft.rfft(taps, points)[..., None]
    outputs: Tensor = torch.fft.irfft(spectrum, points, dim=-2)
    return outputs[..., :length, :]


class ShiftRecurrence(RecurrentOperator):
    """A short convolution as a recurrence whose state is the last inputs.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ConvolutionOperator
        >>> ConvolutionOperator(torch.ones(1, 4), length=32).realization().width
        3
    """

    def __init__(self, convolution: ConvolutionOperator) -> None:
        self._convolution = convolution

    @property
    def batch(self) -> int:
        return self._convolution.batch

    @property
    def groups(self) -> int:
        return self._convolution.groups

    @property
    def length(self) -> int:
        return self._convolution.length

    @property
    def device(self) -> torch.device:
        return self._convolution.device

    @property
    def width(self) -> int:
        # A single tap has no state; a number that nothing reads keeps factors from being empty.
        return max(self._convolution.memory, 1)

    @property
    def state_size(self) -> int | None:
        return self._convolution.memory

    def stretch(self, groups: slice, start: int, stop: int) -> Stretch:
        count = len(range(*groups.indices(self.groups)))
        shape = self.batch, count, stop - start
        write = torch.zeros(*shape, self.width, dtype=torch.float64, device=self.device)
        write[..., 0] = 1
        read = torch.zeros_like(write)
        read[..., : self._convolution.memory] = self._convolution.taps(groups, start, stop)[..., 1:]
        direct = self._convolution.diagonal(groups, start, stop).expand(shape)
        return Stretch(ShiftSteps(stop - start), write, read, direct)


class ModalConvolution(StateSpaceOperator):
    """`y_i = sum_j Re(sum_s residue_s pole_s^(i-j)) u_j + D u_i`: long filters with few modes.

    The state is one number for each real pole and two for each complex one.

    Args:
        poles: `[G, S]`, real or complex, the mode's factor per step.
        residues: `[G, S]`, real or complex.
        direct: D `[B|1, G|g|1, L|1]`.
        length: L.
        batch: B.

    Raises:
        InvalidInputError: poles or residues that are no matrices.
        NonFiniteError: NaN or infinite poles (a logarithm of a pole at zero) or residues.

    Source: Massaroli et al., "Laughing Hyena Distillery", NeurIPS 2023, section 3 (modal form);
    StripedHyena and Evo 2.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ModalConvolution
        >>> quarter_turns = torch.tensor([[1j]])
        >>> ModalConvolution(quarter_turns, torch.ones(1, 1), length=4).to_dense()[0, 0, 3]
        tensor([ 0., -1.,  0.,  1.], dtype=torch.float64)
    """

    def __init__(
        self,
        poles: Tensor,
        residues: Tensor,
        direct: Tensor | None = None,
        *,
        length: int,
        batch: int = 1,
    ) -> None:
        if poles.ndim != 2 or residues.ndim != 2:
            raise InvalidInputError(
                "Poles and residues must be [G, S], got "
                f"{list(poles.shape)} and {list(residues.shape)}."
            )
        super().__init__(
            DiagonalDecay(poles[None, :, None]),
            write=torch.ones(1, 1, 1, 1, dtype=torch.float64, device=poles.device),
            read=residues[None, :, None],
            direct=direct,
            batch=batch,
            length=length,
        )
