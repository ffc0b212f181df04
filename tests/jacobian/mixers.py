"""Mixers of the tests, each written from its equations, and Jacobians by finite differences."""

from __future__ import annotations

import torch
from analysis.handmade import WIDTH
from torch import nn


class SLstm(nn.Module):
    """sLSTM with exponential gates and their stabiliser (Beck et al., xLSTM, 2024, section 2.2)."""

    def __init__(self, width=WIDTH):
        super().__init__()
        self.inputs = nn.Linear(width, 4 * width)
        self.memory = nn.Linear(width, 4 * width, bias=False)

    def forward(self, features):
        cell = normaliser = hidden = torch.zeros_like(features[:, 0])
        level = torch.full_like(hidden, -30.0)
        outputs = []
        for gates in self.inputs(features).unbind(1):
            value, entry, forget, output = (gates + self.memory(hidden)).chunk(4, dim=-1)
            kept = nn.functional.logsigmoid(forget) + level
            level = torch.maximum(kept, entry)
            kept, entry = torch.exp(kept - level), torch.exp(entry - level)
            cell = kept * cell + entry * torch.tanh(value)
            normaliser = kept * normaliser + entry
            hidden = torch.sigmoid(output) * cell / normaliser
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)


class Recurrent(nn.Module):
    """An LSTM or GRU of torch, whose outputs are a tuple."""

    kind: type[nn.RNNBase]

    def __init__(self):
        super().__init__()
        self.cell = self.kind(WIDTH, WIDTH, batch_first=True)

    def forward(self, features):
        return self.cell(features)[0]


class Gru(Recurrent):
    kind = nn.GRU


class ForgetfulGru(Gru):
    """Both gates are shut: nothing of the state gets through."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.cell.bias_ih_l0[: 2 * WIDTH] = -60.0


class DepthwiseConvolution(nn.Module):
    """Four taps per channel, none of them in the future."""

    def __init__(self):
        super().__init__()
        self.taps = nn.Conv1d(WIDTH, WIDTH, 4, groups=WIDTH, padding=3)

    def forward(self, features):
        return self.taps(features.transpose(1, 2))[..., : features.shape[1]].transpose(1, 2)


class S5:
    """`x_t = A x_(t-1) + B u_t`, `y_t = C x_t + D u_t` for all channels at once."""

    def __init__(self, state=3, channels_in=2, channels_out=4, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def random(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.transition = 0.8 * torch.linalg.qr(random(state, state))[0]
        self.entry = random(state, channels_in)
        self.exit = random(channels_out, state)
        self.skip = random(channels_out, channels_in)

    def __call__(self, features):
        state = features.new_zeros(features.shape[0], len(self.transition))
        outputs = []
        for token in features.unbind(1):
            state = state @ self.transition.T + token @ self.entry.T
            outputs.append(state @ self.exit.T + token @ self.skip.T)
        return torch.stack(outputs, dim=1)

    def matrix(self, length):
        """`[L*O, L*I]`, block by block."""
        rows = []
        for target in range(length):
            blocks = []
            for source in range(length):
                power = torch.linalg.matrix_power(self.transition, max(target - source, 0))
                block = self.exit @ power @ self.entry
                skip = self.skip if target == source else 0 * self.skip
                blocks.append((block if target >= source else 0 * block) + skip)
            rows.append(torch.cat(blocks, dim=1))
        return torch.cat(rows)


def numerical_jacobian(function, inputs, step=1e-5):
    """`[L*O, L*I]` of `[1, L, I]` float64 by central differences, one column at a time."""
    columns = []
    for index in range(inputs.numel()):
        shift = torch.zeros_like(inputs).view(-1)
        shift[index] = step
        shift = shift.view_as(inputs)
        with torch.no_grad():
            difference = function(inputs + shift) - function(inputs - shift)
        columns.append(difference.flatten() / (2 * step))
    return torch.stack(columns, dim=1)


def block_values(matrix, position, channels_out, channels_in, window=None):
    """Singular values of `M[O*i:, :I*i]` by numpy."""
    length = matrix.shape[-1] // channels_in
    future, past = window or (length, length)
    rows = slice(channels_out * position, channels_out * min(length, position + future))
    columns = slice(channels_in * max(0, position - past), channels_in * position)
    return torch.linalg.svdvals(matrix[rows, columns].double().cpu())


def assert_spectra(spectra, matrix, channels_out, channels_in, *, atol, sample=0):
    """Every block of one sample has the singular values of the explicit matrix."""
    for place, position in enumerate(spectra.positions):
        expected = block_values(matrix, position, channels_out, channels_in, spectra.window)
        found = spectra.values[sample, 0, place]
        kept = min(len(expected), len(found))
        torch.testing.assert_close(found[:kept], expected[:kept], rtol=0, atol=atol)
        assert not found[kept:].any()
