"""What a causal language model gives each token of a context, without all logits at once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.analysis.model_checks import (
    explained_length,
    forward_parameters,
    input_device,
    input_embeddings,
    non_finite_error,
)
from hf_ess.errors import NotCausalError, UnsupportedModelError

TRIAL_LENGTH = 13
TRIAL_CHUNK = 5
# Bytes of a logit while its token is scored: in the dtype of the model and in float64, twice.
BYTES_PER_LOGIT = 24


class TokenScorer:
    """Scores tokens in a context.

    Args:
        model: a causal language model in evaluation mode.
        memory_budget: bytes that logits may take at once. Where the model knows `logits_to_keep`,
            its backbone then runs once for each batch of windows, and its head, with whatever it
            does to logits, once for each part of the positions.
    """

    def __init__(self, model: nn.Module, memory_budget: int) -> None:
        self.model = model
        self.memory_budget = memory_budget
        self._known = forward_parameters(model)
        self._in_parts = "logits_to_keep" in self._known

    def check(self, ids: Tensor) -> None:
        """Tries the model on the beginning of a text `[L]`.

        Raises:
            NotCausalError: logits change with a later token.
            UnsupportedModelError: the model gives no logits.
        """
        text = ids[None, :TRIAL_LENGTH]
        other = text.clone()
        other[0, -1] = 0 if int(text[0, -1]) else 1
        positions = range(text.shape[1] - 1)
        whole = self._forward(text)[:, : len(positions)].double()
        if _differ(whole, self._forward(other)[:, : len(positions)]):
            raise NotCausalError(
                f"{type(self.model).__name__} is not causal: its prediction of a token depends on "
                "that token.",
                causes=["it is an encoder (BERT and its kind)", "is_decoder is not set"],
                fix="Pass a causal language model, or load with is_decoder=True.",
            )
        if self._in_parts:
            parts = torch.cat(list(self._parts(text, positions, TRIAL_CHUNK)), dim=1)
            self._in_parts = not _differ(whole, parts)

    def losses(self, ids: Tensor, scored_from: int) -> Tensor:
        """Negative log-probabilities of tokens, given all before them in the context.

        Args:
            ids: int64 `[B, L]`.
            scored_from: the first token to score, at least 1.

        Returns:
            float64 `[B, L - scored_from]` on the CPU, in nats; log-sum-exp in float64 whatever the
            dtype of the model.

        Raises:
            NonFiniteError: logits are NaN or infinite, or a token has probability zero.
            InvalidInputError: the context is too long for the model.
        """
        targets = ids[:, scored_from:]
        positions = range(scored_from - 1, ids.shape[1] - 1)
        found, done = [], 0
        with explained_length(self.model, ids.shape[1]):
            for logits in self._logits(ids, positions):
                found.append(self._token_losses(logits, targets[:, done : done + logits.shape[1]]))
                done += logits.shape[1]
        return torch.cat(found, dim=1)

    def _token_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        wide = logits.double()
        chosen = wide.gather(2, targets.to(wide.device)[..., None])[..., 0]
        losses = (wide.logsumexp(-1) - chosen).cpu()
        if not bool(torch.isfinite(losses).all()):
            raise non_finite_error(
                self.model,
                "The model's output is NaN or infinite, or it gives a token probability zero.",
            )
        return losses

    def _logits(self, ids: Tensor, positions: range) -> Iterator[Tensor]:
        if self._in_parts:
            yield from self._parts(ids, positions, self._positions_at_once(ids.shape[0]))
            return
        logits = self._forward(ids)
        size = max(1, self.memory_budget // (logits[:, 0].numel() * BYTES_PER_LOGIT))
        for part in _parts_of(positions, size):
            yield logits[:, part.start : part.stop]

    def _parts(self, ids: Tensor, positions: range, size: int) -> Iterator[Tensor]:
        parts = list(_parts_of(positions, size))
        with _backbone_runs_once(self.model) if len(parts) > 1 else nullcontext():
            for part in parts:
                yield self._forward(ids, logits_to_keep=torch.tensor(part))

    def _positions_at_once(self, batch: int) -> int:
        head = getattr(self.model, "get_output_embeddings", lambda: None)()
        embeddings = input_embeddings(self.model)
        size: int = getattr(head, "out_features", getattr(embeddings, "num_embeddings", 1))
        return max(1, self.memory_budget // (batch * size * BYTES_PER_LOGIT))

    def _forward(self, ids: Tensor, **options: Any) -> Tensor:
        if "use_cache" in self._known:
            options["use_cache"] = False
        result = self.model(input_ids=ids.to(input_device(self.model)), **options)
        logits = getattr(result, "logits", None)
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            raise UnsupportedModelError(
                f"{type(self.model).__name__} gives no logits [B, L, V].",
                causes=["it is a model without a language-modelling head"],
                fix="Load it with AutoModelForCausalLM.",
            )
        return logits


def _parts_of(positions: range, size: int) -> Iterator[range]:
    for first in range(0, len(positions), size):
        yield positions[first : first + size]


def _differ(whole: Tensor, other: Tensor) -> bool:
    """Whether logits differ by more than rounding."""
    if whole.shape != other.shape:
        return True
    bound = torch.finfo(other.dtype).eps ** 0.5 * whole.abs().max()
    return bool((whole - other).abs().max() > bound)


@contextmanager
def _backbone_runs_once(model: nn.Module) -> Iterator[None]:
    """The first output of the backbone serves all further calls of the model.

    A model without a backbone of its own runs anew each time.
    """
    backbone = getattr(model, "base_model", model)
    if backbone is model or not isinstance(backbone, nn.Module):
        yield
        return
    original, own = backbone.forward, backbone.__dict__.get("forward")
    outputs: list[Any] = []

    @functools.wraps(original)
    def forward(*arguments: Any, **options: Any) -> Any:
        if not outputs:
            outputs.append(original(*arguments, **options))
        return copy.copy(outputs[0])

    backbone.forward = forward
    try:
        yield
    finally:
        if own is None:
            del backbone.forward
        else:
            backbone.forward = own
