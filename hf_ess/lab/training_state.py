"""A training between two steps, as one file of tensors: weights, moments, step, and sums.

Nothing is pickled: tensors are in safetensors, numbers in its header as JSON, where Python's
floats come back to the last bit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hf_ess.errors import ReportError
from hf_ess.report.folders import replace_file

CHECKPOINT = "checkpoint.safetensors"
WEIGHT, MOMENT = "weight:", "moment:"
HEADER = "progress"


@dataclass
class Counters:
    """Where a training is, besides its tensors.

    Attributes:
        step: steps done.
        loss_sum: of the steps since the last record.
        penalty_sum: of what the regularizer added, in the same steps.
        loss_count: number of these steps.
        seconds: spent so far, in all processes that worked on it.
    """

    step: int = 0
    loss_sum: float = 0.0
    penalty_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0


def save_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, counters: Counters
) -> None:
    """Writes the checkpoint of a folder aside, and puts it in the place of the old one.

    Raises:
        OutputPathError: the folder cannot be written, or its disk is full.
    """
    tensors = {WEIGHT + name: value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{MOMENT}{key}:{name}"] = value
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data = save(contiguous, {HEADER: json.dumps(asdict(counters))})
    replace_file(folder / CHECKPOINT, data)


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Counters | None:
    """Puts a checkpoint into a model and its optimizer; None where the folder has none.

    Raises:
        ReportError: the checkpoint cannot be read, or is of another model.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            counters = Counters(**json.loads(file.metadata()[HEADER]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        weights = {
            name.removeprefix(WEIGHT): value
            for name, value in tensors.items()
            if name.startswith(WEIGHT)
        }
        model.load_state_dict(weights)
    except (SafetensorError, OSError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise ReportError(
            f"The checkpoint {str(path)!r} cannot be used: {error}.",
            causes=["it is damaged", "it is of another model or version"],
            fix="Remove it, to train from the beginning.",
        ) from error
    _load_moments(optimizer, dict(model.named_parameters()), tensors)
    return counters


def _load_moments(
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
    tensors: dict[str, Tensor],
) -> None:
    for full_name, value in tensors.items():
        if full_name.startswith(MOMENT):
            _, key, name = full_name.split(":", 2)
            parameter = parameters[name]
            # Counts of steps stay on the CPU, where AdamW keeps them.
            device = parameter.device if value.shape == parameter.shape else value.device
            optimizer.state[parameter][key] = value.to(device)
