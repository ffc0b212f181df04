"""Accuracy of trained models with smaller states: by plan, by operators, by magnitude, at random.

    python benchmarks/truncation.py mqar-gla mqar-mamba FOLDER [--sizes 2 4 8] [--refit] [--json]

Takes shipped checkpoints by name, or folders of `hf-ess lab train` that say how they were trained.
Layers get states of each size, by three ways to choose channels; "plan" shares the same numbers
of state between layers by a report, and chooses by operators. Texts for the choice are new ones of
the task, accuracy is that on its test texts. Errors of all blocks of some texts are compared with
the certificates by dense SVD. At random: mean over seeds, with the standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

import hf_ess
from hf_ess.progress import progress_bar
from hf_ess.reduce import ReductionPlan, Truncation
from hf_ess.synthetics import SyntheticForCausalLM, TrainedCheckpoint, accuracy
from model_adapters import LayerOperator

TEXTS, CHECKED, CALIBRATION_SEED = 16, 2, 2**31
# Fine enough that budgets can be met closely.
TOLERANCES = tuple(10.0**-step for step in torch.arange(-2, 6.25, 0.25).tolist())
WAYS = ("operator", "magnitude", "random")


@dataclass
class Row:
    """One way to choose at one size: accuracy, the errors of layers, and what the check found."""

    checkpoint: str
    way: str
    size: int
    state_numbers: int
    accuracy: float
    standard_error: float
    relative_error: float
    blocks: int
    violations: int
    tightest: float


@dataclass
class Check:
    """Blocks whose error was compared with a certificate."""

    blocks: int = 0
    violations: int = 0
    tightest: float = 0.0

    def add(self, errors: Tensor, certified: Tensor) -> None:
        """Spectral errors and their bounds, of as many blocks."""
        self.blocks += errors.numel()
        self.violations += int((errors > certified).sum())
        known = certified > 0
        if known.any():
            self.tightest = max(self.tightest, float((errors / certified)[known].max()))


@torch.no_grad()
def right(model: SyntheticForCausalLM, checkpoint: TrainedCheckpoint) -> float:
    """Accuracy on the test texts."""
    ids, labels = checkpoint.texts()
    return accuracy(model(input_ids=ids).logits, labels)


@torch.no_grad()
def _operators(module: torch.nn.Module, **inputs: Tensor) -> list[LayerOperator]:
    found: list[LayerOperator] = []
    with hf_ess.record_operators(module, found.append):
        module(**inputs)
    return found


@torch.no_grad()
def _inputs_of_mixers(model: SyntheticForCausalLM, ids: Tensor) -> Iterator[Tensor]:
    given: list[Tensor] = []
    handles = [
        layer.mixer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
        for layer in model.layers
    ]
    try:
        model(input_ids=ids)
    finally:
        for handle in handles:
            handle.remove()
    yield from given


def checked(model: SyntheticForCausalLM, done: Truncation, ids: Tensor, check: Check) -> None:
    """Compares each block of each layer, at its own inputs, with the certificate, by dense SVD."""
    whole, given = _operators(model, input_ids=ids), list(_inputs_of_mixers(model, ids))
    for layer in done.layers:
        mixer = done.model.layers[layer.index].mixer
        (cut,) = _operators(mixer, hidden_states=given[layer.index])
        difference = whole[layer.index].operator.to_dense() - cut.operator.to_dense()
        certified = torch.from_numpy(layer.error)[: len(ids)]
        for i in range(1, ids.shape[1]):
            check.add(torch.linalg.matrix_norm(difference[..., i:, :i], ord=2), certified)


class Measured:
    """A checkpoint, the texts that channels are chosen on, and rows about it."""

    def __init__(self, source: str, *, texts: int, rescale: bool, refit: bool = False) -> None:
        self.checkpoint = TrainedCheckpoint.read(source)
        self.model = self.checkpoint.model()
        self.ids = self.checkpoint.task.texts(texts, seed=CALIBRATION_SEED).input_ids
        self.making_up = {"rescale": rescale, "refit": refit}
        self.report = hf_ess.analyze(
            self.model, self.ids, tolerances=TOLERANCES, batch_size=texts, progress=False
        )
        self.states = {
            layer.name: layer
            for layer in self.report.layers
            if layer.verified and layer.state_size is not None
        }
        self.present = max(layer.state_size or 0 for layer in self.states.values())

    def row(
        self, way: str, size: int, wanted: ReductionPlan | dict[int | str, int], seeds: int
    ) -> Row:
        """Truncates once, or once for each seed, and checks every block."""
        check, scores, errors = Check(), [], []
        for seed in range(seeds if way == "random" else 1):
            done = hf_ess.reduce.truncate(
                self.model,
                wanted,
                self.ids,
                choose="operator" if way == "plan" else way,
                seed=seed,
                progress=False,
                **self.making_up,
            )
            scores.append(right(done.model, self.checkpoint))
            errors.append(max(layer.relative_error for layer in done.layers))
            checked(self.model, done, self.ids[:CHECKED], check)
        spread = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 0.0
        numbers = sum(self.states[layer.name].channels * layer.size for layer in done.layers)
        return Row(
            checkpoint=self.checkpoint.name,
            way=way,
            size=size,
            state_numbers=numbers,
            accuracy=statistics.mean(scores),
            standard_error=spread,
            relative_error=statistics.mean(errors),
            **asdict(check),
        )

    def rows(self, sizes: list[int], seeds: int) -> Iterator[Row]:
        """All ways at each size, and what a plan makes of the same numbers."""
        bar = progress_bar(4 * len(sizes), self.checkpoint.name, enabled=True, unit="row")
        for size in sizes:
            wanted = {x.name: min(size, x.state_size or size) for x in self.states.values()}
            for way in WAYS:
                yield self.row(way, size, wanted, seeds)
                bar.update(1)
            budget = sum(x.channels * wanted[x.name] for x in self.states.values())
            shared = hf_ess.reduce.plan(self.report, state_budget=budget)
            yield self.row("plan", size, shared, seeds)
            bar.update(1)
        bar.close()


def default_sizes(present: int) -> list[int]:
    """Halves of the present size, even ones."""
    sizes = [present // 2**step for step in range(1, 8)]
    return [size for size in sizes if size > 1 and size % 2 == 0]


def table(results: list[dict[str, object]]) -> str:
    """The results as text."""
    lines = []
    for result in results:
        lines.append(
            f"\n{result['checkpoint']}: accuracy {result['accuracy']:.3f} with a state of "
            f"{result['state_size']}"
        )
        lines.append(f"{'size':>5}{'by':>11}{'numbers':>9}{'accuracy':>18}{'error':>8}  blocks")
        for row in result["rows"]:  # type: ignore[attr-defined]
            spread = f" +- {row['standard_error']:.3f}" if row["way"] == "random" else ""
            lines.append(
                f"{row['size']:>5}{row['way']:>11}{row['state_numbers']:>9}"
                f"{row['accuracy']:>9.3f}{spread:9}{row['relative_error']:>8.3f}  "
                f"{row['violations']} of {row['blocks']} above their bound"
            )
    return "\n".join(lines)


def main() -> None:
    """Measures all checkpoints and prints a row for each size and way to choose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", help="halves of the present one by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=TEXTS, help="that channels are chosen on")
    parser.add_argument("--no-rescale", action="store_true")
    parser.add_argument("--refit", action="store_true", help="fit C anew for what stays")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for source in options.checkpoints:
        one = Measured(
            source, texts=options.texts, rescale=not options.no_rescale, refit=options.refit
        )
        sizes = options.sizes or default_sizes(one.present)
        results.append(
            {
                "checkpoint": one.checkpoint.name,
                "state_size": one.present,
                "accuracy": right(one.model, one.checkpoint),
                "rows": [asdict(row) for row in one.rows(sizes, options.seeds)],
            }
        )
    print(json.dumps(results, indent=2) if options.json else table(results))


if __name__ == "__main__":
    main()
