"""What one random case is made of, drawn from one number; as text, and back from text."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

from reliability.fuzzing import knobs
from reliability.fuzzing.knob_exceptions import DTYPES_OF

COMMAND = "python tests/reliability/fuzzing"
DTYPES = ("float32", "float32", "bfloat16", "float16", "float64")
LONGEST = 130
LARGEST_BATCH = 5
NO_SUCH_LAYER = "no.such.layer"
TRANSFORMERS, SYNTHETIC, COMPOSED = "transformers", "synthetic", "composed"


@dataclass(frozen=True)
class Choices:
    """One case.

    Attributes:
        seed: of weights, tokens, and what of a result is looked at.
        family: how the model is built.
        model: a model type of transformers, empty for other families.
        config: fields of the model's configuration.
        dtype: of the weights.
        attention: implementation of attention, None for the default.
        length: tokens of the longest text.
        batch: texts.
        shorter: by how many tokens each text is shorter than the one before.
        padding: "none" (token ids alone), "left" or "right".
        arguments: of `analyze`; positions given as fractions of the longest text.
    """

    seed: int
    family: str = SYNTHETIC
    model: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    attention: str | None = None
    length: int = 12
    batch: int = 1
    shorter: int = 0
    padding: str = "none"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [max(1, self.length - number * self.shorter) for number in range(self.batch)]

    def analyze_arguments(self) -> dict[str, Any]:
        """What `analyze` is called with besides model and inputs."""
        arguments = dict(self.arguments)
        if isinstance(arguments.get("positions"), tuple):
            last = max(self.lengths) - 1
            places = {1 + int(share * last) for share in arguments["positions"]}
            arguments["positions"] = sorted(places)
        return arguments


def drawn(seed: int) -> Choices:
    """The case of a number, the same each time."""
    random = Random(seed)
    family = random.choices((TRANSFORMERS, SYNTHETIC, COMPOSED), (6, 3, 2))[0]
    types = knobs.model_types()
    # In turn, so that a run of some thousand meets them all.
    model = types[seed % len(types)] if family == TRANSFORMERS else ""
    length = random.choice((random.randint(1, 12), random.randint(2, 40), random.randint(2, 130)))
    batch = random.choice((1, 1, 2, 3, LARGEST_BATCH))
    padding = random.choice(("none", "left", "right"))
    return Choices(
        seed=seed,
        family=family,
        model=model,
        config=_config(random, family, model),
        dtype=random.choice(DTYPES_OF.get(model, DTYPES)),
        attention=random.choice((None, "eager")),
        length=length,
        batch=batch,
        shorter=0 if padding == "none" else random.randint(0, max(1, length // batch)),
        padding=padding,
        arguments=_arguments(random, length),
    )


def _config(random: Random, family: str, model: str) -> dict[str, Any]:
    if family == TRANSFORMERS:
        return knobs.of_transformers(random, model)
    return knobs.synthetic(random) if family == SYNTHETIC else knobs.composed(random)


def _arguments(random: Random, length: int) -> dict[str, Any]:
    """Some arguments of `analyze`; now and then one that it has to refuse."""
    possible: dict[str, tuple[float, Any]] = {
        "positions": (0.5, _positions(random, length)),
        "tolerances": (0.5, tuple(10.0 ** random.uniform(-9, 1) for _ in range(3))),
        "relative": (0.15, True),
        "layers": (0.1, random.choice(([0], [0], [1], [0, 1], [NO_SUCH_LAYER]))),
        "window": (0.2, random.choice((random.randint(1, 40), (3, 7), (9, 2), (200, 1)))),
        "batch_size": (0.5, random.randint(1, LARGEST_BATCH)),
        "method": (0.3, random.choice(("gram", "svd", "divide-and-conquer"))),
        "accuracy": (0.2, "exact"),
        "scope": (0.15, "mixer"),
        "memory_budget": (0.2, 2 ** random.randint(8, 24)),
        "keep_singular_values": (0.2, True),
    }
    return {name: value for name, (share, value) in possible.items() if random.random() < share}


def _positions(random: Random, length: int) -> Any:
    some = tuple(round(random.uniform(0, 0.999), 3) for _ in range(random.randint(1, 4)))
    beyond = (0.5, 1.0)
    stride = random.randint(1, max(1, length // 2))
    return random.choices(("all", "auto", stride, some, beyond), (8, 2, 6, 10, 1))[0]


def differences(choices: Choices) -> Iterator[str]:
    """`name=value` for everything in which a case differs from the one that its seed draws."""
    before = drawn(choices.seed)
    for entry in fields(Choices):
        old, new = getattr(before, entry.name), getattr(choices, entry.name)
        if isinstance(new, Mapping):
            for key in dict.fromkeys([*old, *new]):
                if key not in new:
                    yield f"{entry.name}.{key}="
                elif key not in old or old[key] != new[key]:
                    yield f"{entry.name}.{key}={new[key]!r}"
        elif old != new:
            yield f"{entry.name}={new!r}"


def with_setting(choices: Choices, setting: str) -> Choices:
    """The case with one `name=value`; nothing behind `=` leaves an entry of a mapping out."""
    path, text = setting.split("=", 1)
    name, _, key = path.partition(".")
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    if not key:
        return replace(choices, **{name: value})
    entries = {**getattr(choices, name), key: value}
    return replace(choices, **{name: {k: v for k, v in entries.items() if v != "" or k != key}})


def command(choices: Choices) -> str:
    """The command that runs a case again."""
    settings = " ".join(f"--set '{setting}'" for setting in differences(choices))
    return f"{COMMAND} --seed {choices.seed} {settings}".rstrip()
