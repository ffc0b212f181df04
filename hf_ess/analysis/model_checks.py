"""What must hold of a model before an analysis, and what is set for its duration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.errors import (
    HfEssError,
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from hf_ess.out_of_memory import is_out_of_memory, shortage_of
from model_adapters.weights import execution_devices, non_finite_weights


def check_model(model: Any) -> None:
    """Refuses what cannot be a causal language model that runs here.

    Raises:
        InvalidTypeError: no `torch.nn.Module`.
        UnsupportedModelError: an encoder-decoder or a model without `input_ids`, or weights on
            the meta device.
    """
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(
            f"Cannot analyse an object of type {type(model).__name__}.",
            fix="Pass a loaded model, a Hub id, a local folder, or the path of a .gguf file.",
        )
    check_module(model)
    if "input_ids" not in forward_parameters(model):
        raise UnsupportedModelError(
            f"{type(model).__name__} does not take token ids (no `input_ids` in its forward).",
            causes=["it is a vision or audio model", "it is one module of a language model"],
            fix="Pass a causal language model.",
        )


def check_token_ids(model: nn.Module, samples: Sequence[Tensor], names: Sequence[str] = ()) -> None:
    """Refuses token ids for which the model has no embedding; they would crash a GPU.

    Args:
        model: that is to read them.
        samples: token ids `[L]` each.
        names: of the samples, for the message; their numbers by default.

    Raises:
        InvalidInputError: an id lies beyond the vocabulary.
    """
    size = getattr(input_embeddings(model), "num_embeddings", None)
    if size is None:
        return
    for number, ids in enumerate(samples):
        outside = ids[ids >= size]
        if len(outside):
            name = names[number] if names else f"Sample {number}"
            raise InvalidInputError(
                f"{name} holds the token id {int(outside[0])}, the model knows 0..{size - 1}.",
                causes=["the tokenizer belongs to another model"],
                fix="Use the tokenizer of the model.",
            )


@contextmanager
def explained_length(model: nn.Module, length: int) -> Iterator[None]:
    """Says that a text is too long, where the model itself fails on a table that ends.

    Raises:
        InvalidInputError: the model failed on a text longer than it was made for.
    """
    try:
        yield
    except HfEssError:
        raise
    except (IndexError, RuntimeError, ValueError) as error:
        longest = context_length(model)
        # RoBERTa and its kind number their positions from 2 on.
        if longest is None or length <= longest - 2:
            raise
        raise InvalidInputError(
            f"A text of {length} tokens is too long for {type(model).__name__}, which was made for "
            f"{longest}.",
            causes=[f"the model stopped with {type(error).__name__}: {error}"],
            fix="Analyse a shorter text.",
        ) from error


@contextmanager
def explained_shortage(samples: int, length: int) -> Iterator[None]:
    """Says what to do where memory runs out while the model itself computes.

    Raises:
        OutOfMemoryError: the device has no memory left.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"Memory ran out while the model ran on {samples} text(s) of {length} tokens.",
            causes=[shortage_of(error), "other programs use the memory of the device, too"],
            fix="Let fewer texts run together (batch_size), analyse shorter ones, load the model "
            'in a narrower dtype, or place it elsewhere (device, device_map="auto").',
        ) from error


def context_length(model: nn.Module) -> int | None:
    """Tokens of the longest text that a model was made for, None where it does not say."""
    config = getattr(model, "config", None)
    text_config = getattr(config, "get_text_config", lambda **_: config)(decoder=True)
    longest = getattr(text_config, "max_position_embeddings", None)
    # XLNet says -1.
    return longest if isinstance(longest, int) and longest > 0 else None


def forward_parameters(model: nn.Module) -> set[str]:
    """Names of the arguments of the model's forward.

    The switch of the cache counts also where only the base of a model names it, to which the model
    hands on what it does not name itself (granitemoehybrid).
    """
    model = getattr(model, "_orig_mod", model)
    arguments = inspect.signature(model.forward).parameters
    base = getattr(model, "base_model", None)
    hands_on = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
    if not hands_on or not isinstance(base, nn.Module):
        return set(arguments)
    return {*arguments, *{"use_cache"}.intersection(inspect.signature(base.forward).parameters)}


def forward_options(model: nn.Module, length: int) -> dict[str, Any]:
    """What a forward pass is told besides its inputs: no cache, and no logits but the last."""
    known = forward_parameters(model)
    # Not the number 1, for which gemma4 computes its upper layers at the last token only.
    options = {"use_cache": False, "logits_to_keep": torch.tensor([length - 1])}
    return {name: value for name, value in options.items() if name in known}


def check_module(model: nn.Module) -> None:
    """Refuses a module that is not causal by design, or that has no weights to run with.

    Raises:
        UnsupportedModelError: an encoder-decoder, or weights on the meta device.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{type(model).__name__} is an encoder-decoder: its encoder is not causal.",
            fix="Analyse the decoder as a causal language model (AutoModelForCausalLM).",
        )
    _check_weights_are_here(model)


def _check_weights_are_here(model: nn.Module) -> None:
    on_meta = [name for name, device in execution_devices(model).items() if device.type == "meta"]
    if on_meta:
        raise UnsupportedModelError(
            f"{len(on_meta)} weights are on the meta device and hold no numbers, "
            f"first {on_meta[0]}.",
            causes=["the model was built under torch.device('meta') or init_empty_weights()"],
            fix="Load the weights, for example with from_pretrained.",
        )


def input_device(model: nn.Module) -> torch.device:
    """Where the model wants its token ids."""
    first = input_embeddings(model) or model
    devices = (*execution_devices(first).values(), *execution_devices(model).values())
    return next((device for device in devices if device.type != "meta"), torch.device("cpu"))


def input_embeddings(model: nn.Module) -> nn.Module | None:
    """The module that makes vectors of token ids, None where the model names none."""
    try:
        return getattr(model, "get_input_embeddings", lambda: None)()
    except NotImplementedError:
        return None


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[bool]:
    """The model without dropout; every module gets back the mode that it had.

    Yields:
        Whether any module was in training mode.
    """
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield bool(training)
    finally:
        for module in training:
            module.training = True


def check_finite_result(model: nn.Module, result: Any) -> None:
    """Refuses a model whose output is NaN or infinite, naming the weights that are.

    Raises:
        NonFiniteError: the output is not finite.
    """
    logits = getattr(result, "logits", None)
    if isinstance(logits, torch.Tensor) and not bool(torch.isfinite(logits[:, -1]).all()):
        raise non_finite_error(model, "The model's output is NaN or infinite.")


def non_finite_error(model: nn.Module, what: str) -> NonFiniteError:
    """An error that names the weights which hold NaN or infinity, if any do."""
    names, packed = non_finite_weights(model)
    finite = "its weights are finite"
    if packed:
        finite += f", but {len(packed)} packed ones cannot be looked at ({_listed(packed)})"
    return NonFiniteError(
        what,
        causes=[f"these weights hold NaN or infinity: {_listed(names)}"]
        if names
        else [f"the model overflows in its dtype; {finite}"],
        fix="Repair the checkpoint."
        if names
        else "Load the model in a wider dtype (dtype=torch.float32).",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
