"""The files of the Space as it is pushed: the thin app, what it installs, and the sources."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from hf_ess.errors import InvalidInputError, OutputPathError
from hf_ess.shipped import SHIPPED

DISTRIBUTION = "hf-ess"
EXTRA = "space"
SOURCES = ("hf_ess", "model_adapters")
PAGE = "README.md"
REQUIREMENTS = "requirements.txt"
SHARED = Path("share", "hf_ess", "space")


def space_files(package: str | None = None) -> dict[str, bytes]:
    """Every file of the Space by its path there.

    Args:
        package: what pip installs in the Space, `hf-ess==0.1.0` or `hf-ess @ git+https://...`;
            None lets the sources that run here go along instead.

    Raises:
        InvalidInputError: the package is no requirement that pip understands.
        OutputPathError: the files of the Space did not come with this installation.

    Example:
        >>> files = space_files("hf-ess==0.1.0")
        >>> print(files["requirements.txt"].decode(), end="")
        hf-ess[space]==0.1.0
        >>> "app.py" in files, "hf_ess/__init__.py" in files
        (True, False)
    """
    folder = template_folder()
    files = {str(path.relative_to(folder).as_posix()): path for path in _files(folder)}
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents[REQUIREMENTS] = "".join(f"{line}\n" for line in _requirements(package)).encode()
    return contents | (_sources() if package is None else {})


def is_ours(path: str) -> bool:
    """Whether a path of a Space lies where the sources go: there nobody else's files live."""
    return path.split("/", 1)[0] in SOURCES and "/" in path


def template_folder() -> Path:
    """`spaces/` of the repository, or what the installed package brought of it.

    Raises:
        OutputPathError: it is not here.
    """
    for folder in _candidates():
        if (folder / "app.py").is_file():
            return folder
    raise OutputPathError(
        "The files of the Space are not here.",
        causes=["hf_ess was copied by hand, without its data files"],
        fix="Install it with pip install hf-ess, or run from a clone of the repository.",
    )


def _candidates() -> Iterator[Path]:
    yield Path(__file__).parents[2] / "spaces"
    try:
        recorded = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        recorded = []
    wanted = (*SHARED.parts, "app.py")
    yield from (
        Path(str(file.locate())).parent for file in recorded if file.parts[-len(wanted) :] == wanted
    )
    yield Path(sys.prefix) / SHARED


def _requirements(package: str | None) -> list[str]:
    from packaging.requirements import InvalidRequirement, Requirement

    if package is None:
        return _dependencies()
    try:
        wanted = Requirement(package)
    except InvalidRequirement as error:
        raise InvalidInputError(
            f"{package!r} is nothing that pip installs: {error}",
            fix="Give hf-ess==0.1.0, or hf-ess @ git+https://...",
        ) from error
    wanted.extras.add(EXTRA)
    return [str(wanted)]


def _dependencies() -> list[str]:
    """What the sources need, the page's extra included, as their package says."""
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in _installed().requires or []]
    always = [each for each in needed if "extra" not in str(each.marker)]
    of_the_page = [
        each
        for each in needed
        if each not in always and each.marker and each.marker.evaluate({"extra": EXTRA})
    ]
    for each in of_the_page:
        each.marker = None
    return sorted({str(each) for each in (*always, *of_the_page)})


def _installed() -> metadata.Distribution:
    """The installed package; a folder of metadata beside the sources may be an older one."""
    for found in metadata.distributions(name=DISTRIBUTION):
        if EXTRA in (found.metadata.get_all("Provides-Extra") or []):
            return found
    raise OutputPathError(
        "What the sources need is not known here.",
        causes=["hf_ess is not installed", "what is installed is older than the sources"],
        fix="Install it (pip install -e .), or push a package with --package.",
    )


def _sources() -> dict[str, bytes]:
    """Both packages, without the trained checkpoints: the page takes models that read words."""
    root = Path(__file__).parents[2]
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for package in SOURCES
        for path in _files(root / package)
        if SHIPPED not in path.parents
    }


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    ]
