"""Singular values in 60 digits, of matrices and recurrences whose float64 numbers are exact."""

from __future__ import annotations

import mpmath
import torch

DIGITS = 60


def exact(tensor):
    """A matrix, or a row, of float64 numbers."""
    rows = tensor.to(torch.float64).reshape(-1, tensor.shape[-1]).tolist()
    return mpmath.matrix([[mpmath.mpf(number) for number in row] for row in rows])


def exact_recurrence(operator):
    """M [L, L] of the first group, from its steps as float64 has them."""
    length, width = operator.length, operator.width
    stretch = operator.stretch(slice(0, 1), 0, length)
    write, read = exact(stretch.write[0, 0]), exact(stretch.read[0, 0])
    transitions = []
    for step in range(length):
        rows = torch.eye(width, dtype=torch.float64)[None, None]
        stretch.steps.backward_(rows, step)
        transitions.append(exact(rows[0, 0]).tolist())
    matrix = mpmath.diag(stretch.direct[0, 0].tolist())
    with mpmath.workdps(DIGITS):
        for source in range(length):
            state = list(write[source, :])
            for step in range(source + 1, length):
                matrix[step, source] = mpmath.fdot(read[step, :], state)
                state = [mpmath.fdot(row, state) for row in transitions[step]]
    return matrix


def exact_values(matrix, positions, window=None, channels=(1, 1)):
    """Singular values of the blocks at some positions, descending."""
    outputs, inputs = channels
    tokens = matrix.cols // inputs
    future, past = window or (tokens, tokens)
    found = []
    for position in positions:
        rows = slice(position * outputs, min(tokens, position + future) * outputs)
        columns = slice(max(0, position - past) * inputs, position * inputs)
        block = matrix[rows, columns]
        tall = block if block.rows >= block.cols else block.T
        with mpmath.workdps(DIGITS):
            found.append(sorted(mpmath.svd_r(tall, compute_uv=False), reverse=True))
    return found


def assert_within_bounds(spectra, truth):
    """Values of the first operator are as near to the truth as their errors say, all of them."""
    count = spectra.values.shape[-1]
    values = spectra.values.reshape(-1, len(truth), count)[0].tolist()
    errors = spectra.value_errors().reshape(-1, len(truth), count)[0].tolist()
    bounds = spectra.error_bound.reshape(-1, len(truth))[0].tolist()
    for place, true in enumerate(truth):
        beyond = max(0, len(true) - count)
        found = [*values[place], *[0.0] * beyond]
        allowed = [*errors[place], *[bounds[place]] * beyond]
        for number, (value, error) in enumerate(zip(found, allowed, strict=True)):
            exactly = true[number] if number < len(true) else 0
            assert abs(mpmath.mpf(value) - exactly) <= mpmath.mpf(error), (
                f"value {number} at position {spectra.positions[place]} is {value}, "
                f"not {mpmath.nstr(exactly, 20)} +- {error}"
            )
