"""Trained models on texts with other numbers of pairs than the hardest they were trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_ess.lab.paper.grid_rows import ATTENTION, grid_rows
from hf_ess.lab.paper.recall_grid import OTHER_PAIRS, recall_grid
from hf_ess.lab.paper.runs import after_last_step, columns_of_layers
from hf_ess.lab.probing import Probe
from hf_ess.lab.results import RunResult
from hf_ess.lab.sweep import folder_of
from hf_ess.lab.sweep_points import points_of
from hf_ess.lab.testing import tested
from hf_ess.synthetics import Task

if TYPE_CHECKING:
    import pandas as pd

    from hf_ess.lab.paper.work import Work

PAIRS = "pairs"
SHARED = "recall-other-pairs"


def rows_of_all_pairs(work: Work) -> pd.DataFrame:
    """Rows of `grid_rows` after the last step, and the same models on texts of other pairs.

    Raises:
        HfEssError: as `Work.trained` and `Work.pieces`.
    """
    import pandas as pd

    trained = after_last_step(grid_rows(work))
    others = OTHER_PAIRS[work.scale]
    if not others:
        return trained
    runs = dict.fromkeys(trained["run"])
    folders = {name: folder for name, folder in _folders(work).items() if name in runs}
    pieces = work.pieces(
        measured_on,
        {name: {"run": str(folder), PAIRS: list(others)} for name, folder in folders.items()},
        shared_as=SHARED,
    )
    # Of layers nothing is taken over: what could not be verified on other texts has no ESS there.
    shared = trained.drop(columns=columns_of_layers(trained)).drop_duplicates("run")
    of_runs = {row["run"]: row for row in shared.to_dict("records")}
    other = pd.DataFrame({**of_runs[name], **row} for name in runs for row in pieces[name])
    # What counts for attention is where it is measured, and that is the same.
    of_attention = other["featurizer"] == ATTENTION
    sizes = other["run"].map(trained.groupby("run")["state_size"].first())
    other["state_size"] = other["state_size"].where(~of_attention, sizes).astype(float)
    return pd.concat([trained, other], ignore_index=True)


def measured_on(run: str, pairs: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each number of pairs and layer: accuracy and ESS as a training measures them.

    Args:
        run: folder of a finished run.
        pairs: of the texts.
    """
    result = RunResult.load(Path(run))
    model, rows = result.model(), []
    for number in pairs:
        arguments = {**result.config.task.arguments, PAIRS: number}
        config = replace(result.config, task=Task(result.config.task.name, arguments), cycle={})
        loss, right = tested(model, config.task.test_texts(config.test_samples), config.batch_size)
        scores = {PAIRS: number, "accuracy": right, "test_loss": loss}
        probe = Probe(model, config)
        rows += [{**scores, **layer} for layer in probe.layers(probe.first)]
    return rows


def _folders(work: Work) -> dict[str, Path]:
    """Of all runs of the grid, by name."""
    return {
        point.name: folder_of(work.folder_of(trainings), point)
        for trainings in recall_grid(work.scale)
        for point in points_of(trainings.base, trainings.axes)
    }
