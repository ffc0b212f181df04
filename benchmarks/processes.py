"""Speed-up of an analysis shared by two processes over one, for several numbers of texts.

    python benchmarks/processes.py [--samples 1 2 4 8] [--tokens 128] [--processes 2]
                                   [--repetitions 3] [--model PATH] [--json]

Starts itself with torchrun, one thread in each process. Process 0 alone and all processes
together alternate; the others sleep while it works alone. Medians are reported, and as a second
speed-up the processor time of process 0 alone over that of the busiest process, which a busy
machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, fields

import torch
from measuring import Cost, cost_of
from smollm2 import smollm2_path
from torch import distributed

import hf_ess
from hf_ess.launch import launched_processes
from model_adapters.loading import load


@dataclass(frozen=True)
class Result:
    """Seconds are medians."""

    samples: int
    tokens: int
    processes: int
    alone_seconds: float
    shared_seconds: float
    speed_up: float
    speed_up_in_processor_time: float
    equal_reports: bool


def measure(model: torch.nn.Module, samples: int, tokens: int, repetitions: int) -> Result:
    """Alternates analyses by process 0 and by all; every process calls this."""
    rank, processes = launched_processes()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(100, 1000, (samples, tokens), generator=generator)
    prints: dict[str, str] = {}

    def alone() -> None:
        if rank == 0:
            report = hf_ess.analyze(model, ids, progress=False, distributed=False)
            prints["alone"] = report.fingerprint()
        distributed.barrier()

    def shared() -> None:
        prints["shared"] = hf_ess.analyze(model, ids, progress=False).fingerprint()
        distributed.barrier()

    costs = cost_of(alone, shared, repetitions=repetitions)
    everyone: list[list[Cost]] = [[] for _ in range(processes)]
    distributed.all_gather_object(everyone, costs)
    busiest = max(cost.processor_seconds for _, cost in everyone)
    one, all_together = costs
    return Result(
        samples=samples,
        tokens=tokens,
        processes=processes,
        alone_seconds=round(one.seconds, 2),
        shared_seconds=round(all_together.seconds, 2),
        speed_up=round(one.seconds / all_together.seconds, 2),
        speed_up_in_processor_time=round(one.processor_seconds / busiest, 2),
        equal_reports=prints.get("alone") == prints["shared"],
    )


def start(processes: int) -> int:
    """Runs this script once in each process; the status of the launcher."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "--nproc_per_node", str(processes), *sys.argv], env=environment, check=False
    ).returncode


def main() -> None:
    """Runs the benchmark and prints one table or one JSON list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="SmolLM2 from the package by default")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rank, processes = launched_processes()
    if processes == 1:
        sys.exit(start(options.processes))
    torch.set_num_threads(1)
    model = load(options.model or str(smollm2_path()), dtype=torch.float32).model
    hf_ess.analyze(model, torch.arange(100, 120)[None], progress=False)
    results = [
        measure(model, samples, options.tokens, options.repetitions) for samples in options.samples
    ]
    if rank > 0:
        return
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return
    print("  ".join(field.name.replace("_", " ") for field in fields(Result)))
    for result in results:
        cells = asdict(result).items()
        print("  ".join(f"{value!s:>{len(name)}s}" for name, value in cells))


if __name__ == "__main__":
    main()
