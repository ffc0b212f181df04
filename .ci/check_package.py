"""Builds the sdist and, from it, the wheel; installs the wheel elsewhere and uses it there.

    python .ci/check_package.py [--dist FOLDER]

What is installed are the wheel and its dependencies in the versions of constraints.txt, in a new
virtual environment; what is run runs in an empty folder, where nothing of the checkout is found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hf_ess", "model_adapters")
# Tracked by git, and of no use to who builds from an sdist.
REPOSITORY_ONLY = (".gitignore", ".github/")
MODEL = "mqar-gla"
SPACE_FILES = (
    "from hf_ess.space.repository import space_files; "
    "files = space_files(); print(len(files), 'app.py' in files, 'hf_ess/py.typed' in files)"
)
WHERE = "import hf_ess, model_adapters; print(hf_ess.__file__); print(model_adapters.__file__)"


def main() -> None:
    """Checks everything; ends with a status other than 0 and a word on what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where both are built")
    folder: Path = parser.parse_args().dist
    sdist, wheel = _built(folder.resolve())
    twine = (sys.executable, "-m", "twine", "check", "--strict")
    _timed("metadata and README", _run, *twine, sdist, wheel)
    tracked = _tracked()
    _check_contents(sdist, _sdist_names(sdist), tracked)
    inside = [name for name in tracked if name.split("/")[0] in PACKAGES]
    _check_contents(wheel, _wheel_names(wheel), inside)
    _check_wheel_holds_no_more(wheel)
    with tempfile.TemporaryDirectory(prefix="hf-ess-package-") as elsewhere:
        binaries = _timed("installing", _installed, wheel, Path(elsewhere))
        empty = Path(elsewhere, "empty")
        empty.mkdir()
        _timed("using", _used, binaries, empty)
    print(f"{wheel.name} and {sdist.name} are whole, install alone, and measure.")


def _built(folder: Path) -> tuple[Path, Path]:
    for old in (*folder.glob("*.tar.gz"), *folder.glob("*.whl")):
        old.unlink()
    # Without a choice, `build` makes the wheel from the sdist rather than from the checkout.
    _timed("building", _run, sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def _tracked() -> list[str]:
    listed = _run("git", "-C", ROOT, "ls-files", "-z").split("\0")
    names = [name for name in listed if name and (ROOT / name).is_file()]
    return [name for name in names if not name.startswith(REPOSITORY_ONLY)]


def _sdist_names(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def _wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _check_contents(archive: Path, names: set[str], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        sys.exit(f"{archive.name} lacks {len(missing)} files of the repository: {missing[:20]}")


def _check_wheel_holds_no_more(wheel: Path) -> None:
    """Nothing but the two packages, the Space's files, and metadata with the licence."""
    names = _wheel_names(wheel)
    stem = "-".join(wheel.name.split("-")[:2])
    allowed = (*(f"{package}/" for package in PACKAGES), f"{stem}.dist-info/", f"{stem}.data/")
    others = [name for name in names if not name.startswith(allowed)]
    if others:
        sys.exit(f"{wheel.name} holds what is no part of the package: {others[:20]}")
    licence = f"{stem}.dist-info/licenses/LICENSE"
    for name in (licence, "hf_ess/py.typed", "model_adapters/py.typed"):
        if name not in names:
            sys.exit(f"{wheel.name} lacks {name}.")


def _installed(wheel: Path, elsewhere: Path) -> Path:
    environment = elsewhere / "environment"
    _run(sys.executable, "-m", "venv", environment)
    binaries = environment / "bin"
    pip = (binaries / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    constraints = ROOT / "constraints.txt"
    _run(*pip, "install", "--constraint", constraints, wheel, cwd=elsewhere)
    _run(*pip, "check", cwd=elsewhere)
    return binaries


def _used(binaries: Path, empty: Path) -> None:
    def command(*arguments: object) -> str:
        return _run(binaries / "hf-ess", *arguments, cwd=empty)

    python = binaries / "python"
    for place in _run(python, "-c", WHERE, cwd=empty).split():
        if binaries.parent not in Path(place).parents:
            sys.exit(f"The checkout was imported instead of the wheel: {place}")
    facts: dict[str, Any] = json.loads(command("env", "--format", "json"))
    print(f"hf_ess {facts['hf-ess']}, torch {facts['torch']}, transformers {facts['transformers']}")
    adapters = json.loads(command("adapters", "--format", "json"))
    if not adapters:
        sys.exit("hf-ess adapters lists nothing.")
    _check_measured(command("analyze", MODEL, "--format", "json"))
    print("the Space's files:", _run(python, "-c", SPACE_FILES, cwd=empty).strip())
    left = sorted(path.name for path in empty.iterdir())
    if left:
        sys.exit(f"The commands left files behind: {left}")


def _check_measured(printed: str) -> None:
    layers = json.loads(printed)["layers"]
    if not layers or not all(layer["verified"] for layer in layers):
        sys.exit(f"{MODEL} is not measured: {printed[:2000]}")
    print(f"{MODEL}: {len(layers)} layers verified")


def _run(*command: object, cwd: Path = ROOT) -> str:
    """Stdout of a command, which finds neither the checkout nor the settings of this shell."""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = list(map(str, command))
    ended = subprocess.run(
        words, cwd=cwd, env=surroundings, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        sys.exit(f"{' '.join(words)}\nended with {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def _timed(what: str, function: Any, *arguments: object) -> Any:
    start = time.perf_counter()
    result = function(*arguments)
    print(f"{what}: {time.perf_counter() - start:.0f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
