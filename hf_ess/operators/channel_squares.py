"""`||M||_F^2` of states whose channels are real and independent, all stretches at once.

As `hf_ess.operators.frobenius` does it stretch by stretch, but the matrices of all stretches are
formed side by side, so that the number of steps in Python does not grow with their number. Only
Grams are carried from one to the next.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.operators.state_space import Channels

# Steps of a stretch: as many turns of a loop, and a Gram for as many tokens.
STEPS = 16
# Tensors of the size of the features, and of the Grams, that autograd keeps, about.
FEATURES, GRAMS = STEPS + 8, 5


def bytes_of_channels(batch: int, length: int, width: int) -> int:
    """About what the square of one group takes at once with its graph, in bytes."""
    stretches = -(-length // STEPS)
    numbers = FEATURES * stretches * STEPS * width + GRAMS * stretches * width**2
    return batch * numbers * FLOAT64_BYTES


def squares_of_channels(channels: Channels) -> Tensor:
    """The square of the norm of the operator of all channels, float64 `[B, g]`, under autograd.

    Example:
        >>> import torch
        >>> from hf_ess.operators.state_space import Channels
        >>> one = torch.ones(1, 1, 3, 1, dtype=torch.float64)
        >>> squares_of_channels(Channels(one, one, one, 0 * one[..., 0]))
        tensor([[6.]], dtype=torch.float64)
    """
    decay, write, read, direct = _in_stretches(channels)
    traces = write[..., :0, :]
    kept = torch.ones_like(decay[..., 0, :])
    squares, readings = [], []
    for step in range(STEPS):
        now = decay[..., step, :]
        traces = torch.cat([traces * now[..., None, :], write[..., step, None, :]], -2)
        kept = kept * now
        readings.append(read[..., step, :] * kept)
        row = (traces @ read[..., step, :, None])[..., 0]
        squares.append(row[..., :-1].square().sum(-1))
        squares.append((row[..., -1] + direct[..., step]).square())
    inside = torch.stack(squares).sum(0).sum(-1)
    return inside + _between(traces, torch.stack(readings, -2), kept)


def _in_stretches(channels: Channels) -> tuple[Tensor, ...]:
    """Features `[B, g, n, s, N]` and direct terms `[B, g, n, s]`; added steps do nothing."""
    missing = -channels.decay.shape[2] % STEPS
    decay = functional.pad(channels.decay, (0, 0, 0, missing), value=1.0)
    write, read = (functional.pad(x, (0, 0, 0, missing)) for x in (channels.write, channels.read))
    direct = functional.pad(channels.direct, (0, missing))
    return tuple(x.unflatten(2, (-1, STEPS)) for x in (decay, write, read, direct))  # type: ignore[no-untyped-call]


def _between(traces: Tensor, readings: Tensor, kept: Tensor) -> Tensor:
    """What stretches read of the states that earlier ones left, squared, `[B, g]`."""
    written, read = traces.mT @ traces, readings.mT @ readings
    passed = kept[..., :, None] * kept[..., None, :]
    gram = torch.zeros_like(written[:, :, 0])
    square = gram.sum((-2, -1))
    for number in range(1, written.shape[2]):
        gram = torch.addcmul(written[:, :, number - 1], passed[:, :, number - 1], gram)
        square = square + (read[:, :, number] * gram).sum((-2, -1))
    return square
