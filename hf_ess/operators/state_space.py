"""Linear recurrences with input-dependent features: state-space models and linear attention."""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, UnsupportedMixerError
from hf_ess.operators.features import Feature, Span, common_size
from hf_ess.operators.graphs import multiply_into
from hf_ess.operators.recurrent import RecurrentOperator, Stretch
from hf_ess.operators.steps import DiagonalSteps, groups_last, planar, room_for
from hf_ess.operators.transitions import Transition

READS = ("after", "before")


class Channels(NamedTuple):
    """What the N channels of a diagonal state do in s steps, each `[B, g, s, N]` in float64.

    `h_in = decay_in h_(i-1)n + write_in u_i`, `y_i = sum_n read_in h_in + direct_i u_i`, with
    `direct` `[B, g, s]`.
    """

    decay: Tensor
    write: Tensor
    read: Tensor
    direct: Tensor


class StateSpaceOperator(RecurrentOperator):
    """`h_i = A_i h_{i-1} + B_i u_i`, `y_i = Re(C_i h_i) + D_i u_i` for every group.

    So `M_ij = C_i A_i ... A_{j+1} B_j` for j < i and `M_ii = C_i B_i + D_i`, the form of software.
    With `reads="before"` the state is read before it is updated, as in the paper and in RWKV:
    `y_i = C_i h_{i-1} + D_i u_i`, so that `M_ij = C_i A_{i-1} ... A_{j+1} B_j`, `M_ii = D_i`.

    Features keep the model's dtype and are widened to float64 for a few groups and steps at a
    time. Axes of size one are shared; a number of groups that divides G is repeated for
    neighbouring groups (as heads share B and C in Mamba-2).

    Args:
        transition: `A_i`.
        write: B `[B|1, G|g|1, L|1, N]`, real or complex.
        read: C `[B|1, G|g|1, L|1, N]`, real or complex. With complex numbers the operator is the
            real part and the state counts 2N real numbers.
        direct: D `[B|1, G|g|1, L|1]`.
        write_scale: factor on B_i (dt, input gates) `[B|1, G|g|1, L|1]`.
        read_scale: factor on C_i alone, not on D (normalisers) `[B|1, G|g|1, L|1]`.
        reads: "after" or "before" the update.
        batch: B, where no feature shows it because all samples share them.
        groups: G, where no feature shows it.
        length: L, where no feature shows it.

    Raises:
        InvalidTypeError: features that are no floating-point tensors.
        InvalidInputError: shapes that do not fit together.
        NonFiniteError: NaN or infinite features.

    Source: Parnichkun et al., ICML 2025, section 3 (linear recurrences); Dao and Gu, ICML 2024.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator
        >>> key, query = torch.rand(1, 2, 6, 4), torch.rand(1, 2, 6, 4)
        >>> linear_attention = StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), key, query)
        >>> expected = (query @ key.mT).tril().double()
        >>> torch.allclose(linear_attention.to_dense(), expected)
        True
    """

    def __init__(
        self,
        transition: Transition,
        write: Tensor,
        read: Tensor,
        *,
        direct: Tensor | None = None,
        write_scale: Tensor | None = None,
        read_scale: Tensor | None = None,
        reads: str = "after",
        batch: int = 1,
        groups: int = 1,
        length: int = 1,
    ) -> None:
        if reads not in READS:
            raise InvalidInputError(f"reads must be one of {READS}, got {reads!r}.")
        self.transition = transition
        self.reads = reads
        self._write = Feature("write vectors", write, 4)
        self._read = Feature("read vectors", read, 4)
        scalars = {"direct terms": direct, "write scales": write_scale, "read scales": read_scale}
        self._direct, self._write_scale, self._read_scale = (
            None if tensor is None else Feature(name, tensor, 3) for name, tensor in scalars.items()
        )
        features = [*transition.features, self._write, self._read]
        features += [f for f in (self._direct, self._write_scale, self._read_scale) if f]
        self._sizes = _sizes(features, batch, groups, length)
        self._state = _state(transition, write, read)
        self.is_complex = transition.is_complex or write.is_complex() or read.is_complex()

    @property
    def batch(self) -> int:
        return self._sizes[0]

    @property
    def groups(self) -> int:
        return self._sizes[1]

    @property
    def length(self) -> int:
        return self._sizes[2]

    @property
    def device(self) -> torch.device:
        return self._write.tensor.device

    @property
    def width(self) -> int:
        return 2 * self._state if self.is_complex else self._state

    @property
    def writes_before_reading(self) -> bool:
        """Whether each input reaches its own output through the state, and only so."""
        return self.reads == "after" and self._direct is None

    def transition_from_identity(self) -> Tensor:
        """`|A_i - I|_F` of every step, float64 `[B|1, G|g|1, L]`; shared axes stay one.

        Of complex states the norm of the complex matrix.

        Source: Parnichkun et al., ICML 2025, appendix A: transitions near the identity keep what
        was written.

        Example:
            >>> import torch
            >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator
            >>> key, resets = torch.rand(1, 1, 3, 4), torch.tensor([[[0.0, -torch.inf, 0.0]]])
            >>> StateSpaceOperator(ScalarDecay(resets), key, key).transition_from_identity()
            tensor([[[0., 2., 0.]]], dtype=torch.float64)
        """
        everything = Span(slice(0, self.groups), self.groups, 0, self.length)
        return self.transition.steps(everything).from_identity(self._state)

    @property
    def has_channels(self) -> bool:
        """Whether channels of the state are real, independent, and read after they are updated."""
        steps = self.transition.steps(Span(slice(0, 1), self.groups, 0, 1))
        return isinstance(steps, DiagonalSteps) and not self.is_complex and self.reads == "after"

    def channels(self, groups: slice, start: int, stop: int) -> Channels:
        """Steps start..stop-1 of the chosen groups, channel by channel of the state.

        Raises:
            UnsupportedMixerError: channels of the state are mixed or complex, or read before they
                are updated.
        """
        span = Span(groups, self.groups, start, stop)
        steps = self.transition.steps(span)
        if not isinstance(steps, DiagonalSteps) or not self.has_channels:
            raise UnsupportedMixerError("the channels of its state are not real and independent")
        shape = self.batch, len(range(*groups.indices(self.groups))), stop - start
        wide = *shape, self.width
        direct = torch.zeros(1, 1, 1, dtype=torch.float64, device=self.device)
        if self._direct is not None:
            direct = self._direct.widened(span)
        return Channels(
            steps.decay.expand(wide),
            _scaled(self._write, self._write_scale, span).expand(wide),
            _scaled(self._read, self._read_scale, span).expand(wide),
            direct.expand(shape),
        )

    def for_each_channel(self, channels: int) -> StateSpaceOperator:
        """The same recurrence once for every channel of a group, `[B, G * channels, L, L]`.

        Features are shared, not copied.

        Example:
            >>> import torch
            >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator
            >>> key = torch.rand(1, 2, 6, 4)
            >>> heads = StateSpaceOperator(ScalarDecay(torch.zeros(1, 1, 1)), key, key)
            >>> heads.for_each_channel(3).shape
            (1, 6, 6, 6)
        """
        repeated = copy(self)
        repeated._sizes = self.batch, self.groups * channels, self.length
        return repeated

    def stretch(self, groups: slice, start: int, stop: int) -> Stretch:
        span = Span(groups, self.groups, start, stop)
        shape = self.batch, len(range(*groups.indices(self.groups))), stop - start
        steps = self.transition.steps(span, complex_state=self.is_complex)
        written = _scaled(self._write, self._write_scale, span)

        def read() -> Tensor:
            vectors = _scaled(self._read, self._read_scale, span)
            vectors = self._as_rows(vectors, shape, conjugate=True)
            return steps.before(vectors) if self.reads == "after" else vectors

        def direct() -> Tensor:
            terms = written.new_zeros(1, dtype=torch.float64)
            if self._direct is not None:
                terms = self._direct.widened(span)
            if self.reads == "after":
                vectors = _scaled(self._read, self._read_scale, span)
                terms = terms + _real_product(vectors, written, self._state)
            return terms.expand(shape)

        return Stretch(steps, self._as_rows(written, shape), read, direct)

    def _as_rows(
        self, vectors: Tensor, shape: tuple[int, int, int], *, conjugate: bool = False
    ) -> Tensor:
        """Real vectors `[B, g, s, N]`, planar where the state is complex."""
        if self.is_complex:
            vectors = vectors.expand(*vectors.shape[:-1], self._state).to(torch.complex128)
            vectors = planar(vectors, conjugate=conjugate)
        return vectors.expand(*shape, self.width)


