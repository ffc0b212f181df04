"""Divide and conquer over positions: a statistic of every block for the work of a few products.

For a shift t and `G_i = H_i / t`, the matrix `K_i = [[I, G_i], [G_i', -s I]]` holds

* for s = 1 the log-determinant: `|det K_i| = det(I + H_i' H_i / t^2)`,
* for s = -1 the count: K_i has as many negative eigenvalues as H_i has singular values above t.

Position i uses the rows from i on and the columns before i. A node of the tree stands for the
positions in `[a, a + w]` and holds the matrix over its own w rows and w columns, in which all rows
after it and all columns before it are already eliminated. Its first half eliminates the rows of
the second half and drops their columns; its second half eliminates the columns of the first half
and drops their rows. Nodes with a = 0 (the spine) have nothing to eliminate but rows that
no other row sees, so that one Gram matrix serves them for all shifts. All positions together cost
about `3 h^3` flops per shift (h positions of a half), however many are asked for.

Only the first half of the positions is worked off like this; the second half is the first half of
the operator transposed and flipped along both axes.

Source: ours. Inertia adds up over Schur complements: Haynsworth, "Determination of the inertia of
a partitioned Hermitian matrix", Linear Algebra and its Applications 1 (1968).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_ess.spectra.elimination import (
    Eliminated,
    Workspace,
    eliminate_definite,
    eliminate_indefinite,
    log_pivots,
    negative_eigenvalues,
)

LEAST_LEAF = 8


def half_length(length: int) -> int:
    """Positions per half: at least half the length, and a leaf of 8 to 15 times a power of two."""
    levels = max(0, (length // (2 * LEAST_LEAF)).bit_length() - 1)
    return -(-length // (2 << levels)) << levels


def splits(width: int) -> bool:
    """Whether nodes of this width have children."""
    return width % 2 == 0 and width >= 2 * LEAST_LEAF


@dataclass
class _Nodes:
    """All nodes of a level but the spine's, `[nodes * batch, w, w]`, and what they have gathered.

    Args:
        rows: the part of K over the rows of the node.
        cross: rows of the node by its columns.
        columns: minus s times the part over its columns.
        gathered: `[nodes, batch]`, log-determinants or negative eigenvalues of what was eliminated.
        starts: first position of each node.
    """

    rows: Tensor
    cross: Tensor
    columns: Tensor
    gathered: Tensor
    starts: list[int]


class PositionTree:
    """The first positions of some operators, for statistics at any shifts.

    Args:
        matrices: `[n, L, h]` float64, the first h columns of operators of moderate entries,
            zero on and above the diagonal. h is `half_length(L)`.
    """

    def __init__(self, matrices: Tensor) -> None:
        half = matrices.shape[-1]
        self.half = half
        self.near = matrices[:, :half]
        far = matrices[:, half:]
        self.gram = far.mT @ far
        self.spine = [self.gram]
        width = half
        while splits(width):
            width //= 2
            below = self.near[:, width : 2 * width, :width]
            self.spine.append(self.spine[-1][:, :width, :width] + below.mT @ below)

    def squared_norms(self) -> Tensor:
        """`|H_i|_F^2` at the positions 1..h, `[n, h]`: sums of squares, never differences."""
        squares = self.near.square()
        below = squares.flip(1).cumsum(1).flip(1)
        below += self.gram.diagonal(dim1=-2, dim2=-1)[:, None]
        total = below.tril(-1).sum(-1)[:, 1:]
        last = self.gram.diagonal(dim1=-2, dim2=-1).sum(-1)
        return torch.cat([total, last[:, None]], -1)

    def log_determinants(self, shifts: Tensor, workspace: Workspace) -> Tensor:
        """`log det(I + H_i' H_i / t^2)` at the positions 1..h, `[n, S, h]` float64.

        Args:
            shifts: t, `[n, S]`, positive.
            workspace: its dtype is that of the arithmetic: float32 is enough where
                `u (s_1 / t)^2` is far below one. Results that are not finite say that it was not.
        """
        descent = _Descent(self, shifts, workspace, definite=True)
        nodes = descent.leaves()
        logs = log_pivots(descent.leaf_matrices(nodes)) + nodes.gathered
        return self._by_position(logs, nodes, shifts).to(torch.float64)

    def counts(self, shifts: Tensor, workspace: Workspace) -> Tensor:
        """How many singular values are above t at the positions 1..h, `[n, S, h]` int64.

        A count is that of some shift that differs from t by about `u (s_1 / t)^2`, relative.

        Args:
            shifts: t, `[n, S]`, positive.
            workspace: of float64.
        """
        descent = _Descent(self, shifts, workspace, definite=False)
        nodes = descent.leaves()
        matrices = descent.leaf_matrices(nodes)
        negative = negative_eigenvalues(matrices.permute(2, 3, 4, 1, 0).contiguous())
        return self._by_position(negative + nodes.gathered, nodes, shifts).long()

    def _by_position(self, values: Tensor, nodes: _Nodes, shifts: Tensor) -> Tensor:
        """`[w, nodes, batch]` as `[n, S, h]`."""
        order = torch.tensor(nodes.starts, device=values.device).argsort()
        return values[:, order].permute(2, 1, 0).reshape(*shifts.shape, self.half)


class _Descent:
    """One way down the tree for some shifts."""

    def __init__(
        self, tree: PositionTree, shifts: Tensor, workspace: Workspace, *, definite: bool
    ) -> None:
        self.near = tree.near.to(workspace.dtype)
        self.spine = [gram.to(workspace.dtype) for gram in tree.spine]
        self.width = tree.half
        self.workspace = workspace
        self.definite = definite
        self.sign = 1.0 if definite else -1.0
        self.scale = (1 / shifts).to(workspace.dtype)[:, :, None, None]
        self.split = shifts.shape
        self.batch = shifts.numel()
        self.level = 0

    def leaves(self) -> _Nodes:
        """The nodes of the last level, that of the spine with them, `[nodes, batch, w, w]`."""
        empty = self.near.new_zeros(0)
        nodes = _Nodes(empty, empty, empty, empty.reshape(0, self.batch), [])
        while splits(self.width):
            nodes = self._split(nodes)
        return self._with_spine(nodes)

    def _split(self, nodes: _Nodes) -> _Nodes:
        half, count, batch = self.width // 2, len(nodes.starts), self.batch
        children = self._room(2 * count + 1, half)
        panel = self.workspace.take("panel", max(count, 1) * batch, half, 3 * half)
        gathered = nodes.gathered.new_zeros(2 * count + 1, batch)
        spine = slice(0, batch)
        done = self._right_of_spine(panel[:batch], [part[spine] for part in children])
        gathered[0] = done.statistic
        if count:
            panel = panel[: count * batch]
            for number, child in enumerate((self._first_half, self._second_half)):
                place = slice((1 + number * count) * batch, (1 + (number + 1) * count) * batch)
                done = child(nodes, panel, [part[place] for part in children])
                at = slice(1 + number * count, 1 + (number + 1) * count)
                gathered[at] = nodes.gathered + done.statistic.view(count, batch)
        self.width = half
        starts = [half, *nodes.starts, *(start + half for start in nodes.starts)]
        rows, cross, columns = children
        return _Nodes(rows, cross, columns, gathered, starts)

    def _room(self, count: int, width: int) -> list[Tensor]:
        self.level += 1
        shape = count * self.batch, width, width
        return [self.workspace.take(f"{name}{self.level % 2}", *shape) for name in ("r", "x", "c")]

    def _eliminate(self, panel: Tensor) -> Eliminated:
        if self.definite:
            return eliminate_definite(panel)
        return eliminate_indefinite(panel, self.workspace.take("scaled", *panel.shape))

    def _right_of_spine(self, panel: Tensor, child: list[Tensor]) -> Eliminated:
        half, width = self.width // 2, self.width
        near, scale = self.near[:, None], self.scale
        gram = self.spine[self.level - 1][:, None]
        columns_scale = self.sign * scale * scale
        rows, cross, columns = (part.view(*self.split, half, half) for part in child)
        shaped = panel.view(*self.split, half, 3 * half)
        torch.mul(gram[..., :half, :], columns_scale, out=shaped[..., :width])
        shaped[..., :half].diagonal(dim1=-2, dim2=-1).add_(1)
        torch.mul(near[..., half:width, :half].mT, scale, out=shaped[..., width:])
        torch.mul(gram[..., half:, half:], columns_scale, out=columns)
        columns.diagonal(dim1=-2, dim2=-1).add_(1)
        torch.mul(near[..., half:width, half:width], scale, out=cross)
        rows.zero_().diagonal(dim1=-2, dim2=-1).fill_(1)
        done = self._eliminate(panel)
        self._subtract_columns(done, child, child)
        return done

    def _first_half(self, nodes: _Nodes, panel: Tensor, child: list[Tensor]) -> Eliminated:
        half = self.width // 2
        panel[:, :, :half] = nodes.rows[:, half:, half:]
        panel[:, :, half : self.width] = nodes.rows[:, :half, half:].mT
        panel[:, :, self.width :] = nodes.cross[:, half:, :half]
        done = self._eliminate(panel)
        rows, columns = _halves(done.rows, half)
        scaled_rows, scaled_columns = _halves(done.scaled_rows, half)
        kept = slice(0, half)
        _updated(nodes.rows[:, kept, kept], rows, scaled_rows, -1, child[0])
        _updated(nodes.cross[:, kept, kept], rows, scaled_columns, -1, child[1])
        _updated(nodes.columns[:, kept, kept], columns, scaled_columns, self.sign, child[2])
        return done

    def _second_half(self, nodes: _Nodes, panel: Tensor, child: list[Tensor]) -> Eliminated:
        half = self.width // 2
        panel[:, :, : self.width] = nodes.columns[:, :half]
        panel[:, :, self.width :] = nodes.cross[:, half:, :half].mT
        done = self._eliminate(panel)
        kept = slice(half, self.width)
        parts = (nodes.rows, nodes.cross, nodes.columns)
        self._subtract_columns(done, [part[:, kept, kept] for part in parts], child)
        return done

    def _subtract_columns(self, done: Eliminated, parts: list[Tensor], child: list[Tensor]) -> None:
        """Rows, cross part and columns without the columns that were eliminated."""
        half = child[0].shape[-1]
        columns, rows = _halves(done.rows, half)
        scaled_columns, scaled_rows = _halves(done.scaled_rows, half)
        _updated(parts[0], rows, scaled_rows, self.sign, child[0])
        _updated(parts[1], rows, scaled_columns, -1, child[1])
        _updated(parts[2], columns, scaled_columns, -1, child[2])

    def _with_spine(self, nodes: _Nodes) -> _Nodes:
        """The leaves as `[nodes, batch, w, w]`, that at position 0 with them."""
        count, width, batch = len(nodes.starts), self.width, self.batch
        rows, cross, columns = (
            self.workspace.take(f"leaf{name}", count + 1, batch, width, width) for name in "rxc"
        )
        if count:
            shape = count, batch, width, width
            rows[1:], cross[1:] = nodes.rows.view(shape), nodes.cross.view(shape)
            columns[1:] = nodes.columns.view(shape)
        spine = (*self.split, width, width)
        rows[0] = torch.eye(width, dtype=rows.dtype, device=rows.device)
        torch.mul(self.near[:, None, :width, :width], self.scale, out=cross[0].view(spine))
        torch.mul(self.spine[-1][:, None], self.sign * self.scale**2, out=columns[0].view(spine))
        columns[0].diagonal(dim1=-2, dim2=-1).add_(1)
        gathered = torch.cat([nodes.gathered.new_zeros(1, batch), nodes.gathered])
        return _Nodes(rows, cross, columns, gathered, [0, *nodes.starts])

    def leaf_matrices(self, nodes: _Nodes) -> Tensor:
        """K at the positions a + 1..a + w of every leaf a, `[w, w, w, nodes, batch]`.

        Only the upper triangles are filled.
        """
        width, count = self.width, len(nodes.starts)
        matrices = self.workspace.take("leaves", width, width, width, count, self.batch)
        rows, cross, columns = (
            part.permute(2, 3, 0, 1) for part in (nodes.rows, nodes.cross, nodes.columns)
        )
        for k in range(1, width + 1):
            at = matrices[:, :, k - 1]
            torch.mul(columns[:k, :k], -self.sign, out=at[:k, :k])
            at[k:, k:] = rows[k:, k:]
            at[:k, k:] = cross[k:, :k].transpose(0, 1)
        return matrices


def _halves(rows: Tensor, half: int) -> tuple[Tensor, Tensor]:
    return rows[:, :, :half], rows[:, :, half:]


def _updated(part: Tensor, left: Tensor, right: Tensor, sign: float, out: Tensor) -> None:
    """`part + sign * left' right`, written to a child of its own or in place."""
    torch.baddbmm(part, left.mT, right, alpha=sign, out=out)
