"""What docstrings of public names say, and what is true of the names."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
from functools import cache
from typing import Any

from griffe import Docstring, DocstringSectionKind, Parser
from house.markdown_pages import ROOT

import hf_ess.errors

# Arguments that only go on to a base class or another function need no words.
PASSED_ON = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def site_names() -> Any:
    """The module that says which names the site documents."""
    return _docs_module("site_names")


def linked_names(text: str) -> set[str]:
    """The documented names to which the site makes a docstring link."""
    _docs_module("site_names")
    targets = re.findall(r"\]\[([\w.]+)\]", _docs_module("site_docstrings").linked(text))
    return {name for name in site_names().documented() if site_names().place_of(name) in targets}


@cache
def find(name: str) -> Any:
    """What a dotted name means where the code runs, as users write it.

    Raises:
        LookupError: nothing.
    """
    first, *others = name.split(".")
    found, path = importlib.import_module(first), first
    for part in others:
        path = f"{path}.{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(path)
            except ModuleNotFoundError:
                raise LookupError(name) from None
    return found


def documentable(names: list[str]) -> list[str]:
    """Those that are classes and functions; constants have no docstring of their own."""
    return [name for name in names if inspect.isclass(find(name)) or inspect.isfunction(find(name))]


def sections(described: Any, kind: str) -> dict[str, str]:
    """Names and texts of a section of a docstring."""
    wanted = DocstringSectionKind(kind)
    found: dict[str, str] = {}
    docstring = Docstring(inspect.getdoc(described) or "")
    for section in docstring.parse(Parser.google, warnings=False):
        if section.kind is wanted:
            for item in section.value:
                key = getattr(item, "name", None) or str(item.annotation)
                found[key] = item.description
    return found


def parameters(described: Any) -> set[str]:
    """What a caller can pass."""
    maker = described.__init__ if inspect.isclass(described) else described
    if maker is object.__init__:
        return set()
    taken = list(inspect.signature(maker).parameters.values())
    passed_on = {given.name for given in taken if given.kind in PASSED_ON}
    named = {given.name for given in taken[1 if inspect.isclass(described) else 0 :]}
    return named - (passed_on - described_parameters(described))


def described_parameters(described: Any) -> set[str]:
    """What a docstring says of them: as arguments, or of a class as attributes."""
    given = set(sections(described, "parameters"))
    if inspect.isclass(described):
        taken = set(inspect.signature(described.__init__).parameters)
        given |= set(sections(described, "attributes")) & taken
    return {name.lstrip("*") for name in given}


def said_errors(described: Any) -> list[type[BaseException]]:
    """The classes that a docstring says are raised.

    Raises:
        LookupError: a word is no exception that a reader could catch.
    """
    words = ", ".join(sections(described, "raises"))
    names = re.findall(r"[A-Za-z_.]+", words)
    return [_exception(name, described) for name in names]


def raised_errors(described: Any) -> set[type[BaseException]]:
    """The classes that the code of a function, or of `__init__`, raises by name."""
    maker = described.__dict__.get("__init__") if inspect.isclass(described) else described
    if not inspect.isfunction(maker) or not maker.__code__.co_filename.startswith(str(ROOT)):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(maker))))
    calls = [
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    ]
    return {
        found
        for name in calls
        if inspect.isclass(found := _named(name, maker)) and issubclass(found, BaseException)
    }


def _docs_module(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def _exception(name: str, described: Any) -> type[BaseException]:
    found = _named(name, described)
    if not (inspect.isclass(found) and issubclass(found, BaseException)):
        raise LookupError(name)
    return found


def _named(name: str, described: Any) -> Any:
    known = {place.rpartition(".")[2]: place for place in site_names().documented()}
    own = vars(sys.modules[described.__module__])
    for names in (own, vars(hf_ess.errors), vars(builtins)):
        if name in names:
            return names[name]
    return find(known.get(name, name))


def methods(described: type) -> dict[str, Any]:
    """The public methods that a class defines and describes itself, not those that it overrides."""
    own = {
        name: inspect.unwrap(getattr(member, "__func__", member))
        for name, member in vars(described).items()
        if not name.startswith("_")
    }
    return {name: made for name, made in own.items() if inspect.isfunction(made) and made.__doc__}
