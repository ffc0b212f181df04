"""Slow, readable truth: recurrences run on basis vectors in numpy, and SVD of whole blocks."""

from __future__ import annotations

import numpy as np


def recurrence_matrix(transition, write, read, direct, reads="after"):
    """M [L, L] of `h = A_i h + B_i u_i`, `y_i = Re(C_i h) + D_i u_i`, by basis vectors.

    transition [L, N, N], write and read [L, N], direct [L].
    """
    length, states = write.shape
    matrix = np.zeros((length, length))
    for source in range(length):
        state = np.zeros(states, dtype=complex)
        for step in range(source, length):
            impulse = 1.0 if step == source else 0.0
            if reads == "before":
                matrix[step, source] = np.real(read[step] @ state)
            state = transition[step] @ state + write[step] * impulse
            if reads == "after":
                matrix[step, source] = np.real(read[step] @ state)
        matrix[source, source] += direct[source]
    return matrix


def recurrence_matrices(transition, write, read, direct, reads="after"):
    """The same for features [B, G, L, ...]: M [B, G, L, L]."""
    batch, groups = write.shape[:2]
    return np.array(
        [
            [
                recurrence_matrix(transition[b, g], write[b, g], read[b, g], direct[b, g], reads)
                for g in range(groups)
            ]
            for b in range(batch)
        ]
    )


def block_values(matrices, position, window=None):
    """Singular values of the block at a position of M [..., L, L]."""
    length = matrices.shape[-1]
    future, past = window or (length, length)
    rows = slice(position, min(length, position + future))
    columns = slice(max(0, position - past), position)
    return np.linalg.svd(matrices[..., rows, columns], compute_uv=False)
