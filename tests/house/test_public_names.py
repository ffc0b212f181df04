"""Every public name is documented, and what its docstring says of it is so."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from itertools import pairwise
from types import ModuleType

import pytest
from house.markdown_pages import ROOT, all_pages
from house.public_names import (
    described_parameters,
    documentable,
    find,
    linked_names,
    methods,
    parameters,
    raised_errors,
    said_errors,
    site_names,
)

import hf_ess


def is_error(name: str) -> bool:
    found = find(name)
    return inspect.isclass(found) and issubclass(found, Exception | Warning)


def targets_of(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.AnnAssign):
        return [statement.target]
    return statement.targets if isinstance(statement, ast.Assign) else []


DOCUMENTED = list(site_names().documented())
CODE = documentable(DOCUMENTED)
ROOMS = ("reduce", "recall", "modulation", "lab", "synthetics", "training", "report", "hub")
# Methods of operators have few arguments, of which their base class tells.
USERS = [name for name in CODE if not name.startswith("hf_ess.operators.") and not is_error(name)]
# What a sentence with the names in it can tell.
FEW = 2
# Names of things that are not written in Python: a group of entry points, files.
NO_CODE = {"hf_ess.adapters", "hf_ess.yaml"}
DOTTED = re.compile(r"`((?:hf_ess|model_adapters)(?:\.\w+)+)(?:\(.*?\))?`")


def test_every_name_of_hf_ess_is_documented():
    public = {name for name in hf_ess.__all__ if name != "__version__"}
    objects = {name for name in public if not isinstance(getattr(hf_ess, name), ModuleType)}
    assert public - objects == {"reduce"}
    assert {f"hf_ess.{name}" for name in objects} <= set(DOCUMENTED)


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_room_is_documented_once(room):
    package = importlib.import_module(f"hf_ess.{room}")
    assert package.__all__
    for name in package.__all__:
        found = getattr(package, name)
        places = [place for place in DOCUMENTED if find(place) is found]
        assert len(places) == 1, name
        assert places[0] in (f"hf_ess.{name}", f"hf_ess.{room}.{name}")


@pytest.mark.parametrize("name", sorted(set(DOCUMENTED) - set(CODE)))
def test_constants_are_described(name):
    constant = name.rpartition(".")[2]
    described = [
        following.value
        for file in (ROOT / "hf_ess").rglob("*.py")
        if constant in (text := file.read_text(encoding="utf-8"))
        for one, following in pairwise(ast.parse(text).body)
        if constant in (ast.unparse(target) for target in targets_of(one))
        and isinstance(following, ast.Expr)
    ]
    assert len(described) == 1
    assert isinstance(ast.literal_eval(described[0]), str)


@pytest.mark.parametrize("name", CODE)
def test_every_argument_is_described_and_no_other(name):
    found = find(name)
    assert inspect.getdoc(found)
    if not is_error(name):
        assert described_parameters(found) == parameters(found)


@pytest.mark.parametrize("name", [name for name in USERS if inspect.isclass(find(name))])
def test_methods_describe_their_arguments(name):
    for made in methods(find(name)).values():
        taken = parameters(made) - {"self", "cls"}
        described = described_parameters(made)
        assert described <= taken, made
        assert described == taken or (not described and len(taken) <= FEW), made
        ours = {error for error in raised_errors(made) if issubclass(error, hf_ess.HfEssError)}
        assert not [error for error in ours if not issubclass(error, tuple(said_errors(made)))]


@pytest.mark.parametrize("name", CODE)
def test_errors_that_are_raised_are_named(name):
    found = find(name)
    said = said_errors(found)
    unsaid = [error for error in raised_errors(found) if not issubclass(error, tuple(said))]
    assert not unsaid


@pytest.mark.parametrize("name", [name for name in CODE if not is_error(name)])
def test_every_name_has_an_example_or_a_link(name):
    text = inspect.getdoc(find(name))
    assert ">>>" in text or linked_names(text) - {name} or "docs/" in text


@pytest.mark.parametrize("name", [name for name in CODE if is_error(name)])
def test_errors_are_what_users_catch(name):
    bases = find(name).__mro__[1:]
    if name == "hf_ess.HfEssError":
        assert bases[0] is Exception
    elif issubclass(find(name), Warning):
        assert bases[0].__module__ == "builtins"
    else:
        assert hf_ess.HfEssError in bases
        assert bases[1].__module__ == "builtins"


def test_names_in_docstrings_and_pages_are_there():
    files = [*(ROOT / "hf_ess").rglob("*.py"), *(ROOT / "model_adapters").rglob("*.py")]
    unknown = {}
    for file in [*files, *all_pages()]:
        for name in set(DOTTED.findall(file.read_text(encoding="utf-8"))) - NO_CODE:
            try:
                find(name)
            except LookupError:
                unknown[name] = file.name
    assert not unknown
