"""Looks the installed packages up in a database of known vulnerabilities: `make audit`.

pip-audit asks PyPI, or with `--service osv` the database of osv.dev. Where neither is reached
nothing is known, and that is no success: pip-audit itself says of packages that its database does
not have that nothing was found.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass

OURS = "hf-ess"
FOUND, UNKNOWN = 1, 2
UNREACHED = (
    "The database of vulnerabilities was not reached: nothing was audited.\n"
    "Likely causes: there is no network, or a mirror of PyPI that does not pass it on.\n"
    "What to do: run `make audit` where there is network, or try: .ci/audit.py --service osv"
)


@dataclass(frozen=True)
class Verdict:
    """What came of it, in words, and the exit status that says so."""

    words: str
    status: int


def verdict_of(answer: str) -> Verdict:
    """What the JSON of pip-audit means; anything else means that it could not ask.

    Args:
        answer: what pip-audit wrote on stdout.
    """
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Verdict(UNREACHED, UNKNOWN)
    others = [package for package in packages if package["name"] != OURS]
    asked = [package for package in others if "skip_reason" not in package]
    if not asked:
        return Verdict(UNREACHED, UNKNOWN)
    lines = [
        f"not audited: {package['name']} ({package['skip_reason']})"
        for package in others
        if "skip_reason" in package
    ]
    found = [(package, flaw) for package in asked for flaw in package["vulns"]]
    lines += [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package, flaw in found
    ]
    lines.append(f"{len(asked)} packages audited, {len(found)} known vulnerabilities")
    return Verdict("\n".join(lines), FOUND if found else 0)


def main() -> None:
    """Audits the environment of this Python, and exits with what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", default="pypi", choices=["pypi", "osv"])
    service = parser.parse_args().service
    options = ["--format", "json", "--progress-spinner", "off", "--vulnerability-service", service]
    asked = subprocess.run(
        [sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True, check=False
    )
    verdict = verdict_of(asked.stdout)
    print(verdict.words)
    sys.exit(verdict.status)


if __name__ == "__main__":
    main()
