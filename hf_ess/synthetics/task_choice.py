"""A task chosen by its name, with its arguments, as configurations of trainings write it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.synthetics.tasks import Examples, compression, multi_query_recall, selective_copying

TASKS: dict[str, Callable[..., Examples]] = {
    function.__name__: function for function in (multi_query_recall, selective_copying, compression)
}
# What is chosen anew for every set of texts.
PER_SET = ("samples", "seed")
# Of the texts on which models are judged: the last that torch's generator for the CPU tells from
# others, so that trainings count their own from 0.
TEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Task:
    """A task of `hf_ess.synthetics` and its arguments, without the number of texts and the seed.

    Args:
        name: "multi_query_recall", "selective_copying" or "compression".
        arguments: of the function of that name; its defaults are filled in.

    Raises:
        InvalidInputError: no such task or argument, or values that the task refuses.
        InvalidTypeError: an argument of the task is of a wrong type.

    Example:
        >>> from hf_ess.synthetics import Task
        >>> task = Task.from_dict({"name": "selective_copying", "length": 8, "tokens": 2})
        >>> task.vocabulary, task.texts(3, seed=1).input_ids.shape
        (16, torch.Size([3, 8]))
        >>> task.to_dict()
        {'name': 'selective_copying', 'length': 8, 'tokens': 2, 'vocabulary': 16}
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise InvalidInputError(
                f"There is no task {self.name!r}.", fix=f"Choose one of {', '.join(TASKS)}."
            )
        parameters = {
            name: parameter
            for name, parameter in inspect.signature(TASKS[self.name]).parameters.items()
            if name not in PER_SET
        }
        if unknown := [name for name in self.arguments if name not in parameters]:
            near = get_close_matches(str(unknown[0]), parameters, n=1)
            raise InvalidInputError(
                f"The task {self.name} has no argument {unknown[0]!r}.",
                causes=[f"{near[0]!r} is meant"] if near else [],
                fix=f"It takes {', '.join(parameters)}.",
            )
        defaults = {
            name: parameter.default
            for name, parameter in parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }
        given = {**defaults, **self.arguments}
        if missing := [name for name in parameters if name not in given]:
            raise InvalidInputError(f"The task {self.name} needs {', '.join(missing)}.")
        object.__setattr__(self, "arguments", {name: given[name] for name in parameters})
        self.texts(1, seed=0)

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return int(self.arguments["vocabulary"])

    @property
    def length(self) -> int:
        """Tokens in each text."""
        return int(self.arguments["length"])

    def texts(self, samples: int, *, seed: int) -> Examples:
        """Texts `[samples, L]` and their labels, which the seed decides."""
        return TASKS[self.name](samples, seed=seed, **self.arguments)

    def test_texts(self, samples: int) -> Examples:
        """Texts `[samples, L]` on which every model of this task is judged, whatever its seed."""
        return self.texts(samples, seed=TEST_SEED)

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Task:
        """A task from its name and arguments side by side, as `to_dict` writes them.

        Raises:
            InvalidTypeError: no mapping, or the name is no word.
            InvalidInputError: as the class.
        """
        if not isinstance(written, Mapping) or not isinstance(written.get("name"), str):
            raise InvalidTypeError(
                f"A task is a mapping with its name, got {written!r}.",
                fix='Write it as {"name": "multi_query_recall", "length": 64, "pairs": 8}.',
            )
        return cls(written["name"], {key: written[key] for key in written if key != "name"})

    def to_dict(self) -> dict[str, Any]:
        """The name and the arguments side by side."""
        return {"name": self.name, **self.arguments}
