"""State modulation: whether language models let their state go at separators."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.lab.paper.experiment import Experiment, Finding, Scale
from hf_ess.lab.paper.modulation_finding import ends_of_texts, find, model_names
from hf_ess.lab.paper.modulation_pieces import (
    CURVE,
    DIPS,
    FAILURE,
    IN_SEPARATOR,
    KIND,
    METRICS,
    PERPLEXITY,
    POSITION,
    REASON,
    TINY,
    Rows,
    modulation_rows,
    recall_rows,
)
from hf_ess.lab.paper.work import FAILED
from hf_ess.modulation.plot import curve_panel
from hf_ess.modulation.prompts import PERIOD
from hf_ess.report.drawing import panel_grid
from hf_ess.report.local_paths import without_local_paths
from hf_ess.report.text import shortened
from hf_ess.report.token_labels import drawable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hf_ess.lab.paper.work import Work

MODELS: dict[Scale, tuple[str, ...]] = {
    Scale.minute: (TINY,),
    Scale.small: ("HuggingFaceTB/SmolLM2-135M-Instruct",),
    Scale.paper: (
        "state-spaces/mamba-2.8b-hf",
        "tiiuae/falcon-mamba-7b",
        "EleutherAI/pythia-2.8b",
        "microsoft/phi-2",
        "microsoft/Phi-3-mini-4k-instruct",
        "mistralai/Mistral-7B-v0.1",
        "mistral-community/Mistral-7B-v0.2",
        "meta-llama/Meta-Llama-3-8B-Instruct",
    ),
}
# The curves of the first are kept and drawn.
TEXTS = {Scale.minute: ("short",), Scale.small: ("short", "long"), Scale.paper: ("short", "long")}
KINDS = (FAILURE, DIPS, PERPLEXITY, CURVE)
# Of the text for perplexities, at the minute scale.
FEW_CHARACTERS = 2000


class StateModulation(Experiment):
    """Total ESS of language models at separators of unrelated texts."""

    on_models = True
    name = "modulation"
    title = "Language models let their state go at end-of-text tokens"
    source = "section 5.3, appendices D.8 and E.5"
    claim = (
        "Total ESS by position dips at end-of-text tokens between unrelated sentences, in eight "
        "models of 2.7 to 8 billion parameters, at tolerances 1e-1, 1e-3 and 1e-5; Falcon Mamba's "
        "dip shrinks a lot with a full stop in their place. Among models of a billion parameters "
        "that were trained alike modulation is SA > GLA > WLA > LA, and follows bigram-recall "
        "perplexity."
    )
    setting = (
        "One model of 135 million parameters, SmolLM2-135M-Instruct, since those of the paper need "
        "a GPU. Four short sentences, as in the paper, and six passages of about 80 tokens; a long "
        "passage follows the last separator, so that the end of the text is no dip. Dips are "
        "tested against cuts elsewhere that are as far from the ends. Its tokenizer calls "
        "<|im_end|>, the end of a turn, eos; <|endoftext|> is measured besides, and is what counts."
    )

    def measure(self, work: Work) -> pd.DataFrame:
        import pandas as pd

        models = _by_shown_name(work.models or MODELS[work.scale])
        texts = TEXTS[work.scale]
        shared = {"device": "auto" if work.scale is Scale.paper else "cpu"}
        dips = {
            _piece(source, text): {
                "model": source,
                "text": text,
                "curves": text == texts[0],
                **shared,
            }
            for source in models.values()
            for text in texts
        }
        few = FEW_CHARACTERS if work.scale is Scale.minute else None
        recall = {
            _piece(source, "recall"): {"model": source, "characters": few, **shared}
            for source in models.values()
        }
        found = work.pieces(modulation_rows, dips) | work.pieces(recall_rows, recall)
        rows = [
            row
            for name, source in models.items()
            for piece in (*texts, "recall")
            for row in _named(name, piece, found[_piece(source, piece)])
        ]
        _check_any(rows)
        # Columns of curves come last, whatever was measured first.
        return pd.DataFrame([row for kind in KINDS for row in rows if row[KIND] == kind])

    def judge(self, rows: pd.DataFrame) -> Finding:
        return find(rows)

    def draw(self, rows: pd.DataFrame) -> Figure:
        from matplotlib.ticker import EngFormatter

        curves = rows[rows[KIND] == CURVE]
        drawn = list(_panel_rows(rows))
        names = ", ".join(dict.fromkeys(_short_name(model) for model, _ in drawn))
        figure, panels = panel_grid(
            drawable(shortened(f"{names}: total ESS by position, separators shaded", 110)),
            (11, 1.5 * len(drawn) + 1.2),
            (len(drawn), len(METRICS)),
        )
        for line, (model, separator) in zip(panels, drawn, strict=True):
            own = curves[(curves["model"] == model) & (curves["separator"] == separator)]
            for axes, metric in zip(line, METRICS, strict=True):
                padded = np.concatenate([[np.nan], own[metric].to_numpy(float), [np.nan]])
                curve_panel(axes, padded, _spans(own), f"{separator}: {metric}")
                axes.set_ylim(0, 1.08 * curves.loc[curves["model"] == model, metric].max() or 1)
                axes.yaxis.set_major_formatter(EngFormatter(sep=""))
                axes.tick_params(labelsize=8)
            if names != _short_name(model):
                line[0].set_ylabel(_short_name(model), fontsize=8).set_parse_math(False)
        for axes in panels[-1]:
            axes.set_xlabel("position i (tokens)")
        figure.supylabel("total ESS, sum over channels and layers", fontsize=9)
        return figure


def _by_shown_name(sources: Sequence[str]) -> dict[str, str]:
    """Models by what they are called in tables: folders of this machine by their last part.

    Raises:
        InvalidInputError: two have one name.
    """
    names: dict[str, str] = {}
    for source in dict.fromkeys(sources):
        here = os.path.exists(source)
        name = Path(source).resolve().name if here else without_local_paths(source)
        if name in names:
            raise InvalidInputError(
                f"Two of the models are called {name!r}.", fix="Rename one of the folders."
            )
        names[name] = source
    return names


def _piece(source: str, text: str) -> str:
    return f"{re.sub(r'[^0-9A-Za-z.]+', '-', source).strip('-.')}-{text}"


def _named(model: str, piece: str, found: Rows | dict[str, str]) -> Rows:
    """Rows with the name of the model; one that says why there are none."""
    if isinstance(found, dict):
        return [
            {
                KIND: FAILURE,
                "model": model,
                "text": piece,
                REASON: without_local_paths(found[FAILED]),
            }
        ]
    return [{KIND: row[KIND], "model": model, **row} for row in found]


def _check_any(rows: Rows) -> None:
    """Raises if no text of any model was measured.

    Raises:
        ReportError: says why for each.
    """
    if any(row[KIND] == DIPS for row in rows):
        return
    raise ReportError(
        "No model could be measured.",
        causes=sorted({f"{row['model']}: {row[REASON]}" for row in rows if REASON in row}),
        fix="Name models that are here: hf-ess lab reproduce modulation --model FOLDER.",
    )


def _panel_rows(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """All separators of a single model; of several the end of text and the full stop."""
    models = [name for name in model_names(rows) if (rows["model"] == name).any()]
    curves = rows[rows[KIND] == CURVE]
    ends = ends_of_texts(rows)
    for model in models:
        separators = curves.loc[curves["model"] == model, "separator"].unique()
        kept = separators if len(models) == 1 else (ends[model], PERIOD)
        yield from ((model, one) for one in separators if one in kept)


def _short_name(model: str) -> str:
    return drawable(shortened(model.split("/")[-1], 24))


def _spans(curve: pd.DataFrame) -> list[tuple[int, int]]:
    """First and last position of each separator."""
    marked = curve.loc[curve[IN_SEPARATOR].eq(True), POSITION].to_numpy(int)
    groups = np.split(marked, np.flatnonzero(np.diff(marked) > 1) + 1)
    return [(int(group[0]), int(group[-1])) for group in groups if len(group)]