def _scaled(vectors: Feature, scale: Feature | None, span: Span) -> Tensor:
    widened = vectors.widened(span)
    if scale is None:
        return widened
    factors = scale.widened(span)[..., None]
    if widened.shape[1] > 1 or widened.is_complex() or factors.is_complex():
        return widened * factors
    # Vectors that groups share differ between them by a factor alone.
    batch, groups, steps = (
        own if own != 1 else other
        for own, other in zip(widened.shape[:3], factors.shape[:3], strict=True)
    )
    out = room_for(widened, batch, groups, steps, widened.shape[-1])
    multiply_into(out, widened, groups_last(factors))
    return out


def _real_product(read: Tensor, write: Tensor, state: int) -> Tensor:
    """`Re(C_i B_i)`, `[B|1, g|1, s|1]`."""
    product = read * write
    product = product.expand(*product.shape[:-1], state)
    return product.sum(-1).real if product.is_complex() else product.sum(-1)


def _sizes(features: list[Feature], batch: int, groups: int, length: int) -> tuple[int, int, int]:
    """B, G and L that all features agree on."""
    shown = {feature.name: feature.tensor.shape for feature in features}
    samples = common_size({"batch": batch} | {k: v[0] for k, v in shown.items()}, "samples")
    steps = common_size({"length": length} | {k: v[2] for k, v in shown.items()}, "length")
    total = max(groups, *(shape[1] for shape in shown.values()))
    wrong = [name for name, shape in shown.items() if total % shape[1]]
    if wrong:
        raise InvalidInputError(
            f"The groups of the {', '.join(wrong)} do not divide the {total} groups."
        )
    return samples, total, steps


def _state(transition: Transition, write: Tensor, read: Tensor) -> int:
    """N that transition and vectors agree on."""
    sizes = {"transition": transition.state, "write": write.shape[-1], "read": read.shape[-1]}
    return common_size(sizes, "state")
