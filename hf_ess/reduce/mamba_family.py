"""Truncation of mamba, falcon_mamba and mamba2 of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_ess.reduce.families import Family, Selection, StateOfMixer, by_set, singles

RENORMALISED = "B and C are normalised over the channels that are left"
CONVOLVED = "B and C pass a convolution and an activation after the weights"


class _OneSize(Family):
    """Models of one state size for all layers, known by the type that their configuration names."""

    one_size = True
    # For each model type why channels cannot make up for others.
    types: Mapping[str, str]

    def has(self, model: nn.Module) -> bool:
        # Wrappers show the configuration of what is inside, and are built from other things.
        return isinstance(model, PreTrainedModel) and model.config.model_type in self.types

    def states(self, model: nn.Module) -> list[StateOfMixer]:
        config: Any = model.config
        fixed = self.types[config.model_type]
        mixers = [
            (name, module)
            for name, module in model.named_modules()
            if hasattr(module, "A_log") and hasattr(module, "ssm_state_size")
        ]
        return [self.state(name, number, at, fixed) for number, (name, at) in enumerate(mixers)]

    def state(self, name: str, number: int, mixer: Any, fixed: str) -> StateOfMixer:
        """The state of one mixer."""
        raise NotImplementedError

    def resize(self, config: Any, sizes: Mapping[int, int]) -> None:
        (config.state_size,) = set(sizes.values())


class MambaFamily(_OneSize):
    """All channels of a layer share B and C, and so the choice."""

    models = "mamba, falcon_mamba of transformers"
    types: Mapping[str, str] = {"mamba": "", "falcon_mamba": RENORMALISED}

    def state(self, name: str, number: int, mixer: Any, fixed: str) -> StateOfMixer:
        size = mixer.ssm_state_size
        _, writing, reading = _parts(mixer)
        rows = reading[None], writing[None]
        reader = None if fixed else mixer.x_proj
        return StateOfMixer(name, number, mixer, size, singles(size), *rows, fixed, reader)

    def cut(self, state: StateOfMixer, selection: Selection) -> dict[str, Tensor]:
        mixer: Any = state.module
        steps, _, _ = _parts(mixer)
        kept, read = selection.kept(state.writing)[0], selection.read(state.reading)[0]
        weights = {
            "x_proj.weight": torch.cat([steps, kept, read]),
            "A_log": selection.kept(mixer.A_log.mT[None])[0].mT,
        }
        for name in ("b_layernorm", "c_layernorm"):
            if f"{name}.weight" in mixer.state_dict():
                norm = getattr(mixer, name).weight
                weights[f"{name}.weight"] = selection.kept(norm[None])[0]
        return weights


def _parts(mixer: Any) -> tuple[Tensor, ...]:
    """Rows of `x_proj` for the step sizes, for B and for C."""
    size = mixer.ssm_state_size
    return torch.split(mixer.x_proj.weight, [mixer.time_step_rank, size, size])


class Mamba2Family(_OneSize):
    """The heads of a group share B and C, and so the choice; their decays know no channels."""

    models = "mamba2 of transformers"
    types: Mapping[str, str] = {"mamba2": CONVOLVED}

    def state(self, name: str, number: int, mixer: Any, fixed: str) -> StateOfMixer:
        size = mixer.ssm_state_size
        _, writing, reading, _ = _rows(mixer, mixer.in_proj.weight, gates=True)
        writing, reading = (by_set(rows, mixer.n_groups) for rows in (writing, reading))
        return StateOfMixer(name, number, mixer, size, singles(size), reading, writing, fixed)

    def cut(self, state: StateOfMixer, selection: Selection) -> dict[str, Tensor]:
        mixer: Any = state.module
        weights = {}
        for name, weight in mixer.state_dict().items():
            if name in ("in_proj.weight", "in_proj.bias", "conv1d.weight", "conv1d.bias"):
                first, *both, last = _rows(mixer, weight, gates=name.startswith("in_proj"))
                kept = [selection.kept(by_set(rows, state.sets)).flatten(0, 1) for rows in both]
                weights[name] = torch.cat([first, *kept, last])
        return weights


def _rows(mixer: Any, weight: Tensor, *, gates: bool) -> tuple[Tensor, ...]:
    """Rows before B, of B, of C, and after C; with those of the gates and step sizes or without."""
    both = mixer.n_groups * mixer.ssm_state_size
    before = mixer.intermediate_size * (2 if gates else 1)
    return torch.split(weight, [before, both, both, len(weight) - before - 2 * both])
