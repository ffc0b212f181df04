"""Models with smaller states: which channels stay, and what that costs each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_ess.arguments import check_whole
from hf_ess.errors import (
    InvalidTypeError,
    NonFiniteError,
    UnsupportedModelError,
)
from hf_ess.progress import progress_bar
from hf_ess.reduce.calibration import Calibration, calibrated, certificates, model_inputs
from hf_ess.reduce.channel_choice import removal_order, rescaling, ridge_of
from hf_ess.reduce.families import (
    Family,
    Selection,
    StateOfMixer,
    refuse_model,
    unlike,
    without_weights,
)
from hf_ess.reduce.mamba_family import Mamba2Family, MambaFamily
from hf_ess.reduce.reduction_plan import ReductionPlan
from hf_ess.reduce.refitting import refitted
from hf_ess.reduce.sizes import Sizes, check_layers, wanted_sizes
from hf_ess.reduce.synthetic_family import SyntheticFamily
from hf_ess.reduce.truncation_result import LayerTruncation, Truncation
from hf_ess.report.choices import chosen

FAMILIES: tuple[Family, ...] = (SyntheticFamily(), MambaFamily(), Mamba2Family())
Order = Callable[[StateOfMixer, Tensor], list[list[int]]]


def truncate(
    model: nn.Module,
    plan_or_sizes: ReductionPlan | Sizes,
    inputs: Any,
    *,
    choose: str = "operator",
    seed: int = 0,
    rescale: bool = True,
    refit: bool = False,
    progress: bool = True,
) -> Truncation:
    """A new model that keeps some channels of the state of each layer; the given one is unchanged.

    Channels of the state are columns of A, B and C. A change of basis of the whole state, as
    balanced truncation makes it, is possible in none of these architectures: their decays differ
    between channels, or B and C pass rotations, norms or activations that know each channel.

    "operator" removes one channel after the other, each time the one whose loss of `||M||_F` on
    the inputs, summed over all operators that share the choice, is least; "magnitude" those with
    the smallest products of the norms of their rows of B and C; "random" any.

    Args:
        model: in evaluation mode.
        plan_or_sizes: a plan of `hf_ess.reduce.plan` for this model; or one state size for all
            layers; or sizes by layer, by index or name. Other layers stay as they are.
        inputs: token ids `[B, L]`, or what the model is called with as a mapping: some texts of
            the kind that the model is for. Padding counts as text.
        choose: "operator", "magnitude" or "random".
        seed: of a random choice.
        rescale: multiply what C reads of the channels that stay by the factors that make
            `||M - M_kept||_F` on the inputs least, where the architecture has room for them.
        refit: beyond factors, fit all weights of C anew for the channels that stay, to the same
            end. It takes more texts than factors do, some times as many tokens as features.
        progress: a bar on stderr.

    Raises:
        UnsupportedModelError: no mixer of the model has a state that can be cut, the model is in
            training mode, layers share a mixer, or its modules are not those of its configuration
            (adapters that are not merged).
        UnsupportedMixerError: the operator of a mixer is not known, or does not rebuild its output.
        InvalidInputError: sizes below one or above the present ones, a plan for another model, an
            unknown choice, inputs that are too short, or too many weights to fit at once.
        InvalidTypeError: arguments of a wrong type.
        NonFiniteError: weights that are NaN or infinite.

    Source: the choice by operators is ours; balanced truncation is Moore's, 1981.

    Example:
        >>> import torch, hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["GLA", "S6"], vocab_size=32, hidden_size=16))
        >>> ids = torch.randint(32, (2, 24))
        >>> smaller = hf_ess.reduce.truncate(model, {0: 2, 1: 8}, ids, progress=False)
        >>> [(layer.before, layer.size) for layer in smaller.layers]
        [(4, 2), (16, 8)]
        >>> smaller.model.config.state_sizes
        [2, 8]
    """
    model = getattr(model, "_orig_mod", model)
    family = family_of(model)
    check_whole("seed", seed, least=0)
    order = chosen("choice of channels", choose, _orders(seed, rescale=rescale))
    states = family.states(model)
    sizes, notes = wanted_sizes(plan_or_sizes, states, one_size=family.one_size)
    _check(model, states)
    arguments = model_inputs(model, inputs)
    with progress_bar(2 * len(states), "Truncating", enabled=progress, unit="layer") as bar:
        before = calibrated(model, states, arguments, lambda: bar.update(1))
        if isinstance(plan_or_sizes, ReductionPlan):
            found = ((name, at.mixer, at.operator.groups) for name, at in before.items())
            check_layers(plan_or_sizes, found)
        selections = {}
        for state in states:
            one = before[state.name]
            chosen_units = _selected(state, one.gram, sizes[state.name], order, rescale=rescale)
            if refit:
                chosen_units = _refitted(family, state, one, chosen_units)
            selections[state.name] = chosen_units
        smaller = family.smaller(model, selections)
        own = family.states(smaller)
        errors = certificates(smaller, own, before, arguments, lambda: bar.update(1))
    layers = []
    for state in states:
        one, name = before[state.name], state.name
        asked = "refitted" if refit else "rescaled" if rescale else ""
        note = _note(state, notes.get(name, ""), sizes[name], asked)
        layers.append(_layer(state, one, selections[name], errors[name], note))
    return Truncation(smaller, tuple(layers), choose)


def family_of(model: nn.Module) -> Family:
    """The family that knows a model.

    Raises:
        InvalidTypeError: no module.
        UnsupportedModelError: no family knows it.
    """
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"A model must be a torch.nn.Module, got {type(model).__name__}.")
    for family in FAMILIES:
        if family.has(model):
            return family
    raise refuse_model(model, "; ".join(family.models for family in FAMILIES))


def _check(model: nn.Module, states: Sequence[StateOfMixer]) -> None:
    if model.training:
        raise UnsupportedModelError(
            "The model is in training mode, where dropout changes its operators.",
            fix="Call model.eval() first.",
        )
    for name, weight in model.named_parameters():
        if weight.is_meta or not weight.is_floating_point():
            raise UnsupportedModelError(
                f"The weight {name} is not there as numbers that can be cut.",
                causes=["the model is quantized", "its weights are on the disk or not yet loaded"],
                fix="Load the model whole, in float32, float16 or bfloat16.",
            )
        if not torch.isfinite(weight).all():
            raise NonFiniteError(
                f"The weight {name} has NaN or infinite entries.",
                causes=["the training that made it diverged"],
                fix="Take an earlier checkpoint.",
            )
    _check_structure(model, states)


def _check_structure(model: Any, states: Sequence[StateOfMixer]) -> None:
    """Refuses what a configuration with other state sizes would not describe."""
    strange = next(unlike(model, without_weights(model, model.config)), None)
    if strange is not None:
        raise UnsupportedModelError(
            f"The configuration of {type(model).__name__} does not describe its weight {strange}.",
            causes=["adapters (LoRA) in its layers", "a module that was exchanged"],
            fix="Merge adapters into the weights first; train new ones on the smaller model.",
        )
    for state in states:
        modules = model.named_modules(remove_duplicate=False)
        shared = [name for name, module in modules if module is state.module]
        if len(shared) > 1:
            raise UnsupportedModelError(
                f"One mixer runs as {' and '.join(shared)}.",
                causes=["layers share it, so that its state has no size for one of them alone"],
                fix="Give each layer a copy of its own.",
            )


def _orders(seed: int, *, rescale: bool) -> dict[str, Order]:
    """For each way to choose: units in the order in which they go, for each set."""

    def by_operator(state: StateOfMixer, gram: Tensor) -> list[list[int]]:
        factors, ridge = rescale and not state.fixed, ridge_of(state.reading.dtype)
        return [removal_order(one, rescale=factors, ridge=ridge) for one in gram]

    def by_magnitude(state: StateOfMixer, gram: Tensor) -> list[list[int]]:
        return [row.tolist() for row in state.magnitudes().argsort(dim=-1, stable=True)]

    def at_random(state: StateOfMixer, gram: Tensor) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed * 10007 + state.index)
        return [torch.randperm(len(one), generator=generator).tolist() for one in gram]

    return {"operator": by_operator, "magnitude": by_magnitude, "random": at_random}


def _selected(
    state: StateOfMixer, gram: Tensor, size: int, order: Order, *, rescale: bool
) -> Selection:
    count, width = size // state.units.shape[1], len(state.units)
    kept = [sorted(going[width - count :]) for going in order(state, gram)]
    factors = torch.ones(len(kept), count, dtype=torch.float64)
    if rescale and not state.fixed:
        pairs = zip(gram, kept, strict=True)
        ridge = ridge_of(state.reading.dtype)
        factors = torch.stack([rescaling(one, stay, ridge) for one, stay in pairs]).cpu()
    return Selection(torch.tensor(kept), factors, state.units)


@torch.no_grad()
def _refitted(
    family: Family, state: StateOfMixer, before: Calibration, selection: Selection
) -> Selection:
    if before.features is None or selection.size == state.size:
        return selection
    rows = refitted(
        before.operator,
        before.features,
        state.reading,
        family.turns(state, before.operator.length),
        selection.channels.to(before.features.device),
        selection.read(state.reading),
    )
    return replace(selection, rows=rows)


def _note(state: StateOfMixer, note: str, size: int, asked: str) -> str:
    notes = [note] if note else []
    if asked and state.fixed and size < state.size:
        notes.append(f"not {asked}: {state.fixed}")
    return "; ".join(notes)


def _layer(
    state: StateOfMixer, before: Calibration, selection: Selection, error: Tensor, note: str
) -> LayerTruncation:
    repeated = selection.factors.repeat(1, state.units.shape[1])
    return LayerTruncation(
        name=state.name,
        index=state.index,
        before=state.size,
        size=selection.size,
        kept=selection.channels.numpy(),
        factors=repeated.numpy(),
        error=error.cpu().numpy(),
        unbeatable=before.unbeatable(selection.size).cpu().numpy(),
        norm=before.norm.cpu().numpy(),
        note=note,
    )
