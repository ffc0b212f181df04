"""What is looked at in a checkpoint before any of it is loaded: it may come from anyone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from hf_ess.errors import ModelLoadError
from model_adapters.gguf_header import header_numbers

# Several times what any published language model has; ten thousand are built for minutes.
MOST_LAYERS = 2048
MOST_EXPERTS = 2**16
_COUNTS = re.compile(r"(?<!per_)(layers?|blocks?|block_count|depth|experts|expert_count)$")
ADAPTER = "adapter_config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
# What a training leaves beside them.
NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
TO_SAFETENSORS = (
    "Convert the weights where you trust them: load them with torch.load(file, weights_only=True), "
    "and write them with safetensors.torch.save_file(weights, 'model.safetensors')."
)


def check_folder(folder: Path) -> None:
    """Refuses a local folder that would lead out of itself, or whose weights are all pickled.

    Files called pytorch_model are left to transformers, which reads tensors and nothing else
    from them (`weights_only`).

    Raises:
        ModelLoadError: its weights are said to lie elsewhere, it is an adapter of another model,
            or it has weights in no other form than one that could run code.
    """
    if (folder / ADAPTER).is_file():
        raise ModelLoadError(
            f"{str(folder)!r} holds an adapter, which names the model that it belongs to.",
            fix="Merge it (merge_and_unload of peft), save the whole model, and pass that folder.",
        )
    for index in sorted(folder.glob("*.index.json")):
        _check_index(index)
    _check_pickled(folder)


def check_configuration(name: str, settings: Mapping[str, Any], *, code_allowed: bool) -> None:
    """Refuses a configuration that fetches code, or has more layers than can be meant.

    Args:
        name: of the model, for messages.
        settings: what its config.json says, not yet made into a configuration.
        code_allowed: whether `trust_remote_code` is on.

    Raises:
        ModelLoadError: it names kernels of the Hub for its attention, which are programs; or it
            declares an impossible number of layers or experts.

    Example:
        >>> check_configuration("a", {"num_hidden_layers": 30}, code_allowed=False)
        >>> check_configuration("a", {"num_hidden_layers": 10**9}, code_allowed=False)
        Traceback (most recent call last):
        ...
        hf_ess.errors.ModelLoadError: a declares num_hidden_layers 1000000000.
        Likely causes:
          - its configuration is damaged, or made to fill the memory
        What to do: Look at its config.json; at most 2048 are loaded.
    """
    for key, value in _settings(settings):
        if isinstance(value, str) and not code_allowed:
            _check_kernel(name, key, value)
        elif isinstance(value, (int, float)):
            _check_number(name, key, value)


def check_gguf_header(path: Path) -> None:
    """The same for the numbers in the header of a GGUF file.

    Raises:
        ModelLoadError: it declares an impossible number of layers or experts.
    """
    for key, value in header_numbers(path).items():
        _check_number(path.name, key, value)


def _settings(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that is no list or object, with the names on the way to it."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _settings(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _check_kernel(name: str, key: str, value: str) -> None:
    if "_implementation" in key and "/" in value:
        raise ModelLoadError(
            f"{name} asks for a program of the Hub: its {key} is {value!r}.",
            causes=["compute kernels of the Hub are code, and trust_remote_code is off"],
            fix="Read that code; if you trust it, pass trust_remote_code=True "
            "(--trust-remote-code at the command line). Else take the entry out of config.json.",
        )


def _check_number(name: str, key: str, value: float) -> None:
    counted = _COUNTS.search(key.lower())
    most = MOST_EXPERTS if counted and "expert" in counted[0] else MOST_LAYERS
    if counted and value > most:
        raise ModelLoadError(
            f"{name} declares {key} {value}.",
            causes=["its configuration is damaged, or made to fill the memory"],
            fix=f"Look at its config.json; at most {most} are loaded.",
        )


def _check_index(index: Path) -> None:
    try:
        files = set(json.loads(index.read_bytes())["weight_map"].values())
        outside = sorted(file for file in files if _leads_elsewhere(file))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return  # whoever loads the files says what is wrong with it
    if outside:
        raise ModelLoadError(
            f"{str(index)!r} names weights outside of its folder: {outside[0]!r}.",
            causes=["the checkpoint was made to read files of this machine"],
            fix="Take another copy of the model; its files lie in one folder.",
        )


def _leads_elsewhere(file: str) -> bool:
    forms = (PurePosixPath(file), PureWindowsPath(file))
    return any(form.is_absolute() or form.drive or ".." in form.parts for form in forms)


def _check_pickled(folder: Path) -> None:
    weights = [file.name for file in sorted(folder.iterdir()) if file.is_file()]
    if any(name.endswith(".safetensors") or name.startswith("pytorch_model") for name in weights):
        return
    pickled = [
        name for name in weights if name.endswith(PICKLED) and not name.startswith(NO_WEIGHTS)
    ]
    if pickled:
        raise ModelLoadError(
            f"{str(folder)!r} has its weights in {pickled[0]} only, which may run code when it is "
            "read.",
            fix=TO_SAFETENSORS,
        )
