"""Runs every benchmark of docs/performance.md, each in its own process, and keeps the results.

    python benchmarks/run_all.py                     all, about an hour on two cores
    python benchmarks/run_all.py --only attention windows
    python benchmarks/performance_page.py            writes the page from what is kept

Results go to `benchmarks/results/<processor>.json`; a run that is repeated replaces its old
result, the others stay. The file names the processor, never a host or a path.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
# Committed ratios of check_regressions.py lie beside the results.
RATIOS = RESULTS / "ratios.json"

RUNS = {
    "products": "products.py",
    "attention": "attention_spectra.py --lengths 512 1024 --heads 4 --repeats 5 --check heads",
    "attention-2048": "attention_spectra.py --lengths 2048 --heads 2 --repeats 3",
    "every-head": "attention_spectra.py --lengths 512 --heads 4 --repeats 1 --check all",
    "whole-model": "whole_model.py --tokens 512 1024",
    "recurrence": "recurrent.py speed every --baseline-channels 4 --threads 1",
    "recurrence-growth": "recurrent.py growth million",
    "falcon-layer": "recurrent.py falcon",
    "windows": "windows.py",
    "processes": "processes.py",
    "offload": "offload.py",
    "gpu": "gpu_shapes.py --device cuda",
}
NEEDS_GPU = ("gpu",)


def command_of(name: str) -> str:
    """What a reader types for a run."""
    return f"python benchmarks/{RUNS[name]}"


def machine() -> dict[str, Any]:
    """The machine in words that name nobody's."""
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    described: dict[str, Any] = {
        "processor": model[1].strip() if model else "unknown processor",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def results_file(described: dict[str, Any]) -> Path:
    """Where the results of a machine lie."""
    words = f"{described['processor']} {described['cores']} cores {described.get('gpu', '')}"
    name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return RESULTS / f"{name}.json"


def run(name: str) -> Any:
    """The output of one benchmark.

    Raises:
        subprocess.CalledProcessError: it failed.
        json.JSONDecodeError: it printed something else than JSON.
    """
    script, *arguments = RUNS[name].split()
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments, "--json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=FOLDER.parent,
    )
    return json.loads(done.stdout)


def keep(file: Path, described: dict[str, Any], name: str, output: Any) -> None:
    """Adds one result to a file, which always holds all that is done so far."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"runs": {}}
    kept["machine"] = described
    kept["runs"][name] = {
        "command": command_of(name),
        "date": described["date"],
        "output": output,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def run_some(names: Sequence[str], file: Path, described: dict[str, Any]) -> list[str]:
    """Runs benchmarks one after the other; returns the names of those that failed."""
    failed = []
    for name in names:
        print(f"{name}: {command_of(name)}", flush=True)
        try:
            keep(file, described, name, run(name))
        except (subprocess.CalledProcessError, json.JSONDecodeError) as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
    return failed


def main() -> None:
    """Runs the benchmarks that are asked for; the status is 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(RUNS), help="some of them")
    parser.add_argument("--output", type=Path, help="another file for the results")
    options = parser.parse_args()
    usual = [name for name in RUNS if name not in NEEDS_GPU or torch.cuda.is_available()]
    described = machine()
    file = options.output or results_file(described)
    failed = run_some(options.only or usual, file, described)
    print(f"results in {file.name}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
