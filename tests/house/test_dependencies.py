"""What is imported is declared, what is declared is used, what the core needs is pinned."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest

PART = "Hostile input"
ROOT = Path(__file__).resolve().parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
SHIPPED = ("hf_ess", "model_adapters", "spaces")
MODULES = {"pyyaml": "yaml", "markdown-it-py": "markdown_it", "mamba-ssm": "mamba_ssm"}
# Not imported here: transformers loads GGUF files, dispatched models and tokenizers through them,
# and reports what is measured in a training to them.
FOR_TRANSFORMERS = {"accelerate", "gguf", "sentencepiece", "tensorboard", "trackio"}
# Bars are those of huggingface_hub, whose settings users know.
FOR_TRANSFORMERS |= {"tqdm"}
# What our own packages bring, and what of them is used here: errors, tokenizers, versions.
BROUGHT = {"httpx2": "huggingface_hub", "tokenizers": "transformers", "packaging": "transformers"}
# Imported where the user has them, or by what a user of that package passes.
OF_USERS = {"spaces", "wandb", "pyarrow", "datasets", "fla", "IPython", "bitsandbytes", "gradio"}
FREE = re.compile(
    r"MIT|BSD|Apache|Python Software Foundation|PSF|ISC|MPL|Mozilla|HPND|Unlicense|LGPL", re.I
)


def named(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def listed(key):
    """The requirements of a list in pyproject.toml; Python 3.10 has no reader of TOML."""
    block = re.search(rf"^{key} = \[(.*?)\]\s*$", PROJECT, re.MULTILINE | re.DOTALL)[1]
    return {named(each) for each in re.findall(r'"([^"]+)"', block)}


CORE = listed("dependencies")
EXTRAS = listed("mamba") | listed("space") | listed("train")


def module_of(name):
    return MODULES.get(name, name.replace("-", "_"))


def imported():
    """Top-level modules that the package imports, and the files that do."""
    found = {}
    for room in SHIPPED:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                for name in names:
                    found.setdefault(name.partition(".")[0], set()).add(path.name)
    return {
        name: files
        for name, files in found.items()
        if name not in sys.stdlib_module_names and name not in SHIPPED[:2]
    }


def test_what_is_imported_is_declared(tried):
    declared = {module_of(name) for name in CORE | EXTRAS}
    missing = {name: files for name, files in imported().items() if name not in declared}
    assert set(missing) <= OF_USERS | set(BROUGHT), missing
    for name, by in BROUGHT.items():
        assert named(by) in CORE
        assert name in {named(each) for each in requires(by)}
    tried(PART, "Every import of the package is looked up in pyproject.toml", "All are declared")


def test_what_is_declared_is_used():
    used = set(imported())
    unused = {name for name in CORE | EXTRAS if module_of(name) not in used}
    assert unused <= FOR_TRANSFORMERS | {"mamba-ssm"}, unused


def test_the_core_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {named(line) for line in lines if "==" in line and not line.startswith("#")}
    assert {name.replace("-", "_") for name in CORE} <= {x.replace("-", "_") for x in pinned}


@pytest.mark.parametrize("name", sorted(CORE))
def test_licences_of_the_core_are_free(name):
    facts = metadata(name)
    words = [
        facts.get("License-Expression"),
        facts.get("License"),
        *facts.get_all("Classifier", []),
    ]
    said = [word for word in words if word and "topic" not in word.lower()]
    assert any(FREE.search(word) for word in said), said


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOUND = {"name": "torch", "version": "2.13.0", "vulns": []}
SKIPPED = {"name": "rich", "skip_reason": "Dependency not found on PyPI"}
FLAW = {"id": "CVE-0000-0001", "fix_versions": ["9.9"], "aliases": [], "description": ""}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([SOUND], 0, "1 packages audited, 0 known"),
        ([SOUND, SKIPPED], 0, "not audited: rich"),
        ([SOUND | {"vulns": [FLAW]}], 1, "torch 2.13.0: CVE-0000-0001, mended in 9.9"),
        ([SKIPPED, SKIPPED | {"name": "numpy"}], 2, "nothing was audited"),
        ([SKIPPED, {"name": "hf-ess", "version": "0.1.0", "vulns": []}], 2, "nothing was audited"),
    ],
)
def test_what_an_audit_means(audit, packages, status, words):
    verdict = audit.verdict_of(json.dumps({"dependencies": packages, "fixes": []}))
    assert verdict.status == status
    assert words in verdict.words


@pytest.mark.parametrize("answer", ["", "Traceback", "[]", "{}"])
def test_an_audit_that_could_not_ask_is_no_success(audit, answer):
    assert audit.verdict_of(answer) == audit.Verdict(audit.UNREACHED, audit.UNKNOWN)
