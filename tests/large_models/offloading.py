"""Ways in which accelerate keeps weights away from a model until they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import accelerate
import torch
from torch import nn
from transformers import AutoModelForCausalLM

CPU = torch.device("cpu")

# The families of mixers, those first whose adapters read weights of a module.
FAMILIES = (
    "lfm2", "inkling_text", "inkling2_text", "qwen4_exp_text", "recurrent_gemma", "diffllama",
    "deepseek_v4", "minimax", "zaya", "mamba", "mamba2", "zamba", "jamba", "rwkv", "xlstm",
    "qwen3_next", "kimi_linear", "llama", "gpt2", "gpt_oss", "bloom", "gpt_neo",
)  # fmt: skip


def to_memory(model: nn.Module, folder: Path | None = None) -> nn.Module:
    return accelerate.cpu_offload(model, execution_device=CPU, offload_buffers=True)


def to_disk(model: nn.Module, folder: Path) -> nn.Module:
    accelerate.disk_offload(model, folder / "weights", execution_device=CPU)
    return model


def to_both(model: nn.Module, folder: Path) -> nn.Module:
    """Half of the modules with direct weights stay, as `device_map="auto"` leaves them."""
    holders = [name for name, part in model.named_modules() if [*part.parameters(recurse=False)]]
    inner = [n for n in holders if not any(o != n and n.startswith(f"{o}.") for o in holders)]
    places = {name: ("disk" if number % 2 else "cpu") for number, name in enumerate(inner)}
    return accelerate.dispatch_model(
        model, places, main_device=CPU, offload_dir=folder / "weights", force_hooks=True
    )


def loaded_from_disk(model: nn.Module, folder: Path) -> nn.Module:
    """As `from_pretrained` does it, which reads from the checkpoint what it can."""
    model.save_pretrained(folder / "checkpoint")
    loaded: nn.Module = AutoModelForCausalLM.from_pretrained(
        folder / "checkpoint",
        dtype=torch.float32,
        device_map={"": "disk"},
        offload_folder=str(folder / "weights"),
    )
    loaded.config._name_or_path = model.config._name_or_path
    return loaded.eval()


WAYS: tuple[Callable[[nn.Module, Path], nn.Module], ...] = (
    to_memory,
    to_disk,
    to_both,
    loaded_from_disk,
)
