"""Changes the code in small ways, one at a time, and looks whether the tests notice.

    python benchmarks/mutation_testing.py            # all parts, as `make mutation`
    python benchmarks/mutation_testing.py metrics    # one of them
    python benchmarks/mutation_testing.py cards --digits 3    # and mutants with these numbers

Each part is worked off in a folder of its own under build/mutation, with the tests that are meant
to cover it; a run that was interrupted goes on there. What survives is explained in
mutation_explained.json, one change or one kind of change at a time. Writes
quality/mutation.json and docs/mutation-testing.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mutation_page import page_of
from mutation_survivors import explained, survivors_in

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "quality" / "mutation.json"
PAGE = ROOT / "docs" / "mutation-testing.md"
WORK = ROOT / "build" / "mutation"
COPIED = ("hf_ess", "model_adapters", "tests")
# For the copied tests: a failing example is enough, nobody reads the smallest one.
QUICK = """

from hypothesis import Phase, settings

_decorate = settings.__call__
settings.__call__ = lambda given, test: _decorate(
    settings(given, max_examples=min(given.max_examples, 30)), test
)
settings.register_profile("mutation", phases=(Phase.explicit, Phase.generate), database=None)
settings.load_profile("mutation")
"""
# Exit codes of a worker, as mutmut has them: no test at all is a change that none noticed. What was
# skipped or interrupted has others.
SURVIVED, NO_TESTS = 0, (5, 33)
UNNOTICED = (SURVIVED, *NO_TESTS)
TIMEOUTS = (24, 36, 152, 255, -24)
NOTICED = (1, 3, -11, *TIMEOUTS)


@dataclass(frozen=True)
class Part:
    """Modules, and the tests that are meant to notice a change of them.

    Args:
        name: of the part.
        modules: files under hf_ess.
        tests: files under tests.
        digits: only mutants whose number ends in one of these are tried; all if empty.
        without: words of tests that are left out: those that are slow and repeat others, and those
            that start threads of torch, for which processes forked later would wait forever.
    """

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    digits: str = ""
    without: str = ""


PARTS = (
    Part("metrics", ("metrics.py",), ("test_metrics.py", "training/test_soft_tolerance.py")),
    Part(
        "cards",
        (
            "hub/card_text.py",
            "hub/card_markers.py",
            "hub/card_parts.py",
            "hub/front_matter.py",
            "hub/yaml_edit.py",
            "hub/yaml_text.py",
            "hub/yaml_tree.py",
        ),
        (
            "hub/test_card_text.py",
            "hub/test_card_lines.py",
            "hub/test_card_notes.py",
            "hub/test_front_matter.py",
            "hub/test_model_index_entry.py",
        ),
        digits="37",
        without="megabyte or others_insert or data_written",
    ),
    Part(
        "blocks",
        (
            "spectra/spectra.py",
            "spectra/blocks.py",
            "spectra/bounds.py",
            "spectra/gram.py",
            "spectra/engine.py",
            "spectra/dispatch.py",
            "spectra/positions.py",
        ),
        (
            "spectra/test_values.py",
            "spectra/test_bounds.py",
            "spectra/test_requests.py",
            "reliability/test_stress_matrices.py",
        ),
        digits="7",
        without="full_length",
    ),
    Part(
        "recurrences",
        (
            "spectra/factored.py",
            "spectra/factors.py",
            "spectra/products.py",
            "spectra/realized.py",
            "spectra/powers.py",
            "spectra/checkpoints.py",
        ),
        (
            "operators_recurrent/test_families.py",
            "operators_recurrent/test_compositions.py",
            "operators_recurrent/test_long_texts.py",
            "operators_recurrent/test_refusals.py",
            "spectra/test_factors.py",
            "reliability/test_stress_structures.py",
        ),
        digits="7",
        without="checkpoints_change or long_outputs or triangles_in_step_have or naive",
    ),
    Part("lanes", ("spectra/lanes.py",), ("spectra/test_lanes.py",), digits="7"),
    Part(
        "windows",
        ("spectra/windowed.py", "spectra/batched.py"),
        ("spectra/test_windowed.py", "reliability/test_stress_matrices.py"),
        digits="7",
        without="threads_and_batches",
    ),
    Part(
        "every position",
        (
            "spectra/certified.py",
            "spectra/half.py",
            "spectra/position_tree.py",
            "spectra/quadrature.py",
            "spectra/elimination.py",
        ),
        (
            "spectra/test_certified.py",
            "spectra/test_certificates.py",
            "reliability/test_stress_matrices.py",
        ),
        digits="7",
    ),
    Part(
        "channels that mix",
        ("spectra/mimo.py",),
        ("jacobian/test_mimo.py", "jacobian/test_randomized.py"),
        digits="7",
        without="every_trial",
    ),
    Part("gradients", ("spectra/gradients.py",), ("training/test_gradients.py",), digits="7"),
)


def folder_of(part: Part, work: Path) -> Path:
    """Where a part is worked off."""
    return work / part.name.replace(" ", "-")


def prepared(part: Part, folder: Path) -> None:
    """Copies the code of now into the folder; mutmut drops results of functions that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "tests" / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write(QUICK)
    settings = {
        "source_paths": ["hf_ess"],
        "only_mutate": [f"hf_ess/{module}" for module in part.modules],
        "also_copy": ["model_adapters"],
        "pytest_add_cli_args": ["--hypothesis-seed=0", *_deselecting(part)],
        "pytest_add_cli_args_test_selection": [f"tests/{test}" for test in part.tests],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    ours = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        "\n".join([ours, "[tool.mutmut]", *lines, ""]), encoding="utf-8"
    )


