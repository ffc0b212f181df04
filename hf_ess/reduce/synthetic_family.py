"""Truncation of the synthetic models: LA, GLA, WLA, GLA-S6, S6 and Mamba."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.reduce.families import Family, Selection, StateOfMixer, by_set, singles
from hf_ess.synthetics import SyntheticConfig, SyntheticForCausalLM
from hf_ess.synthetics.headed import (
    DecayedMixer,
    HeadedMixer,
    LinearAttention,
    SoftmaxAttention,
    rotated,
    standard_turns,
)
from hf_ess.synthetics.state_space import SelectiveStateSpace


class SyntheticFamily(Family):
    """Heads of LA, GLA, WLA and GLA-S6 choose alone, all channels of S6 and Mamba together.

    Pairs of channels that rotary embeddings turn stay or go together, and turn as before.
    """

    models = "LA, GLA, WLA, GLA-S6, S6 and Mamba of hf_ess.synthetics"

    def has(self, model: nn.Module) -> bool:
        return isinstance(model, SyntheticForCausalLM) and bool(self.states(model))

    def states(self, model: nn.Module) -> list[StateOfMixer]:
        found = [
            _state(index, layer.mixer)
            for index, layer in enumerate(model.layers)  # type: ignore[arg-type]
        ]
        return [state for state in found if state is not None]

    def resize(self, config: SyntheticConfig, sizes: Mapping[int, int]) -> None:
        before = [config.own_state_size(layer) for layer in range(config.num_hidden_layers)]
        config.state_sizes = [sizes.get(layer, own) for layer, own in enumerate(before)]

    def turns(self, state: StateOfMixer, length: int) -> Tensor:
        mixer: Any = state.module
        if not isinstance(mixer, LinearAttention):
            return super().turns(state, length)
        each = torch.eye(state.size, dtype=torch.float64, device=state.reading.device)
        each = each[:, None, None].expand(-1, length, mixer.heads, -1)
        return rotated(each, mixer.theta, mixer.turns).permute(1, 2, 3, 0)

    def cut(self, state: StateOfMixer, selection: Selection) -> dict[str, Tensor]:
        mixer: Any = state.module
        if isinstance(mixer, SelectiveStateSpace):
            return {
                "b_proj.weight": selection.kept(state.writing)[0],
                "c_proj.weight": selection.read(state.reading)[0],
                "log_rate": selection.kept(mixer.log_rate.mT[None])[0].mT,
            }
        weights = {
            "k_proj.weight": selection.kept(state.writing).flatten(0, 1),
            "q_proj.weight": selection.read(state.reading).flatten(0, 1),
        }
        if isinstance(mixer, LinearAttention):
            turns = standard_turns(state.size, mixer.heads) if mixer.turns is None else mixer.turns
            heads = torch.arange(mixer.heads)[:, None]
            return weights | {"turns": turns[:, heads.to(turns.device), selection.units]}
        for name in ("decay_logits", "log_rate"):
            if hasattr(mixer, name):
                weights[name] = selection.kept(getattr(mixer, name))
        if hasattr(mixer, "gate_up"):
            gates = by_set(mixer.gate_up.weight, mixer.heads)
            weights["gate_up.weight"] = selection.kept(gates).flatten(0, 1)
        return weights


def _state(index: int, mixer: Any) -> StateOfMixer | None:
    name = f"layers.{index}.mixer"
    if isinstance(mixer, SelectiveStateSpace):
        size = mixer.log_rate.shape[-1]
        reading, writing = mixer.c_proj.weight[None], mixer.b_proj.weight[None]
        return StateOfMixer(
            name, index, mixer, size, singles(size), reading, writing, reader=mixer.c_proj
        )
    if not isinstance(mixer, HeadedMixer) or isinstance(mixer, SoftmaxAttention):
        return None
    size = mixer.state_size
    reading, writing = (
        by_set(projection.weight, mixer.heads) for projection in (mixer.q_proj, mixer.k_proj)
    )
    units = singles(size) if isinstance(mixer, DecayedMixer) else by_set(torch.arange(size), 2).T
    return StateOfMixer(name, index, mixer, size, units, reading, writing, reader=mixer.q_proj)
