"""Whether the numbers of several reports mean the same, and if not, what differs.

Comparable are reports of the same text under the same settings. Which model, in which precision,
by which method and how exactly is what a comparison is about, and may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hf_ess.errors import NotComparableError
from hf_ess.report.conditions import Conditions

Same = Callable[[Conditions, Conditions], bool]
Describe = Callable[[Conditions], str]


@dataclass(frozen=True)
class Difference:
    """One thing in which reports differ.

    Attributes:
        aspect: what it is, such as "tolerances".
        kinds: each of its values in words, with the names of the reports that have it.
        consequence: what it does to the numbers.
        remedy: how to measure without it.
    """

    aspect: str
    kinds: tuple[tuple[str, tuple[str, ...]], ...]
    consequence: str
    remedy: str

    def __str__(self) -> str:
        values = "; ".join(f"{value} ({', '.join(names)})" for value, names in self.kinds)
        return f"{self.aspect}: {values}; {self.consequence}"


@dataclass(frozen=True)
class _Rule:
    """When two reports agree in one aspect, and which reports agree with none."""

    aspect: str
    same: Same
    describe: Describe
    consequence: str
    remedy: str
    usable: Callable[[Conditions], bool] = lambda _: True

    def difference(
        self, conditions: Sequence[Conditions], names: Sequence[str]
    ) -> Difference | None:
        kinds = [
            (
                " or ".join(dict.fromkeys(self.describe(conditions[k]) for k in members)),
                tuple(names[k] for k in members),
            )
            for members in connected(conditions, self.same)
        ]
        agreed = len(kinds) == 1 and all(self.usable(one) for one in conditions)
        return (
            None if agreed else Difference(self.aspect, tuple(kinds), self.consequence, self.remedy)
        )


def differences(conditions: Sequence[Conditions], names: Sequence[str]) -> list[Difference]:
    """Everything for which the numbers of these reports do not mean the same; empty if nothing.

    Example:
        >>> differences([], [])
        []
    """
    return _found([*_setting_rules(conditions), *_RULES], conditions, names)


def position_differences(
    conditions: Sequence[Conditions], names: Sequence[str]
) -> list[Difference]:
    """Everything for which position i is not the same place in these reports."""
    return _found([_TOKENS], conditions, names)


def comparable(one: Conditions, other: Conditions) -> bool:
    """Whether two reports may stand in one table."""
    rules = [*_setting_rules([one]), *_RULES]
    return all(rule.same(one, other) and rule.usable(one) and rule.usable(other) for rule in rules)


def connected(conditions: Sequence[Conditions], same: Same) -> list[list[int]]:
    """The reports that agree, directly or through others, as lists of their numbers, in order."""
    groups: list[list[int]] = []
    for number, one in enumerate(conditions):
        joined = [group for group in groups if any(same(one, conditions[k]) for k in group)]
        groups = [group for group in groups if group not in joined]
        groups.append(sorted([number, *(k for group in joined for k in group)]))
    return sorted(groups)


def not_comparable(found: Sequence[Difference], what: str) -> NotComparableError:
    """The error that lists every difference at once."""
    lines = "\n".join(f"  - {difference}" for difference in found)
    remedies = "; ".join(dict.fromkeys(difference.remedy for difference in found))
    remedies = remedies[:1].upper() + remedies[1:]
    return NotComparableError(
        f"{what}\n{lines}",
        fix=f"{remedies}. Or pass force=True (--force) to see the numbers side by side all the "
        "same, with these lines above them.",
    )


def _found(
    rules: Sequence[_Rule], conditions: Sequence[Conditions], names: Sequence[str]
) -> list[Difference]:
    if not conditions:
        return []
    each = [rule.difference(conditions, names) for rule in rules]
    return [difference for difference in each if difference is not None]


def _setting_rules(conditions: Sequence[Conditions]) -> list[_Rule]:
    aspects = [aspect for aspect, _ in conditions[0].settings] if conditions else []
    return [_setting_rule(aspect) for aspect in aspects]


def _setting_rule(aspect: str) -> _Rule:
    def value(conditions: Conditions) -> str:
        return dict(conditions.settings)[aspect]

    consequence, remedy = _SETTINGS[aspect]
    return _Rule(aspect, lambda a, b: value(a) == value(b), value, consequence, remedy)


_SETTINGS = {
    "scope": (
        "an operator, one with what is around it, and a derivative are different things",
        "analyse with the same scope and method",
    ),
    "tolerances": (
        "a count at one tolerance says nothing of another",
        "analyse with the same tolerances",
    ),
    "kind of tolerances": (
        "a fraction of the largest singular value is no absolute tolerance",
        "analyse all with relative=True, or none",
    ),
    "window": ("a part of a block has another spectrum", "analyse with the same window"),
    "chosen layers": (
        "averages and depth are those of the chosen layers",
        "analyse all layers, or the same ones",
    ),
}

_RULES = (
    _Rule(
        "texts",
        lambda a, b: a.same_text(b) or not (a.text_is_known or b.text_is_known),
        Conditions.texts_in_words,
        "another text needs another state, and without a hash or token ids none is known to be "
        "the same",
        "analyse the same text, passed as text so that the report has its hash",
        lambda x: x.text_is_known,
    ),
    _Rule(
        "positions",
        Conditions.same_positions,
        lambda x: f"{x.positions_in_words()} of {x.tokens_in_words()}",
        "averages, and totals by position, are over other places of the text",
        "analyse at the same positions",
    ),
    _Rule(
        "complete",
        lambda a, b: a.complete == b.complete,
        lambda x: "yes" if x.complete else "no",
        "what was not reached is missing from every average",
        "analyse again to the end",
        lambda x: x.complete,
    ),
    _Rule(
        "verified layers",
        lambda a, b: a.measured == b.measured,
        lambda x: "some" if x.measured else "none",
        "there is nothing to average",
        "leave out the reports without verified layers",
        lambda x: x.measured,
    ),
)

_TOKENS = _Rule(
    "tokens",
    Conditions.same_tokens,
    Conditions.tokens_in_words,
    "position i is another place of the text",
    "compare by layer or by depth",
)
