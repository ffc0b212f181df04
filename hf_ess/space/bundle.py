"""The page's modules and their style as one script, without a build step."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from hf_ess.errors import OutputPathError

STATIC = Path(__file__).parent / "static"
ENTRY = "mount.js"
BRIDGE = "bridge.js"
SURROUNDINGS = "page.css"
STYLE, STYLE_SHEET = "style.js", "style.css"
_IMPORT = re.compile(
    r'^import\s*(?:\{(?P<names>[^}]*)\}\s*from\s*)?"\./(?P<file>[\w.-]+)";[^\n]*$', re.M
)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.M)
_EXPORTED = re.compile(r"^export (?:async )?(?:function|const|let|class) (?P<name>\w+)", re.M)
_OTHER = re.compile(r"^(?:import|export)\b.*$", re.M)


@cache
def script(entry: str = ENTRY, folder: Path = STATIC) -> str:
    """A module and all that it imports, in one function, so that nothing leaks into the page.

    Modules import names from files beside them, and export functions, classes and constants:
    `import { a, b as c } from "./other.js";` and `export function a() {...}`. The module
    `style.js` is made of `style.css`: it exports that text as `STYLE`.

    Raises:
        OutputPathError: a module is missing, imports itself by others, or is written otherwise.
    """
    order: list[str] = []
    _visit(entry, folder, order, ())
    modules = "\n".join(_as_function(name, _read(name, folder)) for name in order)
    text = f'(() => {{\n"use strict";\nconst modules = {{}};\n{modules}\n}})();\n'
    # An end tag inside of the script would end it.
    return text.replace("</script", "<\\/script")


@cache
def bridge(folder: Path = STATIC) -> str:
    """What joins the page's element to the view: the body of a function that Gradio calls."""
    return _read(BRIDGE, folder)


@cache
def surroundings(folder: Path = STATIC) -> str:
    """The style of what stands around the view."""
    return _read(SURROUNDINGS, folder)


def _visit(name: str, folder: Path, order: list[str], above: tuple[str, ...]) -> None:
    if name in above:
        raise OutputPathError(f"{' imports '.join((*above, name))}: a circle.")
    if name in order:
        return
    for found in _IMPORT.finditer(_read(name, folder)):
        _visit(found["file"], folder, order, (*above, name))
    order.append(name)


def _as_function(name: str, text: str) -> str:
    exported = [found["name"] for found in _EXPORTED.finditer(text)]
    body = _EXPORT.sub("", _IMPORT.sub(_fetched, text))
    if other := _OTHER.search(body):
        raise OutputPathError(f"{name} cannot be joined to one script: {other[0]!r}.")
    return f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {", ".join(exported)} }};\n}})();'


def _fetched(found: re.Match[str]) -> str:
    if found["names"] is None:
        return ""
    names = ", ".join(name.strip().replace(" as ", ": ") for name in found["names"].split(","))
    return f'const {{ {names} }} = modules["{found["file"]}"];'


def _read(name: str, folder: Path) -> str:
    if name == STYLE:
        return f"export const STYLE = {json.dumps(_read(STYLE_SHEET, folder))};\n"
    try:
        return (folder / name).read_text(encoding="utf-8")
    except OSError as error:
        raise OutputPathError(
            f"The page's file {name} cannot be read: {error.strerror}.",
            causes=["hf_ess was copied by hand, without its data files"],
            fix="Install it again.",
        ) from error
