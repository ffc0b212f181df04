"""Loading a causal language model by name: a Hub id, a local folder, or a GGUF file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_ess.errors import HfEssError, InvalidInputError, ModelLoadError, UnsupportedModelError
from hf_ess.shipped import means_shipped, shipped_folder, weights_folder
from model_adapters.checkpoint_checks import (
    TO_SAFETENSORS,
    check_configuration,
    check_folder,
    check_gguf_header,
)
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
    most_parameters: int | None = None,
) -> LoadedModel:
    """Loads a causal language model and its tokenizer.

    Weights come from safetensors where there are any. Of a pytorch_model.bin only tensors are
    read: nothing else in it is built, let alone run.

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
        most_parameters: a checkpoint whose config.json declares more is refused before any weight
            is read. GGUF files hold no more than they declare.

    Raises:
        InvalidInputError: unknown dtype, device or device map, or both of the latter.
        ModelLoadError: the source is missing, damaged, gated or out of reach; it would need code
            of its own, or holds more than tensors; or it declares more than can be meant.
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
        loaded = _load_pretrained(
            source, path, chosen, options, placement or target, most_parameters
        )
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
    # Code that lies beside the file is not part of it.
    where = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
        "trust_remote_code": False,
    }
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
        causes, fix = (
            _offloading_hint(error)
            or _code_beside_hint(error)
            or (
                ["the file is truncated or damaged", "its architecture is not supported"],
                "Download the file again, or use the original checkpoint.",
            )
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
    check_gguf_header(path)


def _load_pretrained(
    source: str | os.PathLike[str],
    path: Path,
    dtype: torch.dtype | None,
    options: dict[str, Any],
    placement: dict[str, Any],
    most_parameters: int | None,
) -> LoadedModel:
    from transformers import AutoModelForCausalLM

    import hf_ess.synthetics  # noqa: F401 - makes its models known to the auto classes

    is_shipped = means_shipped(source)
    if is_shipped:
        path = shipped_folder(str(source))
    path = weights_folder(path)
    name = str(path) if path.is_dir() and str(source) else str(source)
    _check_name(name, path)
    if path.is_dir():
        check_folder(path)
    config = _configuration(name, path, options)
    if most_parameters is not None:
        _check_size(name, path, config, most_parameters)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=dtype or "auto",
            output_loading_info=True,
            weights_only=True,
            **options,
            **placement,
        )
    except Exception as error:
        raise _load_error(name, path, error) from error
    _check_no_weight_is_missing(name, model, found)
    if is_shipped:
        model.config._name_or_path = str(source)
    return LoadedModel(model, _tokenizer(name, options))


def _configuration(name: str, path: Path, options: dict[str, Any]) -> Any:
    """The configuration, looked at before it becomes an object that has what it declares."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig

    try:
        written, _ = PreTrainedConfig.get_config_dict(name, revision=options["revision"])
        check_configuration(name, written, code_allowed=options["trust_remote_code"])
        config = AutoConfig.from_pretrained(name, **options)
    except HfEssError:
        raise
    except Exception as error:
        raise _load_error(name, path, error) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and "AutoModelForCausalLM" not in (
        getattr(config, "auto_map", None) or {}
    ):
        raise UnsupportedModelError(
            f"{name} is of type {config.model_type!r}, which is no causal language model.",
            fix="Choose a causal language model (a decoder).",
        )
    return config


def _check_size(name: str, path: Path, config: Any, most: int) -> None:
    """Refuses what would be too large, by a model without numbers."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            shapes = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise _load_error(name, path, error) from error
    declared = sum(tensor.numel() for tensor in (*shapes.parameters(), *shapes.buffers()))
    if declared > most:
        raise ModelLoadError(
            f"{name} declares {declared:,} parameters; at most {most:,} are loaded here.",
            causes=["its config.json is that of another model, or made to fill the memory"],
            fix="Choose a smaller model.",
        )


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
    elif type(error).__name__ == "UnpicklingError":
        return ModelLoadError(
            f"{name} cannot be loaded: its weights are pickled, and hold more than tensors.",
            causes=["the file would run code when it is read", "the file is damaged"],
            fix=TO_SAFETENSORS,
        )
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


def _code_beside_hint(error: Exception) -> tuple[list[str], str] | None:
    """Causes and fix of an error that is about code in the folder of a GGUF file."""
    if "custom code" not in str(error):
        return None
    return (
        ["its folder has Python code for a tokenizer, which is never run for a GGUF file"],
        "Move the file into a folder of its own.",
    )


def _tokenizer(name: str, options: dict[str, Any]) -> Any | None:
    """The tokenizer, or None: token ids can be analysed without one."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except Exception:
        # Damaged files raise all kinds; whoever needs words says that there is no tokenizer.
        return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
