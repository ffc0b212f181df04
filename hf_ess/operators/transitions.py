"""What carries a state from one step to the next: decays, delta rules, matrices."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.operators.features import Feature, Span
from hf_ess.operators.steps import (
    DenseSteps,
    DiagonalSteps,
    LowRankSteps,
    OuterSteps,
    TransitionSteps,
)


class Transition(ABC):
    """The matrices `A_i` of `h_i = A_i h_{i-1} + B_i u_i`, for all samples, groups and steps.

    `ScalarDecay`, `DiagonalDecay` and `DeltaRule` are such matrices.

    Features stay in the dtype of the model. Axes of size one are shared: by samples, by groups,
    or by steps (time-invariant recurrences). A number of groups that divides that of the operator
    is repeated for neighbouring groups.

    Args:
        features: what the matrices are made of.
    """

    def __init__(self, *features: Feature) -> None:
        self.features = features

    @property
    def is_complex(self) -> bool:
        """Whether the state is complex."""
        return any(feature.is_complex for feature in self.features)

    @property
    def state(self) -> int:
        """N where the transition knows it, else 1."""
        return max(feature.tensor.shape[-1] for feature in self.features)

    @abstractmethod
    def steps(self, span: Span, *, complex_state: bool = False) -> TransitionSteps:
        """The transitions of a stretch in float64, of planar rows where the state is complex."""

    def _reals_only(self, complex_state: bool) -> None:
        if complex_state:
            raise InvalidTypeError(
                f"{type(self).__name__} carries real states only.",
                fix="Use DenseTransition or DiagonalDecay for complex states.",
            )


def _for_each_step(tensor: Tensor, span: Span) -> Tensor:
    """Shared steps repeated (without a copy) as often as the stretch is long."""
    sizes = list(tensor.shape)
    sizes[2] = span.stop - span.start
    return tensor.expand(sizes)


class DiagonalDecay(Transition):
    """`A_i = diag(decay_i)`: GLA, RG-LRU, and with complex decays S4D, LRU, diagonal S5.

    Args:
        decay: `[B|1, G|g|1, L|1, N]`, real or complex. 0 resets the state, values above one in
            size let it grow.
        log_decay: natural logarithm of the decay instead, real; minus infinity resets.

    Raises:
        InvalidInputError: not exactly one of the two, or wrong axes.
        NonFiniteError: NaN or infinite.

    Source: Gu et al., "On the Parameterization and Initialization of Diagonal State Space
    Models", NeurIPS 2022; Yang et al., "Gated Linear Attention", ICML 2024; De et al.,
    "Griffin", 2024, eq. 4 (RG-LRU).

    Example:
        >>> import torch
        >>> from hf_ess.operators import DiagonalDecay, StateSpaceOperator
        >>> one = torch.ones(1, 1, 3, 1)
        >>> StateSpaceOperator(DiagonalDecay(one / 2), write=one, read=one).to_dense()[0, 0, 2]
        tensor([0.2500, 0.5000, 1.0000], dtype=torch.float64)
    """

    def __init__(self, decay: Tensor | None = None, *, log_decay: Tensor | None = None) -> None:
        if (decay is None) == (log_decay is None):
            raise InvalidInputError("Give either decay or log_decay.")
        if decay is not None:
            super().__init__(Feature("decays", decay, 4))
        elif log_decay is not None:
            super().__init__(Feature("logarithmic decays", log_decay, 4, resets=True))
        self._logarithmic = decay is None

    def steps(self, span: Span, *, complex_state: bool = False) -> TransitionSteps:
        decay = _for_each_step(self.features[0].widened(span), span)
        if self._logarithmic:
            decay = decay.exp()
        return DiagonalSteps(decay.to(torch.complex128) if complex_state else decay)


class ScalarDecay(DiagonalDecay):
    """`A_i = exp(log_decay_i) I`, one number per group and step: Mamba-2, RetNet, lightning.

    Args:
        log_decay: `[B|1, G|g|1, L|1]`, real; minus infinity resets the state.

    Source: Dao and Gu, "Transformers are SSMs", ICML 2024, section 3 (SSD); Sun et al.,
    "Retentive Network", 2023.

    Example:
        >>> import torch
        >>> from hf_ess.operators import ScalarDecay, StateSpaceOperator
        >>> ones = torch.ones(1, 2, 3, 4)
        >>> StateSpaceOperator(ScalarDecay(torch.full((1, 2, 1), -0.1)), ones, ones)
        StateSpaceOperator(shape=[1, 2, 3, 3], state_size=4)
    """

    def __init__(self, log_decay: Tensor) -> None:
        per_step = Feature("logarithmic decays", log_decay, 3, resets=True)
        super().__init__(log_decay=per_step.tensor[..., None])


class OuterDecay(Transition):
    """`A_i = diag(exp(rate * step_i))`, expanded only for a few groups and steps: Mamba (S6).

    Args:
        rate: `[G, N]`, usually negative (`A = -exp(A_log)`).
        step: `[B, G, L]`, the discretisation step dt.

    Raises:
        InvalidInputError: the rates are no `[G, N]`.

    Source: Gu and Dao, "Mamba", 2023, section 3.2 and algorithm 2 (zero-order hold).

    Example:
        >>> import torch
        >>> from hf_ess.operators import OuterDecay, StateSpaceOperator
        >>> rate, dt = -torch.rand(8, 4), torch.rand(2, 8, 5)
        >>> b, c = torch.rand(2, 1, 5, 4), torch.rand(2, 1, 5, 4)
        >>> StateSpaceOperator(OuterDecay(rate, dt), b, c, write_scale=dt)
        StateSpaceOperator(shape=[2, 8, 5, 5], state_size=4)
    """

    def __init__(self, rate: Tensor, step: Tensor) -> None:
        if not isinstance(rate, Tensor) or rate.ndim != 2:
            raise InvalidInputError("The rate must be a tensor [G, N].")
        steps = Feature("steps", step, 3)
        super().__init__(
            Feature("rates", rate[None, :, None, :], 4),
            Feature("steps", steps.tensor[..., None], 4),
        )

    @property
    def state(self) -> int:
        return self.features[0].tensor.shape[-1]

    def steps(self, span: Span, *, complex_state: bool = False) -> TransitionSteps:
        rate, step = (feature.widened(span) for feature in self.features)
        if complex_state:
            rate = rate.to(torch.complex128)
        return OuterSteps(rate, _for_each_step(step, span))


class DeltaRule(Transition):
    """`A_i = (I - beta_i k_i k_i') diag(exp(log_decay_i))`: DeltaNet, gated delta rule, KDA.

    Args:
        key: `[B, G|g, L, N]` as the rule uses it (normalised, where the model does that).
        beta: `[B|1, G|g|1, L]`, how much of what is stored under the key is replaced.
        log_decay: `[B|1, G|g|1, L|1, 1]` for one decay per head, `[.., N]` for one per key
            channel, None for none. The decay comes first, then the replacement.

    Source: Yang et al., "Gated Delta Networks", ICLR 2025, eq. 10; Kimi Team, "Kimi Linear",
    2025, eq. 1 (per channel).

    Example:
        >>> import torch
        >>> from hf_ess.operators import DeltaRule, StateSpaceOperator
        >>> key = torch.eye(3)[None, None, [0, 0, 1]]  # the second write replaces the first
        >>> beta = torch.ones(1, 1, 3)
        >>> operator = StateSpaceOperator(DeltaRule(key, beta), key, torch.ones(1, 1, 3, 3))
        >>> operator.to_dense()[0, 0, 2]
        tensor([0., 1., 1.], dtype=torch.float64)
    """

    def __init__(self, key: Tensor, beta: Tensor, log_decay: Tensor | None = None) -> None:
        strength = Feature("betas", beta, 3).tensor[..., None]
        features = [Feature("keys", key, 4), Feature("betas", strength, 4)]
        if log_decay is not None:
            features.append(Feature("logarithmic decays", log_decay, 4, resets=True))
        super().__init__(*features)

    def steps(self, span: Span, *, complex_state: bool = False) -> TransitionSteps:
        self._reals_only(complex_state)
        key, beta, *log_decay = (
            _for_each_step(feature.widened(span), span) for feature in self.features
        )
        decay = log_decay[0].exp() if log_decay else torch.ones_like(beta)
        return LowRankSteps(decay, -beta * key, decay * key)


class DiagonalPlusLowRank(Transition):
    """`A_i = diag(decay_i) + left_i right_i'`, the generalised delta rule: RWKV-7, DPLR.

    Args:
        decay: `[B|1, G|g|1, L|1, N|1]`, values, not logarithms.
        left: `[B, G|g, L, N]`, the direction that is written.
        right: `[B, G|g, L, N]`, the direction that is read for it.

    Source: Peng et al., "RWKV-7 Goose", 2025, eq. 17 (`diag(w) - kappa' (a * kappa)` there).

    Example:
        >>> import torch
        >>> from hf_ess.operators import DiagonalPlusLowRank, StateSpaceOperator
        >>> rows = torch.rand(1, 2, 5, 4)
        >>> transition = DiagonalPlusLowRank(torch.full((1, 1, 1, 1), 0.9), -rows / 9, rows)
        >>> StateSpaceOperator(transition, rows, rows).state_size
        4
    """

    def __init__(self, decay: Tensor, left: Tensor, right: Tensor) -> None:
        named = {"decays": decay, "left vectors": left, "right vectors": right}
        super().__init__(*(Feature(name, tensor, 4) for name, tensor in named.items()))

    def steps(self, span: Span, *, complex_state: bool = False) -> TransitionSteps:
        self._reals_only(complex_state)
        return LowRankSteps(
            *(_for_each_step(feature.widened(span), span) for feature in self.features)
        )


class DenseTransition(Transition):
    """`A_i` as matrices, real or complex, constant or one for each step.

    Args:
        matrices: `[N, N]` for one constant system, else `[B|1, G|g|1, L|1, N, N]`.

    Raises:
        InvalidInputError: matrices that are not square.

    Source: Smith et al., "Simplified State Space Layers", ICLR 2023 (S5); any linear
    time-varying system.

    Example:
        >>> import torch
        >>> from hf_ess.operators import DenseTransition, StateSpaceOperator
        >>> turn = DenseTransition(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))
        >>> b = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
        >>> StateSpaceOperator(turn, write=b, read=b, length=4).to_dense()[0, 0, 3]
        tensor([ 0., -1.,  0.,  1.], dtype=torch.float64)
    """

    def __init__(self, matrices: Tensor) -> None:
        if isinstance(matrices, Tensor) and matrices.ndim == 2:
            matrices = matrices[None, None, None]
        feature = Feature("transition matrices", matrices, 5)
        if matrices.shape[-1] != matrices.shape[-2]:
            raise InvalidInputError(
                f"The transition matrices must be square, got {list(matrices.shape)}."
            )
        super().__init__(feature)

    def steps(self, span: Span, *, complex_state: bool = False) -> TransitionSteps:
        matrices = self.features[0].widened(span)
        if complex_state:
            real, imaginary = matrices.real, torch.zeros_like(matrices.real)
            if matrices.is_complex():
                imaginary = matrices.imag
            upper = torch.cat([real, -imaginary], -1)
            matrices = torch.cat([upper, torch.cat([imaginary, real], -1)], -2)
        return DenseSteps(_for_each_step(matrices, span))
