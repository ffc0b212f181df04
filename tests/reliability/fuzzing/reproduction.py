"""Cases that fail: made smaller, and run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from reliability.fuzzing.checks import CaseFailed, Outcome, run_case
from reliability.fuzzing.choices import Choices, command, drawn, with_setting

# Each is a run of a model; a minute or so in all.
MOST_TRIALS = 150


def main(seed: int, settings: list[str]) -> int:
    """Runs a case, says what happened, and ends with 1 if a check fails."""
    choices = drawn(seed)
    for setting in settings:
        choices = with_setting(choices, setting)
    print(choices)  # noqa: T201 - a command
    try:
        outcome = run_case(choices)
    except CaseFailed as failure:
        print(f"FAILED {failure}")  # noqa: T201
        return 1
    print(outcome)  # noqa: T201
    return 0


def checked(choices: Choices) -> Outcome:
    """Runs a case; where it fails, the error is of the smallest case that does.

    Raises:
        CaseFailed: its text ends with the command that runs the smallest case again.
    """
    try:
        return run_case(choices)
    except CaseFailed as failure:
        smallest = shrunk(failure)
        again = command(smallest.choices)
        problem = f"{smallest.problem}\nof {choices}\nmade smaller, and run again by\n    {again}"
        raise CaseFailed(smallest.choices, smallest.check, problem) from None


def shrunk(failure: CaseFailed) -> CaseFailed:
    """The failure of the smallest case in which the same check fails, found greedily."""
    trials = 0
    tried: list[Choices] = []
    improving = True
    while improving:
        improving = False
        for smaller in smaller_cases(failure.choices):
            if smaller in tried:
                continue
            if trials == MOST_TRIALS:
                return failure
            trials += 1
            tried.append(smaller)
            if (again := _failure_of(smaller)) and again.check == failure.check:
                failure, improving = again, True
                break
    return failure


def _failure_of(choices: Choices) -> CaseFailed | None:
    try:
        run_case(choices)
    except CaseFailed as failure:
        return failure
    return None


def smaller_cases(choices: Choices) -> Iterator[Choices]:
    """Cases with one thing less, the largest steps first."""
    for fields in (
        {"batch": 1, "padding": "none", "shorter": 0, "arguments": {}},
        {"batch": 1, "padding": "none", "shorter": 0},
        {"arguments": {}},
        {"config": {}},
        {"padding": "none", "shorter": 0},
        {"dtype": "float32"},
        {"attention": None},
    ):
        yield from _changed(choices, **fields)
    for batch in (1, choices.batch // 2, choices.batch - 1):
        if 0 < batch < choices.batch:
            yield replace(choices, batch=batch)
    for length in _smaller_numbers(choices.length, least=1):
        yield replace(choices, length=length)
    for name in ("arguments", "config"):
        entries = getattr(choices, name)
        for key, value in entries.items():
            yield replace(choices, **{name: {k: v for k, v in entries.items() if k != key}})
            for smaller in _smaller_values(value):
                yield replace(choices, **{name: {**entries, key: smaller}})


def _changed(choices: Choices, **fields: Any) -> Iterator[Choices]:
    changed = replace(choices, **fields)
    if changed != choices:
        yield changed


def _smaller_numbers(number: int, least: int) -> Iterator[int]:
    for smaller in (2, 3, 5, 9, 17, number // 2, number - 1):
        if least <= smaller < number:
            yield smaller


def _smaller_values(value: Any) -> Iterator[Any]:
    """Parts of a list, halves of a large number."""
    if isinstance(value, list | tuple) and len(value) > 1:
        yield from (type(value)([entry]) for entry in value)
        yield value[: len(value) // 2]
        yield value[len(value) // 2 :]
        yield from (value[:n] + value[n + 1 :] for n in range(len(value)))
    elif isinstance(value, int) and not isinstance(value, bool) and value > 2:
        yield value // 2
