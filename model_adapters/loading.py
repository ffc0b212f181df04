"""Loading a causal language model by name: a Hub id, a local folder, or a GGUF file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_ess.errors import InvalidInputError, ModelLoadError, UnsupportedModelError
from hf_ess.shipped import means_shipped, shipped_folder, weights_folder
from model_adapters.placement import DeviceMap, checked_device, checked_placement

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
GGUF_MAGIC = b"GGUF"
# Where a model keeps its backbone in no module of its own.
HEAD = "lm_head."


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer (None if it has none)."""

    model: nn.Module
    tokenizer: Any | None


def load(
    source: str | os.PathLike[str],
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    device_map: DeviceMap | None = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads a causal language model and its tokenizer.

    Args:
        source: a Hub id (`"org/name"`), a local folder (also that of a finished run of
            `hf-ess lab`), the path of a `.gguf` file, whose weights are dequantized to `dtype`,
            or the name of a checkpoint that is shipped with hf_ess (`"mqar-gla"`), unless there
            is a local folder of that name.
        dtype: a torch dtype or its name; the checkpoint's own by default, float32 for GGUF.
        device: where the whole model goes, the CPU by default.
        device_map: where its parts go instead, through accelerate: "auto" fills GPUs, then
            memory, then the disk; "cpu" and "disk" are for everything, as the name of a device is;
            or a mapping from modules to devices, "cpu" or "disk".
        max_memory: what "auto" may take of each device and of "cpu", as `{0: "20GB"}`.
        offload_folder: where weights for the disk are written, if they cannot be read from the
            checkpoint as they are.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run Python code that comes with the checkpoint; off unless asked for.

    Raises:
        InvalidInputError: unknown dtype, device or device map, or both of the latter.
        ModelLoadError: the source is missing, damaged, gated or out of reach.
        UnsupportedModelError: it is no causal language model.
    """
    chosen = checked_dtype(dtype)
    target = {"device_map": {"": checked_device(device)}}
    placement = checked_placement(device, device_map, max_memory, offload_folder)
    path = Path(source).expanduser()
    if path.suffix.lower() == ".gguf":
        loaded = _load_gguf(path, chosen or torch.float32, placement or target)
    else:
        options = {"revision": revision, "trust_remote_code": bool(trust_remote_code)}
        loaded = _load_pretrained(source, path, chosen, options, placement or target)
    return LoadedModel(loaded.model.eval(), loaded.tokenizer)


def checked_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """The dtype by its name; None and "auto" leave the checkpoint's own.

    Raises:
        InvalidInputError: unknown name, or not a floating-point dtype.
    """
    if dtype is None or dtype == "auto":
        return None
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES.values():
        raise InvalidInputError(
            f"Unknown dtype {dtype!r}; choose one of auto, {', '.join(DTYPES)}."
        )
    return chosen


def _load_gguf(path: Path, dtype: torch.dtype, placement: dict[str, Any]) -> LoadedModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    _check_gguf(path)
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model, found = AutoModelForCausalLM.from_pretrained(
            **where,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
            **placement,
        )
    except Exception as error:
        causes, fix = _offloading_hint(error) or (
            ["the file is truncated or damaged", "its architecture is not supported"],
            "Download the file again, or use the original checkpoint.",
        )
        raise ModelLoadError(
            f"The GGUF file {path} cannot be read: {_first_line(error)}", causes=causes, fix=fix
        ) from error
    _check_no_weight_is_missing(str(path), model, found)
    model.config._name_or_path = path.name
    return LoadedModel(model, tokenizer)


def _check_gguf(path: Path) -> None:
    if not path.is_file():
        raise ModelLoadError(f"There is no file {path}.", fix="Check the path.")
    with path.open("rb") as file:
        magic = file.read(len(GGUF_MAGIC))
    if magic != GGUF_MAGIC:
        raise ModelLoadError(
            f"{path} is not a GGUF file: it starts with {magic!r}.",
            causes=["the download stopped early", "it is a Git LFS pointer"],
            fix="Download the file again.",
        )


def _load_pretrained(
    source: str | os.PathLike[str],
    path: Path,
    dtype: torch.dtype | None,
    options: dict[str, Any],
    placement: dict[str, Any],
) -> LoadedModel:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    import hf_ess.synthetics  # noqa: F401 - makes its models known to the auto classes

    is_shipped = means_shipped(source)
    if is_shipped:
        path = shipped_folder(str(source))
    path = weights_folder(path)
    name = str(path) if path.is_dir() and str(source) else str(source)
    _check_name(name, path)
    try:
        config = AutoConfig.from_pretrained(name, **options)
    except Exception as error:
        raise _load_error(name, path, error) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and "AutoModelForCausalLM" not in (
        getattr(config, "auto_map", None) or {}
    ):
        raise UnsupportedModelError(
            f"{name} is of type {config.model_type!r}, which is no causal language model.",
            fix="Choose a causal language model (a decoder).",
        )
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=dtype or "auto",
            output_loading_info=True,
            **options,
            **placement,
        )
    except Exception as error:
        raise _load_error(name, path, error) from error
    _check_no_weight_is_missing(name, model, found)
    if is_shipped:
        model.config._name_or_path = str(source)
    return LoadedModel(model, _tokenizer(name, options))


def _check_name(name: str, path: Path) -> None:
    """Tells a mistyped path from a Hub id before the Hub is asked."""
    if not name.strip():
        raise ModelLoadError(
            "The name of the model is empty.",
            fix="Pass a Hub id (organisation/name), a local folder, or the path of a .gguf file.",
        )
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if not path.exists() and looks_like_path:
        raise ModelLoadError(
            f"There is no folder {name}.",
            fix="Check the path; a Hub id has the form organisation/name.",
        )
    if path.is_file():
        raise ModelLoadError(
            f"{name} is a file, and not a .gguf file.", fix="Pass the folder that holds it."
        )


def _check_no_weight_is_missing(name: str, model: nn.Module, found: dict[str, Any]) -> None:
    """Random numbers stand in for weights that a checkpoint lacks; only a head may be so."""
    prefix = getattr(model, "base_model_prefix", "")
    missing = sorted(
        key
        for key in found["missing_keys"]
        if (key.startswith(f"{prefix}.") if prefix else not key.startswith(HEAD))
    )
    if missing:
        raise ModelLoadError(
            f"{name} has no values for {len(missing)} weights, first {missing[0]}.",
            causes=["the checkpoint is not complete", "its config.json is that of another model"],
            fix="Download or save the checkpoint again.",
        )


def _load_error(name: str, path: Path, error: Exception) -> ModelLoadError:
    hint = _offloading_hint(error)
    if hint is not None:
        causes, fix = hint
    elif "trust_remote_code" in str(error):
        causes = ["the checkpoint needs its own Python code, and trust_remote_code is off"]
        fix = (
            "Read that code; if you trust it, pass trust_remote_code=True (--trust-remote-code at "
            "the command line)."
        )
    elif path.is_dir():
        causes = ["the folder holds no transformers checkpoint", "a file in it is damaged"]
        fix = "Save the model there with save_pretrained."
    else:
        causes = [
            "the name is mistyped",
            "the repository is gated or private and you are not logged in (`hf auth login`)",
            "the Hub is out of reach (HF_HUB_OFFLINE is set, or there is no network)",
        ]
        fix = "Check the name on the Hub, or pass a local folder."
    return ModelLoadError(f"{name} cannot be loaded: {_first_line(error)}", causes=causes, fix=fix)


def _offloading_hint(error: Exception) -> tuple[list[str], str] | None:
    """Causes and fix of an error that is about weights on disk, None for others."""
    if "Disk offload is not supported" in str(error):
        return (
            ["weights of a GGUF file are dequantized in memory, and cannot come from the disk"],
            "Save the dequantized model with save_pretrained, and pass that folder.",
        )
    if "offload_folder" in str(error):
        return (
            ["the device map sends weights to the disk that the checkpoint holds in another form"],
            "Pass offload_folder (--offload-folder), a folder with room for them.",
        )
    return None


def _tokenizer(name: str, options: dict[str, Any]) -> Any | None:
    """The tokenizer, or None: token ids can be analysed without one."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError, ImportError):
        return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