def _deselecting(part: Part) -> list[str]:
    return ["-k", f"not ({part.without})"] if part.without else []


def run(part: Part, folder: Path, chosen: Sequence[str], seconds: float | None) -> None:
    """Tries mutants of a part, one process forked for each, those with quick tests first.

    Args:
        part: with tests that pass.
        folder: prepared.
        chosen: names or patterns of mutants, all if empty.
        seconds: after which no more are tried.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    mutmut = str(Path(sys.executable).parent / "mutmut")
    running = subprocess.Popen(
        [mutmut, "run", "--max-children", "1", *chosen], cwd=folder, env=environment
    )
    try:
        status = running.wait(seconds)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGINT)
        status = running.wait()
    if status:
        sys.exit(f"mutmut ended with status {status}; do the tests of {part.name!r} pass?")


def _codes(module: str, folder: Path) -> dict[str, int | None]:
    """Exit codes of the mutants of a module that were tried, and None for those that were not."""
    meta = folder / "mutants" / "hf_ess" / f"{module}.meta"
    codes: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"]
    return codes


def gathered(part: Part, folder: Path) -> dict[str, Any]:
    """Counts per module, and what survived."""
    modules, found, digits = [], [], set(part.digits)
    for module in part.modules:
        codes = _codes(module, folder)
        tried = {name: code for name, code in codes.items() if code in (*NOTICED, *UNNOTICED)}
        survived = [name for name, code in tried.items() if code in UNNOTICED]
        digits |= {name[-1] for name in tried} if part.digits else set()
        modules.append(
            {"module": f"hf_ess/{module}", "mutants": len(codes), "tried": len(tried)}
            | {"timeouts": sum(code in TIMEOUTS for code in tried.values())}
        )
        found += survivors_in(folder, survived)
    return {
        "part": part.name,
        "digits": "".join(sorted(digits)),
        "modules": modules,
        "survivors": found,
    }


def without_killed(old: dict[str, Any], part: Part, folder: Path) -> dict[str, Any]:
    """A record in which survivors that were tried again and noticed are no survivors."""
    codes = {name: code for module in part.modules for name, code in _codes(module, folder).items()}
    left = [one for one in old["survivors"] if codes.get(one["mutant"]) not in NOTICED]
    return old | {"survivors": left}


def judged(part: dict[str, Any]) -> dict[str, Any]:
    """The record of a part with reasons of survivors as they are known now, and all counts."""
    survivors = explained(part["survivors"])
    modules = []
    for module in part["modules"]:
        prefix = module["module"].removesuffix(".py").replace("/", ".") + "."
        own = [one for one in survivors if one["mutant"].startswith(prefix)]
        reasons = sum(bool(one["reason"]) for one in own)
        killed = {"killed": module["tried"] - len(own)}
        modules.append(module | killed | {"survived": len(own), "explained": reasons})
    return part | {"modules": modules, "survivors": survivors}


def recorded() -> dict[str, dict[str, Any]]:
    """The parts of the record, by their names."""
    if not RESULTS.exists():
        return {}
    return {part["part"]: part for part in json.loads(RESULTS.read_text(encoding="utf-8"))["parts"]}


def write(parts: Mapping[str, dict[str, Any]]) -> None:
    """Writes the record and the page."""
    record = {
        "command": "python benchmarks/mutation_testing.py",
        "versions": {
            "mutmut": version("mutmut"),
            "python": platform.python_version(),
            "torch": version("torch").split("+")[0],
        },
        "parts": [judged(parts[part.name]) for part in PARTS if part.name in parts],
        "not_tried": [
            f"hf_ess/{module}"
            for part in PARTS
            if part.name not in parts
            for module in part.modules
        ],
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page_of(record), encoding="utf-8")


def _tried(part: Part, folder: Path, digits: str, seconds: float | None) -> dict[str, Any]:
    prepared(part, folder)
    run(part, folder, [f"*__mutmut_*[{digits}]"] if digits else [], seconds)
    return gathered(part, folder)


def _tried_again(
    old: dict[str, Any], part: Part, folder: Path, seconds: float | None
) -> dict[str, Any]:
    names = [one["mutant"] for one in judged(old)["survivors"] if not one["reason"]]
    if not names:
        return old
    prepared(part, folder)
    run(part, folder, names, seconds)
    return without_killed(old, part, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs parts, or what survived of them, or explains anew what is recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="names of parts; all of them by default")
    parser.add_argument("--explain", action="store_true", help="try nothing, explain it anew")
    parser.add_argument("--survivors", action="store_true", help="try again what is not explained")
    parser.add_argument("--work", type=Path, default=WORK, help="where to work, and to go on")
    parser.add_argument("--digits", help="last digits of mutants to try, beside those tried before")
    parser.add_argument("--minutes", type=float, help="for a part; what was tried by then counts")
    given = parser.parse_args(arguments)
    seconds = given.minutes and 60 * given.minutes
    for part in PARTS:
        if given.explain or (given.parts and part.name not in given.parts):
            continue
        folder, old = folder_of(part, given.work), recorded().get(part.name)
        if given.survivors and old is not None:
            result = _tried_again(old, part, folder, seconds)
        else:
            result = _tried(part, folder, given.digits or part.digits, seconds)
        write(recorded() | {part.name: result})
        print(f"{part.name}: {PAGE}")
    if given.explain:
        write(recorded())


if __name__ == "__main__":
    main()
