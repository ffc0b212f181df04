"""Layers distilled into students with smaller states: operators first, then activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_ess.analysis.model_checks import check_module, evaluation_mode
from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.operators.frobenius import MEMORY_BUDGET
from hf_ess.progress import progress_bar
from hf_ess.reduce.calibration import model_inputs
from hf_ess.reduce.distillation_training import (
    DistillationErrors,
    DistillationSettings,
    StudentTraining,
)
from hf_ess.reduce.layer_calls import LayerCall, calls_of, layer_name
from hf_ess.reduce.reduction_plan import ReductionPlan
from hf_ess.reduce.sizes import Sizes, wanted_sizes
from hf_ess.reduce.students import smaller_layer, with_students
from hf_ess.reduce.truncation import family_of

if TYPE_CHECKING:
    import pandas as pd

Students = ReductionPlan | Sizes | Mapping[int | str, nn.Module]


@dataclass(frozen=True, eq=False)
class DistilledLayer:
    """A student in the place of one layer.

    A `Distillation` holds one for each.

    Attributes:
        name: of the layer.
        student: after the training, in evaluation mode.
        operator_losses: at each step of the first phase, before the step.
        activation_losses: at each step of the second.
        before: errors of the student as it was given, on the held-out texts.
        after: errors of the trained one.
    """

    name: str
    student: nn.Module
    operator_losses: NDArray[np.float64]
    activation_losses: NDArray[np.float64]
    before: DistillationErrors
    after: DistillationErrors


@dataclass(frozen=True, eq=False)
class Distillation:
    """A model with students in the place of some layers.

    `hf_ess.reduce.distill` and `hf_ess.reduce.distill_all` give it back.

    Attributes:
        model: a new one; students run where the layers ran.
        layers: what became of each, in the order of the model.
        note: why `from_pretrained` would not give the model back once it is saved; empty where it
            does.
    """

    model: Any
    layers: tuple[DistilledLayer, ...]
    note: str

    def to_pandas(self) -> pd.DataFrame:
        """A row for each layer: errors on the held-out texts before and after the training."""
        import pandas as pd

        return pd.DataFrame(
            {
                "name": layer.name,
                "student": type(layer.student).__name__,
                "operator_error_before": layer.before.operator,
                "operator_error": layer.after.operator,
                "activation_error_before": layer.before.activation,
                "activation_error": layer.after.activation,
            }
            for layer in self.layers
        )


class _Trained(NamedTuple):
    layer: DistilledLayer
    call: LayerCall


def distill(
    model: nn.Module,
    layer: int | str,
    student: nn.Module | int,
    inputs: Any,
    *,
    operator_steps: int = 800,
    activation_steps: int = 3200,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    batch_size: int = 8,
    held_out: int | None = None,
    seed: int = 0,
    memory_budget: int = MEMORY_BUDGET,
    progress: bool = True,
) -> Distillation:
    """Trains a student to do what one layer does, and puts it in the place of the layer.

    On what the layer gets in the whole model, the student first learns the layer's operators
    (`||M_s - M_t||_F^2 / ||M_t||_F^2`, mean over texts and groups), then its outputs
    (`||y_s - y_t||^2 / ||y_t||^2`, mean over texts), with AdamW. Distances of recurrences are found
    without any L x L matrix. The given model and student are left as they are. The same arguments
    give the same student, to the bit on a CPU with one thread.

    Args:
        model: the teacher.
        layer: index or name of the mixer; or the name of any module with mixers in it.
        student: a module that is called as the layer is; or a state size, for a new layer of the
            same kind (`smaller_layer`).
        inputs: token ids `[B, L]` of at least two texts, or what the model is called with as a
            mapping. What the layer gets and applies for all of them is kept. Padding counts as
            text.
        operator_steps: of the first phase; 0 leaves it out, for students whose groups are others
            than those of the layer.
        activation_steps: of the second phase.
        learning_rate: of AdamW, which begins anew in the second phase.
        weight_decay: of AdamW.
        batch_size: texts in a step.
        held_out: how many of the last texts are not trained on; an eighth by default.
        seed: of the order of batches, and of the weights of a new layer.
        memory_budget: bytes that the distance of some operators may take at once.
        progress: a bar on stderr.

    Raises:
        InvalidInputError: no such layer, one that runs more than once, a student whose outputs or
            groups are of another shape, or too few texts.
        InvalidTypeError: arguments of a wrong type, or a student that cannot be called so.
        UnsupportedModelError: a state size for a model of a family without such students, or an
            encoder-decoder.
        UnsupportedMixerError: operators are to be matched, and one is not known.
        NonFiniteError: the loss is NaN or infinite.
        MemoryBudgetError: one group of operators needs more than the budget.

    Source: Parnichkun et al., ICML 2025, section 5.2 and appendix D.6; weight decay, the size of
    batches and relative squares per text are ours.

    Example:
        >>> import torch, hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["GLA", "SA"], vocab_size=32, hidden_size=16))
        >>> ids = torch.randint(32, (6, 12))
        >>> quick = {"operator_steps": 2, "activation_steps": 2, "progress": False}
        >>> distilled = hf_ess.reduce.distill(model, 0, 2, ids, **quick)
        >>> distilled.model.config.state_sizes
        [2, None]
    """
    settings = DistillationSettings(
        operator_steps=operator_steps,
        activation_steps=activation_steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        held_out=held_out,
        seed=seed,
        memory_budget=memory_budget,
    )
    return _distilled(_teacher(model), [(layer, student)], inputs, settings, progress=progress)


def distill_all(
    model: nn.Module, students: Students, inputs: Any, *, progress: bool = True, **settings: Any
) -> Distillation:
    """The same for several layers, each of which learns on what it gets in the whole model.

    Args:
        model: the teacher.
        students: a plan of `hf_ess.reduce.plan`; one state size; or by layer, by index or name,
            state sizes or modules. Layers of a plan that need no smaller state stay.
        inputs: as `distill`.
        progress: a bar on stderr for each layer.
        **settings: as `distill`.

    Raises:
        HfEssError: what `distill` raises, under the same names.

    Source: Parnichkun et al., ICML 2025, appendix D.6, for one layer; for several at once ours.

    Example:
        >>> import torch, hf_ess
        >>> from hf_ess.synthetics import SyntheticConfig, build_model
        >>> model = build_model(SyntheticConfig(["GLA", "S6"], vocab_size=32, hidden_size=16))
        >>> ids, quick = torch.randint(32, (6, 12)), {"operator_steps": 1, "activation_steps": 1}
        >>> smaller = hf_ess.reduce.distill_all(model, {0: 2, 1: 4}, ids, progress=False, **quick)
        >>> smaller.model.config.state_sizes
        [2, 4]
    """
    chosen = DistillationSettings.of(settings)
    model = _teacher(model)
    return _distilled(model, list(_by_layer(model, students)), inputs, chosen, progress=progress)


def _teacher(model: nn.Module) -> nn.Module:
    """What can be one; of a compiled model what it was compiled from, which computes the same."""
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"A model must be a torch.nn.Module, got {type(model).__name__}.")
    original: nn.Module = getattr(model, "_orig_mod", model)
    check_module(original)
    return original


def _by_layer(model: nn.Module, students: Students) -> Iterator[tuple[int | str, nn.Module | int]]:
    """Layers and their students; those that would keep their state are left out."""
    given = students if isinstance(students, Mapping) else {}
    if any(isinstance(student, nn.Module) for student in given.values()):
        yield from given.items()
        return
    family = family_of(model)
    states = family.states(model)
    sizes, _ = wanted_sizes(students, states, one_size=family.one_size)  # type: ignore[arg-type]
    for state in states:
        if sizes[state.name] < state.size:
            yield state.name, sizes[state.name]


def _distilled(
    model: nn.Module,
    students: list[tuple[int | str, nn.Module | int]],
    inputs: Any,
    settings: DistillationSettings,
    *,
    progress: bool,
) -> Distillation:
    with evaluation_mode(model):
        batches, held = _batches(model, inputs, settings)
        named = [(layer_name(model, layer, held[0]), student) for layer, student in students]
        _check_distinct([name for name, _ in named])
        trained = {
            name: _trained(model, name, student, (batches, held), settings, progress=progress)
            for name, student in named
        }
        modules = {name: one.layer.student for name, one in trained.items()}
        calls = {name: one.call for name, one in trained.items()}
        new, note = with_students(model, modules, calls)
    new.train(model.training)
    return Distillation(new, tuple(one.layer for one in trained.values()), note)


def _trained(
    model: nn.Module,
    name: str,
    student: nn.Module | int,
    texts: tuple[list[dict[str, Any]], list[dict[str, Any]]],
    settings: DistillationSettings,
    *,
    progress: bool,
) -> _Trained:
    own = _own_copy(model, name, student, settings.seed)
    batches, held = texts
    steps = settings.operator_steps + settings.activation_steps + len(batches) + len(held)
    with progress_bar(steps, f"Distilling {name}", enabled=progress, unit="step") as bar:

        def done() -> None:
            bar.update(1)

        calls = calls_of(model, name, [*batches, *held], done)
        own_calls, held_calls = calls[: len(batches)], calls[len(batches) :]
        training = StudentTraining(own, name, own_calls, held_calls, settings, done)
        before = training.errors()
        operator_losses = training.match_operators()
        activation_losses = training.match_activations()
        after = training.errors()
    layer = DistilledLayer(name, own, operator_losses, activation_losses, before, after)
    return _Trained(layer, held_calls[0])


def _own_copy(model: nn.Module, name: str, student: nn.Module | int, seed: int) -> nn.Module:
    """A student of ours, where the layer is and in its dtype."""
    if isinstance(student, nn.Module):
        own = deepcopy(student)
    else:
        own = smaller_layer(model, name, student, seed=seed)
    weight = next(model.get_submodule(name).parameters(), None)
    if weight is not None:
        own = own.to(weight.device, weight.dtype)
    return own.eval()


def _batches(
    model: nn.Module, inputs: Any, settings: DistillationSettings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Arguments of the model for the texts to train on, and for those that are held out."""
    named = model_inputs(model, inputs)
    tokens = named.get("input_ids", named.get("inputs_embeds"))
    texts = len(tokens)  # type: ignore[arg-type]
    cut = settings.split(texts)

    def part(start: int, stop: int) -> dict[str, Any]:
        return {
            name: value[start:stop]
            if isinstance(value, Tensor) and value.ndim and len(value) == texts
            else value
            for name, value in named.items()
        }

    size = settings.batch_size
    return (
        [part(start, min(start + size, cut)) for start in range(0, cut, size)],
        [part(start, min(start + size, texts)) for start in range(cut, texts, size)],
    )


def _check_distinct(names: list[str]) -> None:
    for name in names:
        inside = [other for other in names if f"{other}.".startswith(f"{name}.")]
        if len(inside) > 1:
            raise InvalidInputError(
                f"Two students are for {name}: {', '.join(inside)}.", fix="Give one for each layer."
            )
