"""Which public names the site documents, and on which page: read from the code, not run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class ApiPage:
    """A page of the reference.

    Attributes:
        name: of the file, without ending.
        title: its heading.
        words: what stands below that.
        packages: their public names are here.
        homes: names of `hf_ess` that are defined below these are here, too.
        first: the name with which most readers begin.
        of_classes: functions do not stand before classes.
    """

    name: str
    title: str
    words: str
    packages: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()
    first: str = ""
    of_classes: bool = False

    @property
    def names(self) -> list[str]:
        """Dotted names, each under the shortest path that users write."""
        below = [
            f"hf_ess.{name}"
            for home, name in _at_the_top()
            if any(home == room or home.startswith(f"{room}.") for room in self.homes)
        ]
        own = [
            f"hf_ess.{name}" if (package, name) in _at_the_top() else f"{package}.{name}"
            for package in self.packages
            for name in public_names(package)
        ]
        first = [self.first] if self.first else []
        verbs = [name for name in (*below, *own) if name.rpartition(".")[2].islower()]
        lead = first if self.of_classes else [*first, *verbs]
        return list(dict.fromkeys([*lead, *below, *own]))


PAGES = (
    ApiPage(
        "measuring",
        "Measuring",
        "From a model and texts to a report; singular values and the metrics by themselves.",
        homes=(
            *("hf_ess.analysis", "hf_ess.spectra", "hf_ess.metrics"),
            *("hf_ess.progress", "hf_ess.corpus"),
        ),
        first="hf_ess.analyze",
    ),
    ApiPage(
        "reports",
        "Reports",
        "What a measurement says: tables, plots, files, comparisons.",
        packages=("hf_ess.report",),
        homes=("hf_ess.report",),
        first="hf_ess.ESSReport",
    ),
    ApiPage("hub", "The Hub", "Cards, pull requests and jobs.", packages=("hf_ess.hub",)),
    ApiPage(
        "training",
        "Training",
        "Before, during and as a part of a training.",
        packages=("hf_ess.training",),
        homes=("hf_ess.training",),
    ),
    ApiPage("reduce", "Smaller states", "From a report to a smaller model.", ("hf_ess.reduce",)),
    ApiPage(
        "modulation",
        "State modulation",
        "Whether the state falls at separators.",
        packages=("hf_ess.modulation",),
        homes=("hf_ess.modulation",),
    ),
    ApiPage(
        "recall",
        "Recall",
        "Perplexity on what a text repeats.",
        packages=("hf_ess.recall",),
        homes=("hf_ess.recall",),
    ),
    ApiPage(
        "synthetics",
        "Synthetic models and tasks",
        "The mixers and tasks of the paper, and checkpoints that come with the package.",
        packages=("hf_ess.synthetics",),
    ),
    ApiPage("lab", "Lab", "Trainings, sweeps and experiments.", packages=("hf_ess.lab",)),
    ApiPage("space", "The page", "What `hf-ess serve` and a Space start.", ("hf_ess.space.app",)),
    ApiPage(
        "adapters",
        "Adapters",
        "How hf_ess learns of a mixer; a whole example is on [its own page](../adding-a-mixer.md).",
        packages=(
            "model_adapters",
            "model_adapters.function_adapter",
            "model_adapters.module_adapter",
        ),
        homes=("model_adapters",),
    ),
    ApiPage(
        "operators",
        "Operators",
        "What a mixer applied.",
        packages=("hf_ess.operators",),
        first="hf_ess.operators.LinearOperator",
        of_classes=True,
    ),
    ApiPage(
        "errors",
        "Errors and warnings",
        "Every error derives from `HfEssError`, and from what a Python user would catch.",
        ("hf_ess.errors",),
    ),
)


def public_names(module: str) -> list[str]:
    """The names of `__all__` that are no modules; without it, what is defined there for others."""
    tree = _tree(module)
    listed = _literal(tree, "__all__")
    if listed is None:
        named = [
            node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
        ]
        return [name for name in named if not name.startswith("_")]
    modules = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }
    return [name for name in listed if name not in modules and not name.startswith("_")]


def place_of(name: str) -> str:
    """The dotted path at which a name is found in the code where it is not run.

    A function that is imported under the name of its module hides that module when it is run only.
    """
    return f"{name}.{name.rpartition('.')[2]}" if _file_of(name).is_file() else name


@cache
def documented() -> dict[str, str]:
    """The page of every documented name."""
    return {name: page.name for page in PAGES for name in page.names}


@cache
def _at_the_top() -> tuple[tuple[str, str], ...]:
    """The names of `hf_ess` itself, each with the package or module where it is at home."""
    homes = dict.fromkeys(public_names("hf_ess.errors"), "hf_ess.errors")
    homes |= _literal(_tree("hf_ess"), "_HOME_OF")
    return tuple((homes[name], name) for name in public_names("hf_ess"))


def _literal(tree: ast.Module, name: str) -> Any:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    return None


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file_of(module).read_text(encoding="utf-8"))


def _file_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
