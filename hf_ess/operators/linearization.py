"""One run of a function, differentiated as often as asked: products with its Jacobian."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from hf_ess.errors import HfEssError, InvalidTypeError, UnsupportedMixerError
from hf_ess.operators.linear_operator import FLOAT64_BYTES
from hf_ess.out_of_memory import is_out_of_memory

# Batched backward passes win little beyond this many at a time.
MOST_TOGETHER = 1024


def float64_version(module: nn.Module) -> Callable[..., Any]:
    """The module as a function that runs with float64 weights, buffers and arguments.

    The module keeps its own weights. What it keeps outside of parameters and buffers, and what it
    converts by itself, stays as it is.
    """
    named = [*module.named_parameters(), *module.named_buffers()]
    with torch.inference_mode(False):
        weights = {name: _as_float64(weight.detach()) for name, weight in named}

    def function(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = tree_map(_as_float64, (args, kwargs))
        return functional_call(module, weights, args, kwargs)

    return function


def _as_float64(value: Any) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    value = value.to(torch.float64)
    # Tensors of inference mode take part in no backward pass.
    return value.clone() if value.is_inference() else value


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in which dtype a function rounds, and how much memory its steps take."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.narrowest = torch.float64
        self.bytes = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.is_floating_point():
                self._count(value)
                if torch.finfo(value.dtype).eps > torch.finfo(self.narrowest).eps:
                    self.narrowest = value.dtype
        return result

    def _count(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        if storage.data_ptr() not in self._storages:
            self._storages.add(storage.data_ptr())
            self.bytes += storage.nbytes()


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Gradients are on, and fused kernels, whose backward has no derivative, are off."""
    backends: Any = (torch.backends.cudnn, torch.backends.mkldnn)
    enabled = [backend.enabled for backend in backends]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        # A batched backward is slow where torch has no rule for a step, and says so every time.
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "There is a performance drop")
        try:
            for backend in backends:
                backend.enabled = False
            yield
        finally:
            for backend, before in zip(backends, enabled, strict=True):
                backend.enabled = before


