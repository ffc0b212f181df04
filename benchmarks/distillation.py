"""Layers of trained models distilled into students of smaller states, one layer at a time.

    python benchmarks/distillation.py FOLDER .. [--sizes 8 4 2] [--steps 200 600] [--plot F.png]

Takes shipped checkpoints by name, or folders that `hf_ess.lab.as_checkpoint` made. Each layer with
a state is distilled into a new layer, and into what truncation leaves of it. Texts to train on are
new ones of the task; accuracy is that of the whole model on its test texts. The ESS of a teacher is
the smallest over texts and channels in the middle of the text (Parnichkun et al., appendix D.6).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hf_ess.lab.paper.distilled_layers import Teacher, smallest_ess
from hf_ess.reduce import truncate
from hf_ess.report import LayerESS

FRESH, TRUNCATED = "new", "truncated"
DRAWN = {
    "operator_error_matched": "error of the operators after their phase",
    "activation_error": "error of the outputs at the end",
    "kept": "share of the accuracy that is left",
}


@dataclass
class Row:
    """One layer at one size: errors on texts that were held out, accuracy of the whole model."""

    checkpoint: str
    layer: int
    size: int
    begins: str
    tolerance_ess: float
    entropy_ess: float
    operator_error_before: float
    operator_error_matched: float
    operator_error: float
    activation_error: float
    accuracy_before: float
    accuracy: float


def rows_of(teacher: Teacher, sizes: list[int], steps: tuple[int, int]) -> Iterator[Row]:
    """Every layer with a state at every smaller size."""
    for layer in teacher.layers:
        for size in sizes:
            if size < (layer.state_size or 0):
                yield row_of(teacher, layer, size, FRESH, steps)
                yield row_of(teacher, layer, size, TRUNCATED, steps)


def row_of(
    teacher: Teacher, layer: LayerESS, size: int, begins: str, steps: tuple[int, int]
) -> Row:
    """Distils one layer."""
    cut = truncate(teacher.model, {layer.name: size}, teacher.ids[:16], progress=False)
    student = size if begins == FRESH else cut.model.get_submodule(layer.name)
    return Row(
        checkpoint=teacher.checkpoint.name,
        layer=layer.index,
        size=size,
        begins=begins,
        **smallest_ess(layer),
        accuracy_before=teacher.accuracy(cut.model),
        **asdict(teacher.distilled(layer, student, steps)),
    )


def table(results: list[dict[str, Any]]) -> str:
    """The results as text."""
    lines = []
    for result in results:
        lines.append(f"\n{result['checkpoint']}: accuracy {result['accuracy']:.3f}")
        lines.append(
            f"{'layer':>5}{'ESS(0.1)':>9}{'entropy':>9}{'size':>6}{'begins':>11}"
            f"{'operators':>20}{'outputs':>9}{'accuracy':>10}  truncated alone"
        )
        lines += [
            f"{row['layer']:>5}{row['tolerance_ess']:>9.0f}{row['entropy_ess']:>9.2f}"
            f"{row['size']:>6}{row['begins']:>11}"
            f"{row['operator_error_before']:>10.3f} > {row['operator_error_matched']:.3f}"
            f"{row['activation_error']:>11.3f}{row['accuracy']:>10.3f}"
            f"{row['accuracy_before']:>17.3f}"
            for row in result["rows"]
        ]
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Errors of the students against the ESS of their teachers, and what accuracy is left."""
    import matplotlib.pyplot as plt

    rows = [
        row | {"kept": row["accuracy"] / result["accuracy"]}
        for result in results
        for row in result["rows"]
    ]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    for axis, (name, words) in zip(axes, DRAWN.items(), strict=True):
        for number, size in enumerate(sorted({row["size"] for row in rows}, reverse=True)):
            for begins, filled in ((FRESH, True), (TRUNCATED, False)):
                own = [row for row in rows if (row["size"], row["begins"]) == (size, begins)]
                axis.scatter(
                    [row["entropy_ess"] for row in own],
                    [row[name] for row in own],
                    marker="os^D"[number % 4],
                    edgecolors=f"C{number}",
                    facecolors=f"C{number}" if filled else "none",
                    label=f"state {size}, begins {begins}",
                )
        axis.set(title=words, xlabel="entropy-ESS of the teacher's layer")
        axis.set_ylim(0, 1.05 if name == "kept" else None)
        axis.set_xlim(1, None)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Distils every layer of all checkpoints and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 4, 2])
    parser.add_argument("--steps", type=int, nargs=2, default=[200, 600])
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results, began = [], time.process_time()
    for source in options.checkpoints:
        teacher = Teacher(source, options.texts)
        rows = [asdict(row) for row in rows_of(teacher, options.sizes, tuple(options.steps))]
        results.append(
            {"checkpoint": teacher.checkpoint.name, "accuracy": teacher.accuracy(), "rows": rows}
        )
    if options.plot:
        plot(results, options.plot)
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        print(table(results))
        print(f"\n{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
