"""An experiment of a second, whose verdict follows from rows that a test can make up."""

from __future__ import annotations

import os
import time
from pathlib import Path

from matplotlib.figure import Figure

from hf_ess.lab.paper.experiment import Experiment, Finding, Trainings, Verdict
from hf_ess.lab.paper.runs import after_last_step, by_run


def squared(number, folder):
    """A piece; leaves a mark each time it is computed."""
    with open(os.path.join(folder, f"computed-{number}"), "a") as file:
        file.write(f"{os.getpid()} {os.environ.get('RANK')}\n")
    return {"square": number**2}


def where_from(source):
    """A piece that says what it was made of."""
    return source


LONG = 120


def sleeping(folder, how):
    """A piece that takes long, or raises, or takes its process along, once another sleeps."""
    mark = Path(folder) / "sleeps"
    if how == "sleeps":
        mark.write_text(str(os.getpid()))
        time.sleep(LONG)
    while not mark.exists() or not mark.read_text():
        time.sleep(0.05)
    if how == "raises":
        raise ZeroDivisionError
    os._exit(3)


class Tiny(Experiment):
    """Two trainings of two steps, and three squares."""

    name = "tiny"
    title = "Squares are squares"
    source = "nowhere"
    claim = "9 is the largest."
    setting = "None."

    def __init__(self, marks=None):
        self.marks = marks

    def trainings(self, scale):
        task = {"name": "multi_query_recall", "length": 8, "pairs": 2, "vocabulary": 8}
        model = {"mixers": ["GLA", "SA"], "hidden_size": 8, "num_attention_heads": 2}
        base = {"task": task, "model": model, "steps": 2, "batch_size": 4, "test_samples": 8}
        return (Trainings("tiny", base | {"device": "cpu"}, {"seed": [0, 1]}, {"pairs": 2}),)

    def measure(self, work):
        table = by_run(after_last_step(work.table(*self.trainings(work.scale))))
        pieces = {f"of {n}": {"number": n, "folder": str(self.marks)} for n in (1, 2, 3)}
        squares = work.pieces(squared, pieces) if self.marks else {"of 3": {"square": 9}}
        largest = max(square["square"] for square in squares.values())
        return table[["seed", "pairs", "accuracy", "entropy_ess"]].assign(largest=largest)

    def judge(self, rows):
        right = bool((rows["largest"] == 9).all())
        verdict = Verdict.reproduced if right else Verdict.contradicted
        return Finding(verdict, f"The largest is {rows['largest'].max()}.", {"All": rows})

    def draw(self, rows):
        figure = Figure()
        figure.subplots().plot(rows["seed"], rows["largest"])
        return figure
