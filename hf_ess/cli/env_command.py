"""`hf-ess env`: what a report of a bug needs to say of the machine."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from hf_ess.cli.adapters_command import Format, FormatOption

# Besides those that shape every number.
OPTIONAL = (
    *("accelerate", "tokenizers", "gguf", "sentencepiece", "pandas", "matplotlib", "gradio"),
    *("tensorboard", "trackio", "wandb", "mamba-ssm", "flash-linear-attention", "bitsandbytes"),
    *("optimum-quanto", "torchao", "datasets", "scipy"),
)
# What changes how models are loaded and computed; none of them holds a secret.
SWITCHES = (
    *(
        "HF_HUB_OFFLINE",
        "HF_HUB_DISABLE_PROGRESS_BARS",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_DISABLE_XET",
    ),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF"),
    *("PYTORCH_ENABLE_MPS_FALLBACK", "RANK", "WORLD_SIZE", "TQDM_MININTERVAL"),
)
NOT_INSTALLED = "not installed"


def env(output: FormatOption = Format.table) -> None:
    """Print versions, devices and switches, to be pasted into a report of a bug.

    No names of users, hosts or folders, and no tokens.
    """
    facts = _facts()
    if output is Format.json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts)) + 1
    for name, value in facts.items():
        typer.echo(f"{name + ':':<{width}} {value}")


def _facts() -> dict[str, Any]:
    import torch

    from hf_ess.analysis.provenance import library_versions
    from hf_ess.machine import machine_name

    optional = {name: found for name in OPTIONAL if (found := _version(name)) != NOT_INSTALLED}
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "machine": machine_name(),
        "memory": _memory(),
        **library_versions(),
        **optional,
        "CUDA of torch": torch.version.cuda or "none",
        "MPS": torch.backends.mps.is_available(),
        "threads of torch": torch.get_num_threads(),
        "switches": " ".join(
            f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ
        )
        or "none",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def _memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "unknown"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
