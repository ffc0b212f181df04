"""How much of each room the tests run: a table, a file, and a floor.

Run it on what `coverage json` wrote: `make coverage`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ALL = "all"
COUNTED = {
    "lines": ("covered_lines", "num_statements"),
    "branches": ("covered_branches", "num_branches"),
}


def main() -> None:
    """Prints the table; ends with status 1 where all rooms together lie below the floor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path, help="what `coverage json` wrote")
    parser.add_argument("--floor", type=float, default=0.0, help="percent, of lines and branches")
    parser.add_argument("--out", type=Path, help="where the table is kept as JSON")
    options = parser.parse_args()
    rooms = by_room(json.loads(options.measured.read_text(encoding="utf-8")))
    print(table(rooms))
    if options.out:
        options.out.write_text(json.dumps({"rooms": rooms}, indent=1) + "\n", encoding="utf-8")
    below = [kind for kind in COUNTED if rooms[ALL][kind]["percent"] < options.floor]
    if below:
        sys.exit(f"The tests run less than {options.floor} % of the {' and '.join(below)}.")


def by_room(measured: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Lines and branches that ran, of how many, and in percent, by room and for all of them.

    Args:
        measured: the report of `coverage json`, measured with branches.
    """
    counts: dict[str, dict[str, list[int]]] = defaultdict(
        lambda: {kind: [0, 0] for kind in COUNTED}
    )
    # Tests also run a copy of the package elsewhere, as a Space has it: its paths are absolute.
    here = {path: file for path, file in measured["files"].items() if not Path(path).is_absolute()}
    for path, file in here.items():
        for room in (room_of(path), ALL):
            for kind, names in COUNTED.items():
                for place, name in enumerate(names):
                    counts[room][kind][place] += file["summary"][name]
    order = sorted(counts, key=lambda room: (room == ALL, room))
    return {room: {kind: _share(*counts[room][kind]) for kind in COUNTED} for room in order}


def room_of(path: str) -> str:
    """`hf_ess/spectra` for every file below it; `hf_ess` for the files that lie in no folder."""
    folders = Path(path).parts[:-1]
    return "/".join(folders[:2])


def table(rooms: dict[str, dict[str, dict[str, float]]]) -> str:
    """The rooms as lines of text."""
    header = f"{'room':<20} {'lines':>7} {'run':>7} {'branches':>9} {'run':>7}"
    rows = [
        f"{room:<20} {kinds['lines']['of']:>7} {kinds['lines']['percent']:>6.1f}%"
        f" {kinds['branches']['of']:>9} {kinds['branches']['percent']:>6.1f}%"
        for room, kinds in rooms.items()
    ]
    return "\n".join([header, *rows])


def _share(ran: int, of: int) -> dict[str, float]:
    return {"ran": ran, "of": of, "percent": round(100 * ran / of, 1) if of else 100.0}


if __name__ == "__main__":
    main()
