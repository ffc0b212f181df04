"""The oldest versions of other packages that hf_ess works with; older ones are refused by name."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from hf_ess.errors import MissingDependencyError

# As in pyproject.toml, which pip obeys, and constraints-oldest.txt, which `make oldest` tests.
OLDEST = {"torch": "2.6", "transformers": "5.18", "huggingface_hub": "2.3"}
_RELEASE = re.compile(r"\d+(?:\.\d+)*")


def require_supported(*packages: str) -> None:
    """Refuses packages that are older than what hf_ess was tested with.

    A package that says no version (a build of one's own) is let through.

    Args:
        packages: names of `OLDEST`.

    Raises:
        MissingDependencyError: one of them is older; the message says which and how to go on.

    Example:
        >>> require_supported("torch", "transformers")
    """
    for package in packages:
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        if _release(found) < _release(OLDEST[package]):
            raise MissingDependencyError(
                f"{package} {found} is installed; hf_ess needs {OLDEST[package]} or newer.",
                causes=[
                    "hf_ess was installed without its dependencies (--no-deps)",
                    f"{package} was put back to {found} after hf_ess was installed",
                ],
                fix=f"pip install --upgrade '{package}>={OLDEST[package]}'",
            )


def _release(text: str) -> tuple[int, ...]:
    """`(5, 18)` of "5.18.0.dev0": what comes before a release is let through."""
    found = _RELEASE.match(text)
    numbers = tuple(map(int, found[0].split("."))) if found else ()
    while numbers and not numbers[-1]:
        numbers = numbers[:-1]
    return numbers
