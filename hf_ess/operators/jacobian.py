"""The Jacobian of any causal function at one input, with and without its matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import (
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
    NotCausalError,
    UnsupportedMixerError,
)
from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.operators.linearization import Linearization, float64_version
from hf_ess.operators.mimo import MimoOperator, block_future_share
from hf_ess.operators.verification import ResidualMeter

DEFAULT_WORK_BYTES = 2**28

# Central differences of a function that rounds at eps are off by about eps**(2/3), times what its
# third derivative adds: 4e-11 in float64 and 2e-5 in float32.
DERIVATIVE_BOUNDS: dict[torch.dtype, float] = {torch.float64: 1e-6, torch.float32: 1e-3}

MOST_CUTS = 8


class JacobianOperator(MimoOperator):
    """`M = dy/du` of a causal function at one input: its linearisation there (ours).

    Its blocks have ranks and spectra as those of a linear mixer do: the *local* effective
    state-size, how many directions of the past change the future, to first order. It is not the
    operator with `y = M u`, unless the function is linear.

    The function runs once. `apply` and `apply_transposed` differentiate that run; `to_dense` takes
    one backward pass for each output, many at a time. Everything is float64 as far as the function
    is, and `rounding` says how far that is.

    Args:
        function: maps `[B, L, I]` to `[B, L, O]`; samples must not influence each other. A module
            runs in float64, as it would with its weights converted; if it returns several
            tensors, the first counts.
        inputs: where to linearise, `[B, L, I]`; a function that is no module gets them as they are.
        state_size: largest rank that the structure allows, None if unknown.
        work_bytes: memory for products that are computed together.

    Raises:
        InvalidTypeError: not callable, inputs are no floating-point tensor, or the function
            computes in half precision.
        InvalidInputError: inputs or outputs have another shape.
        NonFiniteError: inputs or outputs are NaN or infinite.
        NotCausalError: an earlier output depends on a later input.
        UnsupportedMixerError: samples influence each other.

    Source: ours, for the "other structures" in Figure 1 of Parnichkun et al., ICML 2025.

    Example:
        >>> import torch
        >>> from hf_ess.operators import JacobianOperator
        >>> squares = JacobianOperator(lambda u: u.square().cumsum(1), torch.ones(1, 3, 1))
        >>> squares.to_dense()[0, 0, 2]
        tensor([2., 2., 2.], dtype=torch.float64)
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        inputs: Tensor,
        *,
        state_size: int | None = None,
        work_bytes: int = DEFAULT_WORK_BYTES,
    ) -> None:
        _check_arguments(function, inputs)
        if isinstance(function, nn.Module):
            function, inputs = _first_output(float64_version(function)), inputs.to(torch.float64)
        self._linearization = Linearization(function, inputs, work_bytes)
        self._state_size = state_size
        self._dense: Tensor | None = None
        _check_outputs(self._linearization)
        self._refuse_mixed_samples()
        self._refuse_future()

    @property
    def batch(self) -> int:
        return self.inputs.shape[0]

    @property
    def groups(self) -> int:
        return 1

    @property
    def length(self) -> int:
        return self.inputs.shape[1]

    @property
    def channels_in(self) -> int:
        return self.inputs.shape[2]

    @property
    def channels_out(self) -> int:
        return self.outputs.shape[2]

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    @property
    def state_size(self) -> int | None:
        return self._state_size

    @property
    def inputs(self) -> Tensor:
        """Where the function is linearised, `[B, L, I]`, in the dtype in which it ran."""
        return self._linearization.inputs.detach()

    @property
    def outputs(self) -> Tensor:
        """What the function gives there, `[B, L, O]`."""
        return self._linearization.outputs.detach()

    @property
    def rounding(self) -> float:
        """How far products may be off, relative to the largest: `eps * L` of the narrowest dtype.

        Measured, not proved: LSTM, GRU and attention over 8 to 48 tokens reach a quarter of it.
        """
        return torch.finfo(self._linearization.narrowest).eps * self.length

    @property
    def is_float64(self) -> bool:
        """Whether no step of the function rounds to a narrower dtype."""
        return self._linearization.narrowest == torch.float64

    @property
    def derivative_bound(self) -> float:
        """What `derivative_residual` has to stay below."""
        return DERIVATIVE_BOUNDS[self._linearization.narrowest]

    def form(self) -> None:
        """Forms the matrix now and keeps it: `apply` and `to_dense` use it from then on."""
        if self._dense is None:
            self._dense = self._formed()

    def to_dense(self, groups: slice | None = None) -> Tensor:
        dense = self._formed() if self._dense is None else self._dense
        return dense if groups is None else dense[:, groups]

    def apply(self, u: Tensor, groups: slice | None = None) -> Tensor:
        if self._dense is not None or len(range(*(groups or slice(1)).indices(1))) != 1:
            return super().apply(u, groups)
        self._check_shape(u, self.channels_in)
        return self.products(u[:, 0][None])[0][:, None]

    def apply_transposed(self, w: Tensor) -> Tensor:
        """`M' w` in float64: w is `[B, 1, L, O]`, the result `[B, 1, L, I]`.

        Raises:
            InvalidInputError: w has another shape.
        """
        self._check_shape(w, self.channels_out)
        return self.transposed_products(w[:, 0][None])[0][:, None]

    def products(self, tangents: Tensor) -> Tensor:
        """`M v` for many v: float64 `[n, B, L, I]` to `[n, B, L, O]`.

        Raises:
            UnsupportedMixerError: the backward pass of the function cannot be differentiated.
        """
        return self._linearization.products(tangents)

    def transposed_products(self, cotangents: Tensor) -> Tensor:
        """`M' w` for many w: float64 `[n, B, L, O]` to `[n, B, L, I]`."""
        return self._linearization.transposed_products(cotangents)

    def multiply_fewer_at_once(self) -> bool:
        """Halves how many products are computed together; False where it is one already."""
        return self._linearization.multiply_fewer_at_once()

    def derivative_residual(self) -> Tensor:
        """`max |M v - d| / max |d|` per sample, `[B]`: d is the central difference along v.

        v is random, of the size of the inputs. The best of three steps counts, since the curvature
        of the function is not known: rounding favours long steps and curvature short ones. A wrong
        M is off at every step.
        """
        size = self.inputs.to(torch.float64).square().mean((1, 2), keepdim=True).sqrt()
        direction = self._random(1, self.channels_in)[0] * torch.where(size > 0, size, 1.0)
        expected = self.apply(direction[:, None])
        best = torch.full((self.batch,), torch.inf, dtype=torch.float64)
        longest = torch.finfo(self._linearization.narrowest).eps ** (1 / 3)
        for step in (longest, longest / 4, longest / 16):
            meter = ResidualMeter(self.batch)
            difference = self._linearization.central_difference(direction, step)
            meter.add(expected, difference[:, None])
            best = torch.minimum(best, meter.residual())
        return best

    def _formed(self) -> Tensor:
        """One-hot cotangents give the rows of M, `[B, 1, L*O, L*I]`."""
        length, channels = self.length, self.channels_out
        rows = length * channels
        dense = self.inputs.new_empty(
            (self.batch, 1, rows, length * self.channels_in), dtype=torch.float64
        )
        step = self._linearization.together
        for start in range(0, rows, step):
            chosen = torch.arange(start, min(start + step, rows), device=self.device)
            hot = nn.functional.one_hot(chosen, rows).to(torch.float64)
            hot = hot.reshape(-1, 1, length, channels).expand(-1, self.batch, -1, -1)
            gradients = self.transposed_products(hot)
            dense[:, 0, chosen] = gradients.flatten(-2).transpose(0, 1)
        if not bool(torch.isfinite(dense).all()):
            raise NonFiniteError("The function's derivative is NaN or infinite.")
        share = block_future_share(dense, channels, self.channels_in)
        if share > self.rounding:
            raise _not_causal(share)
        tokens = torch.ones(length, length, dtype=torch.bool, device=self.device).triu(1)
        blocks = dense.view(self.batch, length, channels, length, self.channels_in)
        # Rounding in the future of FFT convolutions; it is in no block.
        return blocks.masked_fill_(tokens[:, None, :, None], 0.0).reshape(dense.shape)

    def _refuse_future(self) -> None:
        """Random cotangents before some cuts: no gradient may come out after them."""
        cuts = sorted({round(c) for c in torch.linspace(1, self.length - 1, MOST_CUTS).tolist()})
        cotangents = self._random(len(cuts), self.channels_out)
        at = torch.tensor(cuts, device=self.device)[:, None, None, None]
        token = torch.arange(self.length, device=self.device)[:, None]
        gradients = self.transposed_products(cotangents * (token < at)).abs()
        future = (gradients * (token >= at)).amax().item()
        largest = gradients.amax().item()
        if not math.isfinite(largest):
            raise NonFiniteError("The function's derivative is NaN or infinite.")
        if future > self.rounding * largest:
            raise _not_causal(future / largest)

    def _refuse_mixed_samples(self) -> None:
        if self.batch == 1:
            return
        own = torch.eye(self.batch, dtype=torch.float64, device=self.device)[:, :, None, None]
        cotangents = self._random(self.batch, self.channels_out) * own
        gradients = self.transposed_products(cotangents).abs()
        if (gradients * (1 - own)).amax() > self.rounding * gradients.amax():
            raise UnsupportedMixerError(
                "The samples of a batch influence each other.",
                causes=["the function normalises over the batch", "the first axis is no batch"],
                fix="Pass one sample at a time, as [1, L, I].",
            )

    def _random(self, count: int, channels: int) -> Tensor:
        """Normal numbers `[count, B, L, channels]`, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        shape = count, self.batch, self.length, channels
        return torch.randn(shape, dtype=torch.float64, generator=generator).to(self.device)

    def _check_shape(self, features: Tensor, channels: int) -> None:
        expected = self.batch, 1, self.length, channels
        if tuple(features.shape) != expected:
            raise InvalidInputError(
                f"The operator maps features of shape {[*expected]}, got {list(features.shape)}."
            )

    def vector_bytes(self) -> int:
        """Bytes of one input and one output of all samples in float64."""
        channels = self.channels_in + self.channels_out
        return self.batch * self.length * channels * FLOAT64_BYTES


def _first_output(function: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    def first(inputs: Tensor) -> Any:
        output = function(inputs)
        while isinstance(output, (tuple, list)) and output:
            output = output[0]
        return output

    return first


def _check_arguments(function: Any, inputs: Any) -> None:
    if not callable(function):
        raise InvalidTypeError(f"A Jacobian needs a function, got {type(function).__name__}.")
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise InvalidTypeError(
            "A Jacobian needs features as a floating-point tensor, got "
            f"{inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__}.",
            fix="Linearise after the embedding: token ids have no derivative.",
        )
    if inputs.ndim != 3 or not inputs.numel() or inputs.shape[1] < 2:
        raise InvalidInputError(
            f"A Jacobian needs inputs [B, L, I] of at least two tokens, got {list(inputs.shape)}."
        )
    if not bool(torch.isfinite(inputs).all()):
        raise NonFiniteError("The inputs hold NaN or infinity.")


def _check_outputs(linearization: Linearization) -> None:
    inputs, outputs = linearization.inputs, linearization.outputs
    if outputs.ndim != 3 or outputs.shape[:2] != inputs.shape[:2] or not outputs.numel():
        raise InvalidInputError(
            f"The function must map [B, L, I] to [B, L, O]; it maps {list(inputs.shape)} to "
            f"{list(outputs.shape)}."
        )
    if not bool(torch.isfinite(outputs).all()):
        raise NonFiniteError("The function's outputs hold NaN or infinity.")
    if linearization.narrowest not in DERIVATIVE_BOUNDS:
        raise InvalidTypeError(
            f"The function computes in {linearization.narrowest}, in which no derivative can be "
            "verified.",
            fix="Run it in float32 or float64.",
        )


def _not_causal(share: float) -> NotCausalError:
    return NotCausalError(
        "The function is not causal: derivatives by later inputs reach "
        f"{share:.1e} of the largest derivative.",
        causes=["the mixer is bidirectional", "it normalises over the tokens"],
    )