class Linearization:
    """A function at one input, and products with its Jacobian J.

    `J' w` is a backward pass of the one run. `J v` is the derivative of that backward pass by w,
    which it is linear in. So the function runs once, and nothing is asked of it but a backward
    pass, which for `J v` must be differentiable itself.

    Args:
        function: `[B, L, I]` to `[B, L, O]`.
        inputs: `[B, L, I]`, floating-point.
        work_bytes: memory for products that are computed together.

    Attributes:
        inputs: `[B, L, I]`, leaf of the run.
        outputs: `[B, L, O]`.
        narrowest: the narrowest dtype that occurred.
        together: how many products fit into `work_bytes`.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], inputs: Tensor, work_bytes: int
    ) -> None:
        self._function = function
        self._batched = True
        self._backward: tuple[Tensor, Tensor] | None = None
        watch = _Watch()
        with _twice_differentiable():
            self.inputs = inputs.detach().clone().requires_grad_()
            with watch:
                outputs = function(self.inputs)
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            raise InvalidTypeError(
                f"The function must return a floating-point tensor, got {type(outputs).__name__}.",
                fix="Wrap a module that returns a tuple: lambda u: module(u)[0].",
            )
        self.outputs = outputs
        dtypes = (watch.narrowest, inputs.dtype, outputs.dtype)
        self.narrowest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
        per_product = 2 * watch.bytes + (inputs.numel() + outputs.numel()) * 2 * FLOAT64_BYTES
        self.together = max(1, min(MOST_TOGETHER, work_bytes // per_product))

    def transposed_products(self, cotangents: Tensor) -> Tensor:
        """`J' w` in float64: `[n, B, L, O]` to `[n, B, L, I]`."""
        return self._differentiate(self.outputs, self.inputs, cotangents)

    def products(self, tangents: Tensor) -> Tensor:
        """`J v` in float64: `[n, B, L, I]` to `[n, B, L, O]`.

        Raises:
            UnsupportedMixerError: the backward pass cannot be differentiated.
        """
        backward, cotangent = self._backward_pass()
        return self._differentiate(backward, cotangent, tangents)

    def multiply_fewer_at_once(self) -> bool:
        """Halves how many products are computed together; False where it is one already."""
        fewer = self.together // 2
        self.together = max(1, fewer)
        return fewer > 0

    def central_difference(self, direction: Tensor, step: float) -> Tensor:
        """`(f(u + h v) - f(u - h v)) / 2h` in float64 for v `[B, L, I]`, `[B, L, O]`."""
        start = self.inputs.detach()
        shift = (step * direction).to(start.dtype)
        with _twice_differentiable(), torch.no_grad():
            ahead, behind = self._function(start + shift), self._function(start - shift)
        return (ahead.to(torch.float64) - behind.to(torch.float64)) / (2 * step)

    def _backward_pass(self) -> tuple[Tensor, Tensor]:
        """`J' w` as a function of w, to be differentiated, and w."""
        if self._backward is None:
            try:
                with _twice_differentiable():
                    cotangent = torch.zeros_like(self.outputs, requires_grad=True)
                    backward = self._pulled_back(cotangent), cotangent
                self._check_products(*backward)
            except HfEssError:
                raise
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                raise _no_products(f"torch says: {error}") from error
            self._backward = backward
        return self._backward

    def _pulled_back(self, cotangent: Tensor) -> Tensor:
        backward = None
        if self.outputs.requires_grad:
            (backward,) = torch.autograd.grad(
                self.outputs, self.inputs, cotangent, create_graph=True, allow_unused=True
            )
        # A function that ignores its input has no backward pass, and a Jacobian of zeros.
        return torch.zeros_like(self.inputs.detach()) if backward is None else backward

    def _check_products(self, backward: Tensor, cotangent: Tensor) -> None:
        """`w' (J v) = (J' w)' v`, which fails where a backward pass has no derivative itself."""
        generator = torch.Generator().manual_seed(0)
        v, w = (
            torch.randn(features.shape, generator=generator).to(features)[None]
            for features in (self.inputs, self.outputs)
        )
        ahead, back = self._differentiate(backward, cotangent, v), self.transposed_products(w)
        difference = ((w * ahead).sum() - (back * v).sum()).abs()
        scale = torch.maximum((w * ahead).abs().sum(), (back * v).abs().sum())
        if difference > 1000 * torch.finfo(self.narrowest).eps * scale:
            raise _no_products("a part of it is hidden from torch")

    def _differentiate(self, outputs: Tensor, inputs: Tensor, vectors: Tensor) -> Tensor:
        if not outputs.requires_grad:
            return torch.zeros(
                (len(vectors), *inputs.shape), dtype=torch.float64, device=inputs.device
            )
        with _twice_differentiable():
            parts = [
                self._gradients(outputs, inputs, part.to(outputs.dtype)).to(torch.float64)
                for part in torch.split(vectors, self.together)
            ]
        return torch.cat(parts)

    def _gradients(self, outputs: Tensor, inputs: Tensor, vectors: Tensor) -> Tensor:
        if self._batched and len(vectors) > 1:
            try:
                return _gradient(outputs, inputs, vectors, is_grads_batched=True)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                # Custom autograd functions without a rule for vmap.
                self._batched = False
        return torch.stack([_gradient(outputs, inputs, vector) for vector in vectors])


def _gradient(
    outputs: Tensor, inputs: Tensor, vectors: Tensor, *, is_grads_batched: bool = False
) -> Tensor:
    (gradient,) = torch.autograd.grad(
        outputs, inputs, vectors, retain_graph=True, is_grads_batched=is_grads_batched,
        allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    return gradient.detach()


def _no_products(cause: str) -> UnsupportedMixerError:
    return UnsupportedMixerError(
        "The function's backward pass cannot be differentiated, which products J v need.",
        causes=[cause, "a fused kernel, or a custom autograd function"],
        fix="Run it without fused kernels, or raise memory_budget until its whole Jacobian fits, "
        "which needs backward passes only.",
    )
