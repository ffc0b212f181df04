"""Nothing that is read may bring code along, and every file is written in one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from hf_ess.lab import plain_yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for room in ("hf_ess", "model_adapters") for path in (ROOT / room).rglob("*.py")
)
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CODE = {"eval", "exec", "compile", "__import__"}
# What a call must say, by its name.
SAYS = {
    ("torch", "load"): ("weights_only", True),
    ("np", "load"): ("allow_pickle", False),
    ("numpy", "load"): ("allow_pickle", False),
}
YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
WRITING = {"write_text", "write_bytes"}
# Files written in folders that are put in place as a whole, when all of them are there.
WRITE_ASIDE = {"hf_ess/lab/shipping.py"}
# The one that all others use, a log that grows line by line, and locks and messages of processes.
OPEN_TO_WRITE = {
    "hf_ess/report/files.py",
    "hf_ess/report/folders.py",
    "hf_ess/lab/run_log.py",
    "hf_ess/lab/worker.py",
    "hf_ess/lab/workers.py",
}


def _words(node):
    """`a.b.c` as ("a.b", "c"); ("", "c") for a plain name."""
    if isinstance(node, ast.Attribute):
        return ast.unparse(node.value), node.attr
    return "", getattr(node, "id", "")


def _given(call, name):
    values = [word.value for word in call.keywords if word.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def _mode(call, words):
    position = 0 if words[0] else 1
    given = call.args[position : position + 1]
    mode = given[0].value if given and isinstance(given[0], ast.Constant) else _given(call, "mode")
    return mode if isinstance(mode, str) else "r"


def faults_of(source, path=""):
    """What a file does that none may do."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in UNPICKLING)
        if isinstance(node, ast.Call):
            yield from _faults_of_call(node, path)


def _faults_of_call(call, path):
    words = _words(call.func)
    if words[0] == "" and words[1] in CODE:
        yield f"calls {words[1]}"
    if words in SAYS and _given(call, SAYS[words][0]) is not SAYS[words][1]:
        yield f"calls {'.'.join(words)} without {SAYS[words][0]}={SAYS[words][1]}"
    if words[0] == "yaml" and words[1] in YAML and not _is_safe_loader(call):
        yield f"calls yaml.{words[1]}"
    if _given(call, "shell") or words in (("os", "system"), ("os", "popen")):
        yield "starts a shell"
    if words[1] in WRITING and path not in WRITE_ASIDE:
        yield f"writes in place: {words[1]}"
    opens = words[1] == "open" and words[0] not in ("os", "webbrowser", "Image")
    if opens and set(_mode(call, words)) & set("wax+") and path not in OPEN_TO_WRITE:
        yield "opens a file to write"


def _is_safe_loader(call):
    """`yaml.load(text, _Loader)` with the one class of our own, which derives from SafeLoader."""
    return len(call.args) == 2 and _words(call.args[1])[1] == "_Loader"


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "numpy.load(f, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "yaml.unsafe_load(text)",
        "subprocess.run(words, shell=True)",
        "os.system(words)",
        "path.write_text(text)",
        "open(path, 'w')",
        "path.open('ab')",
        "open(path, mode='r+')",
    ],
)
def test_what_is_looked_for_is_found(line):
    assert len(list(faults_of(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()",
        "torch.load(f, weights_only=True)",
        "np.load(f, allow_pickle=False)",
        "yaml.safe_load(text)",
        "yaml.load(text, _Loader)",
        "open(path)",
        "path.open('rb')",
        "re.compile(text)",
    ],
)
def test_the_rest_is_not(line):
    assert list(faults_of(line)) == []


def test_our_code(tried):
    found = {}
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        if faults := list(faults_of(path.read_text("utf-8"), name)):
            found[name] = faults
    assert found == {}
    assert issubclass(plain_yaml._Loader, yaml.SafeLoader)
    tried(
        "Faults",
        "Files of the source are searched for pickle, eval, unsafe loaders of torch, numpy and "
        "YAML, shells, and files that are written in place",
        "None has any",
        times=len(SOURCES),
    )
