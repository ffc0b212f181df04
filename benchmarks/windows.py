"""What windowed spectra cost at short and long texts: time per position, and memory.

One softmax head of random features, a run of neighbouring positions. Forming the rows of M grows
with the length, since the normaliser of a row takes all its keys; the spectra of the windows
must not. Times are of all processors together, which a busy machine changes little.

    python benchmarks/windows.py [--lengths 1024 4096 16384] [--windows 64 128 256] [--json]
    python benchmarks/windows.py --analyze 8192      # a whole analysis of a tiny random model
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from dataclasses import asdict, dataclass

import torch
from measuring import PeakMemory, cost_of

from hf_ess.operators import SoftmaxAttentionOperator
from hf_ess.spectra import Request
from hf_ess.spectra.windowed import WindowedSolver, windowed_block_singular_values

HEAD_WIDTH = 64
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Result:
    """Milliseconds per position of one head, and the growth of memory in MiB."""

    length: int
    window: int
    positions: int
    rows_ms: float
    spectra_ms: float
    together_ms: float
    peak_memory: float
    matrix_memory: float


@dataclass(frozen=True)
class Analysis:
    """One run of `analyze`; seconds of all processors, memory in MiB."""

    tokens: int
    layers: int
    heads: int
    window: int
    positions: int
    processor_seconds: float
    peak_memory: float
    matrix_memory: float
    verified: bool


def problem(length: int, window: int, positions: int) -> tuple[SoftmaxAttentionOperator, Request]:
    """A head of random features, and neighbouring positions around its middle."""
    generator = torch.Generator().manual_seed(length)
    query, key = torch.randn(2, 1, 1, length, HEAD_WIDTH, generator=generator)
    first = (length - positions) // 2
    request = Request(tuple(range(first, first + positions)), (window, window))
    return SoftmaxAttentionOperator(query, key), request


def peak_memory(length: int, window: int, positions: int, threads: int) -> float:
    """Growth of a process that computes the spectra once; call it in a fresh one."""
    torch.set_num_threads(threads)
    windowed_block_singular_values(*problem(256, 16, 8))
    operator, request = problem(length, window, positions)
    with PeakMemory() as memory:
        windowed_block_singular_values(operator, request)
    return memory.mebibytes


def measure(length: int, window: int, positions: int, repetitions: int) -> Result:
    """Rows and spectra apart, then both as the package does them."""
    operator, request = problem(length, window, positions)
    first = request.positions[0]
    rows = slice(first, min(length, first + positions + window - 1))
    columns = slice(max(0, first - window), rows.stop)
    formed = operator.to_dense_block(None, rows, columns)

    def form() -> None:
        operator.to_dense_block(None, rows, columns)

    def decompose() -> None:
        WindowedSolver(operator, slice(0, 1), request).add(formed, rows.start, columns.start)

    def together() -> None:
        windowed_block_singular_values(operator, request)

    decompose()
    arguments = length, window, positions, torch.get_num_threads()
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        peak = fresh.apply(peak_memory, arguments)
    costs = cost_of(form, decompose, together, repetitions=repetitions)
    rows_ms, spectra_ms, together_ms = (
        round(1e3 * cost.processor_seconds / positions, 4) for cost in costs
    )
    return Result(
        length=length,
        window=window,
        positions=positions,
        rows_ms=rows_ms,
        spectra_ms=spectra_ms,
        together_ms=together_ms,
        peak_memory=peak,
        matrix_memory=length**2 * 8 / MEBIBYTE,
    )


def growth(results: list[Result]) -> dict[int, float]:
    """For each window, what the spectra of the longest text cost over those of the shortest."""
    by_window: dict[int, list[Result]] = {}
    for result in sorted(results, key=lambda result: result.length):
        by_window.setdefault(result.window, []).append(result)
    return {
        window: round(some[-1].spectra_ms / some[0].spectra_ms, 2)
        for window, some in by_window.items()
    }


def analysis(tokens: int, window: int) -> Analysis:
    """`hf_ess.analyze` of a tiny Llama with random weights on random tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    import hf_ess

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=64,
        max_position_embeddings=tokens,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 64, (1, tokens))
    reports = []

    def work() -> None:
        reports.append(hf_ess.analyze(model, ids, window=window, progress=False))

    hf_ess.analyze(model, ids[:, :512], window=window, progress=False)
    with PeakMemory() as memory:
        (cost,) = cost_of(work, repetitions=1)
    (report,) = reports
    return Analysis(
        tokens=tokens,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        window=window,
        positions=len(report.positions),
        processor_seconds=round(cost.processor_seconds, 2),
        peak_memory=memory.mebibytes,
        matrix_memory=tokens**2 * 8 / MEBIBYTE,
        verified=all(layer.verified for layer in report.layers),
    )


def table(results: list[Result]) -> str:
    """The results as text."""
    lines = ["ms per position:   rows  spectra  together   peak MiB   M alone MiB"]
    lines.extend(
        f"L={r.length:<6} w={r.window:<5}{r.rows_ms:>8.3f}{r.spectra_ms:>9.3f}"
        f"{r.together_ms:>10.3f}{r.peak_memory:>11.1f}{r.matrix_memory:>14.0f}"
        for r in results
    )
    lines.extend(
        f"w={window}: spectra of the longest text cost {ratio:.2f} of those of the shortest"
        for window, ratio in growth(results).items()
    )
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--windows", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--positions", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--analyze", type=int, metavar="TOKENS", help="measure a whole analysis")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.analyze:
        result = asdict(analysis(options.analyze, options.windows[0]))
        shown = json.dumps(result, indent=2)
        print(shown if options.json else "\n".join(f"{k:20}{v}" for k, v in result.items()))
        return
    results = [
        measure(length, window, options.positions, options.repetitions)
        for window in options.windows
        for length in options.lengths
    ]
    if options.json:
        measured = [asdict(result) for result in results]
        print(json.dumps({"results": measured, "growth": growth(results)}, indent=2))
    else:
        print(table(results))


if __name__ == "__main__":
    main()
