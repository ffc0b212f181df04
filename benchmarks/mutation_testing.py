"""Changes the code in small ways, one at a time, and looks whether the tests notice.

    python benchmarks/mutation_testing.py            # all parts, as `make mutation`
    python benchmarks/mutation_testing.py metrics    # one of them

Each part is worked off in a folder of its own under build/mutation, with the tests that are meant
to cover it; a run that was interrupted goes on there. What survives is explained in
mutation_explained.json, one change or one kind of change at a time. Writes
results/mutation.json and docs/mutation-testing.md.
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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mutation_page import page_of
from mutation_survivors import explained, survivors_in

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "mutation.json"
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
# Of exit codes of a worker, as mutmut has them; no test at all counts as survived.
SURVIVED, NO_TESTS = 0, 33
TIMEOUTS = (24, 36, 152, -24, -9)


@dataclass(frozen=True)
class Part:
    """Modules, and the tests that are meant to notice a change of them.

    Args:
        name: of the part.
        modules: files under hf_ess.
        tests: files under tests.
        digits: only mutants whose number ends in one of these are tried; all if empty.
        without: words of tests that are left out, since they are slow and repeat others.
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
            "hub/test_card_notes.py",
            "hub/test_front_matter.py",
            "hub/test_model_index_entry.py",
        ),
        digits="7",
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
        ("spectra/test_certified.py", "reliability/test_stress_matrices.py"),
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


def open_survivors(part: Part, folder: Path) -> list[str]:
    """Mutants that survived in the folder and are not explained."""
    survivors = gathered(part, folder)["survivors"]
    return [one["mutant"] for one in survivors if not one["reason"]]


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


def gathered(part: Part, folder: Path) -> dict[str, Any]:
    """Counts per module, and what survived."""
    modules, found = [], []
    for module in part.modules:
        meta = folder / "mutants" / "hf_ess" / f"{module}.meta"
        codes: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"]
        tried = {name: code for name, code in codes.items() if code is not None}
        survived = [name for name, code in tried.items() if code in (SURVIVED, NO_TESTS)]
        survivors = explained(survivors_in(folder, survived))
        modules.append(
            {
                "module": f"hf_ess/{module}",
                "mutants": len(codes),
                "tried": len(tried),
                "killed": len(tried) - len(survived),
                "timeouts": sum(code in TIMEOUTS for code in tried.values()),
                "survived": len(survived),
                "explained": sum(bool(one["reason"]) for one in survivors),
            }
        )
        found += survivors
    return {"part": part.name, "digits": part.digits, "modules": modules, "survivors": found}


def record(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The parts with what they were measured with; parts not measured now stay as they were."""
    old = json.loads(RESULTS.read_text(encoding="utf-8"))["parts"] if RESULTS.exists() else []
    every = {part["part"]: part for part in [*old, *parts]}
    return {
        "command": "python benchmarks/mutation_testing.py",
        "versions": {
            "mutmut": version("mutmut"),
            "python": platform.python_version(),
            "torch": version("torch").split("+")[0],
        },
        "parts": [every[part.name] for part in PARTS if part.name in every],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs parts, or only gathers what was run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="names of parts; all of them by default")
    parser.add_argument("--gather", action="store_true", help="run nothing, gather again")
    parser.add_argument(
        "--survivors", action="store_true", help="only try again what survived unexplained"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="where to work, and to go on")
    parser.add_argument(
        "--minutes", type=float, help="for a part; what was tried until then counts"
    )
    given = parser.parse_args(arguments)
    for part in PARTS:
        if given.parts and part.name not in given.parts:
            continue
        folder = folder_of(part, given.work)
        if not given.gather:
            chosen = [f"*__mutmut_*[{part.digits}]"] if part.digits else []
            if given.survivors:
                chosen = open_survivors(part, folder)
            prepared(part, folder)
            if chosen or not given.survivors:
                run(part, folder, chosen, given.minutes and 60 * given.minutes)
        result = record([gathered(part, folder)])
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page_of(result), encoding="utf-8")
        print(f"{part.name}: {PAGE}")


if __name__ == "__main__":
    main()
