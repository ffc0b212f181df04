"""Speed of plain float64 products, the yardstick of the cost models, in GFlop/s.

python benchmarks/products.py [--sizes 128 1024] [--threads 1] [--repetitions 5] [--json]
"""

from __future__ import annotations

import argparse
import json
from functools import partial

import torch
from measuring import cost_of

LEAST_FLOPS = 4e8


def speed(size: int, repetitions: int) -> float:
    """GFlop/s of the product of two square matrices, many of them if they are small."""
    count = max(1, round(LEAST_FLOPS / (2 * size**3)))
    left, right = torch.rand(2, count, size, size, dtype=torch.float64)
    out = torch.empty_like(left)
    work = partial(torch.bmm, left, right, out=out)
    work()
    (cost,) = cost_of(work, repetitions=repetitions)
    return round(count * 2e-9 * size**3 / cost.seconds, 1)


def main() -> None:
    """Runs the benchmark and prints one table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    speeds = {str(size): speed(size, options.repetitions) for size in options.sizes}
    if options.json:
        print(json.dumps({"threads": options.threads, "gflops": speeds}, indent=2))
        return
    for size, gflops in speeds.items():
        print(f"{size:>6} {gflops:>8.1f} GFlop/s")


if __name__ == "__main__":
    main()
