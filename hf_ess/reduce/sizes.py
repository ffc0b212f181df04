"""Which state sizes a user means: a plan, one number, or sizes by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from hf_ess.arguments import check_whole
from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.reduce.families import StateOfMixer
from hf_ess.reduce.reduction_plan import ReductionPlan
from model_adapters.layer_choice import is_meant, names_of_layers

Sizes: TypeAlias = int | Mapping[int | str, int]
UNPLANNED = "the plan says nothing about it"


def wanted_sizes(
    wanted: ReductionPlan | Sizes, states: Sequence[StateOfMixer], *, one_size: bool
) -> tuple[dict[str, int], dict[str, str]]:
    """The state size of each layer by its name, and why it is another than asked for.

    Sizes of a plan are rounded up to what the architecture can have; given ones have to fit. With
    `one_size` the largest of a plan is that of all layers.

    Raises:
        InvalidInputError: sizes that do not fit, or a plan for another model.
        InvalidTypeError: sizes that are no whole numbers.
    """
    if isinstance(wanted, ReductionPlan):
        return _planned(wanted, states, one_size=one_size)
    sizes = _given(wanted, states)
    for state in states:
        _check(state, sizes[state.name])
    if one_size and len(set(sizes.values())) > 1:
        raise InvalidInputError(
            "All layers of this model have a state of one size, got "
            f"{', '.join(map(str, sorted(set(sizes.values()))))}.",
            fix="Give a single number.",
        )
    return sizes, {}


def check_layers(plan: ReductionPlan, found: Iterable[tuple[str, str, int]]) -> None:
    """Refuses a plan whose layers have other mixers or numbers of groups than those of the model.

    Args:
        plan: what was planned.
        found: name, kind of mixer and number of groups of each layer of the model.

    Raises:
        InvalidInputError: one differs.
    """
    planned = {layer.name: layer for layer in plan.layers if layer.shrinks}
    wrong = [
        f"{name} is {mixer} of {groups} groups, in the plan {planned[name].mixer} of "
        f"{planned[name].groups}"
        for name, mixer, groups in found
        if name in planned and (planned[name].mixer, planned[name].groups) != (mixer, groups)
    ]
    if wrong:
        raise _another_model(wrong)


def _planned(
    plan: ReductionPlan, states: Sequence[StateOfMixer], *, one_size: bool
) -> tuple[dict[str, int], dict[str, str]]:
    planned = {layer.name: layer for layer in plan.layers if layer.shrinks}
    present = {state.name: state.size for state in states}
    wrong = [
        f"{name} has a state of {layer.state_size} in the plan, "
        + (f"of {present[name]} in the model" if name in present else "and is not in the model")
        for name, layer in planned.items()
        if present.get(name) != layer.state_size
    ]
    if wrong:
        raise _another_model(wrong)
    if not planned:
        raise InvalidInputError(
            "The plan says nothing about a layer with a state of fixed size.",
            causes=["no such layer is verified in its report"],
            fix="Read the reasons in plan.layers, or give sizes.",
        )
    asked = plan.sizes
    if one_size:
        unplanned = [state.size for state in states if state.name not in asked]
        largest = max([*asked.values(), *unplanned])
        asked = dict.fromkeys(asked, largest)
    sizes, notes = {}, {}
    for state in states:
        step = state.units.shape[1]
        size = asked.get(state.name, state.size)
        sizes[state.name] = -(-size // step) * step
        if state.name not in planned:
            notes[state.name] = UNPLANNED
        elif sizes[state.name] != plan.sizes[state.name]:
            kind = "all layers have one size" if one_size else f"channels go in groups of {step}"
            notes[state.name] = f"the plan asks for {plan.sizes[state.name]}: {kind}"
    return sizes, notes


def _given(wanted: Sizes, states: Sequence[StateOfMixer]) -> dict[str, int]:
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return {state.name: wanted for state in states}
    if not isinstance(wanted, Mapping):
        raise InvalidTypeError(
            "Give a plan, one state size for all layers, or sizes by layer, got "
            f"{type(wanted).__name__}."
        )
    names_of_layers(states, list(wanted))
    sizes = {state.name: state.size for state in states}
    for layer, size in wanted.items():
        check_whole(f"The state size of {layer!r}", size, least=1)
        sizes |= {state.name: size for state in states if is_meant(state, layer)}
    return sizes


def _check(state: StateOfMixer, size: int) -> None:
    step = state.units.shape[1]
    if not 1 <= size <= state.size or size % step:
        even = f", a multiple of {step}" if step > 1 else ""
        raise InvalidInputError(
            f"The state of {state.name} cannot have {size} channels: it has {state.size}.",
            fix=f"Choose a size from {step} to {state.size}{even}.",
        )


def _another_model(wrong: Sequence[str]) -> InvalidInputError:
    return InvalidInputError(
        f"This plan is for another model: {'; '.join(wrong)}.",
        causes=["the report is of another checkpoint", "the model was truncated already"],
        fix="Analyse this model, and plan with its report.",
    )
