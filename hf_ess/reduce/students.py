"""Students with a smaller state, and models that have them in the place of their layers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from hf_ess.arguments import check_whole
from hf_ess.errors import HfEssError, InvalidInputError
from hf_ess.reduce.families import Family, StateOfMixer, unlike, without_weights
from hf_ess.reduce.layer_calls import LayerCall, first_output
from hf_ess.reduce.synthetic_family import SyntheticFamily
from hf_ess.reduce.truncation import FAMILIES, family_of
from hf_ess.synthetics import SyntheticConfig, SyntheticForCausalLM
from hf_ess.synthetics.modeling import MIXER_CLASSES
from hf_ess.synthetics.state_space import SelectiveStateSpace
from model_adapters.layer_choice import names_of_layers


def smaller_layer(
    model: nn.Module, layer: int | str, state_size: int, *, seed: int = 0
) -> nn.Module:
    """A new mixer of the same kind as that of a layer, before training, with another state size.

    Args:
        model: of a family that `hf_ess.reduce.truncate` knows.
        layer: index or name.
        state_size: N for each channel of S6 and Mamba, keys of a head for LA, GLA, WLA, GLA-S6.
        seed: of its weights; the global random state is left as it was.

    Raises:
        UnsupportedModelError: no family knows the model.
        InvalidInputError: no such layer, or a size that the architecture cannot have.

    Example:
        >>> import hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["GLA", "S6"], vocab_size=16, hidden_size=16))
        >>> hf_ess.reduce.smaller_layer(model, 1, 4).log_rate.shape
        torch.Size([16, 4])
    """
    family = family_of(model)
    (state,) = _states(family, model, layer)
    check_whole("state_size", state_size, least=1)
    config: Any = deepcopy(model.config)
    number = state.index
    if family.one_size:
        config.num_hidden_layers, number = 1, 0
    family.resize(config, {number: state_size})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(type(config).from_dict(config.to_dict()))
    student: Any = next(one.module for one in family.states(fresh) if one.index == number)
    if hasattr(student, "layer_idx"):
        student.layer_idx = state.index
    weight = next(state.module.parameters())
    moved: nn.Module = student.to(weight.device, weight.dtype)
    return moved.train(state.module.training)


def _states(family: Family, model: nn.Module, layer: int | str) -> list[StateOfMixer]:
    found = family.states(model)
    names = names_of_layers(found, [layer])
    chosen = [state for state in found if state.name in names]
    if len(chosen) > 1:
        raise InvalidInputError(
            f"{layer!r} means {len(chosen)} layers.", fix=f"Name one, such as {chosen[0].name!r}."
        )
    return chosen


def with_students(
    model: nn.Module, students: Mapping[str, nn.Module], calls: Mapping[str, LayerCall]
) -> tuple[Any, str]:
    """A copy of the model with students in the place of the layers of these names.

    Its configuration is made to say so, where it can.

    Args:
        model: left as it is.
        students: by the names of the layers.
        calls: one of each layer, on which it is seen whether the configuration says it all.

    Returns:
        The copy, and why `from_pretrained` would not give it back once it is saved, or nothing.
    """
    new: Any = deepcopy(model)
    for name, student in students.items():
        new.set_submodule(name, student)
    before = getattr(new, "config", None)
    if before is None:
        return new, "it has no configuration"
    before._name_or_path = ""  # what it was loaded from is another model
    try:
        config = _described(new)
        _check_described(new, config, students, calls)
    except (HfEssError, RuntimeError) as error:
        reason = error.what if isinstance(error, HfEssError) else str(error).splitlines()[0]
        return new, f"no configuration of {type(new).__name__} describes it: {reason}"
    for module in new.modules():
        if isinstance(getattr(module, "config", None), type(config)):
            module.config = config
    return new, ""


def _described(model: Any) -> Any:
    """A configuration with the kinds and state sizes of the mixers that a model has now."""
    config = deepcopy(model.config)
    if isinstance(model, SyntheticForCausalLM):
        return _synthetic(model, config)
    family = next((one for one in FAMILIES if one.has(model)), None)
    if family is not None:
        sizes = {state.index: state.size for state in family.states(model)}
        if family.one_size and len(set(sizes.values())) > 1:
            raise InvalidInputError("all its layers have a state of one size")
        family.resize(config, sizes)
    return config


def _synthetic(model: SyntheticForCausalLM, config: SyntheticConfig) -> SyntheticConfig:
    kinds = {kind: name for name, kind in MIXER_CLASSES.items()}
    mixers: list[Any] = [layer.mixer for layer in model.layers]
    strange = [type(mixer).__name__ for mixer in mixers if type(mixer) not in kinds]
    if strange:
        raise InvalidInputError(f"{strange[0]} is none of its mixers")
    config.mixers = [kinds[type(mixer)] for mixer in mixers]
    sizes: list[int | None] = [None] * len(mixers)
    for state in SyntheticFamily().states(model):
        of_channels = isinstance(state.module, SelectiveStateSpace)
        usual = config.state_size if of_channels else config.head_dim
        if state.size != usual or getattr(state.module, "turns", None) is not None:
            sizes[state.index] = state.size
    config.state_sizes = None if set(sizes) == {None} else sizes
    return config


@torch.no_grad()
def _check_described(
    model: Any, config: Any, students: Mapping[str, nn.Module], calls: Mapping[str, LayerCall]
) -> None:
    """Builds the model from its configuration, and compares what the students compute in it."""
    fresh = without_weights(model, config)
    wrong = next(unlike(model, fresh), None)
    if wrong is not None:
        raise InvalidInputError(f"it has other weights, first {wrong}")
    fresh.load_state_dict(model.state_dict(), assign=True)
    fresh.eval()
    for name, student in students.items():
        found, expected = (
            first_output(layer(*calls[name].args, **calls[name].kwargs))
            for layer in (fresh.get_submodule(name), student)
        )
        if not torch.equal(found, expected):
            raise InvalidInputError(f"{name} computes something else with the same weights")
