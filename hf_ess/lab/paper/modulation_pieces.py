"""What is measured of one language model, as rows: dips and curves of a text, perplexities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any

import torch

import hf_ess
from hf_ess.analysis.named_models import model_and_tokenizer
from hf_ess.errors import HfEssError
from hf_ess.lab.paper.tiny_language import tiny_language
from hf_ess.lab.paper.work import FAILED
from hf_ess.lab.training import device_named
from hf_ess.modulation import ModulatedText, Modulation
from hf_ess.modulation.prompts import EOS, NEWLINE, NONE, PERIOD, TOKEN
from hf_ess.report.names import metric_label

TINY = "tiny-random-llama"
SEPARATORS = (EOS, PERIOD, NEWLINE, NONE)
# What separates texts in the training of many models whose tokenizers call another token eos.
END_OF_TEXT = "<|endoftext|>"
TOLERANCES = (1e-1, 1e-3, 1e-5)
METRICS = [metric_label(one, relative=False, window=None) for one in TOLERANCES]
RECALL_TEXT = "example-chronicle.txt"
KIND, DIPS, CURVE, PERPLEXITY, FAILURE = "kind", "dips", "curve", "perplexity", "failure"
POSITION, IN_SEPARATOR, DEPTHS, REASON = "position", "in_separator", "depths", "reason"
LEFT_OUT = "layers_left_out"
Rows = list[dict[str, Any]]


def modulation_rows(model: str, text: str, curves: bool, device: str) -> Rows | dict[str, str]:
    """Dips of total ESS at the separators of one text, and the curves by position if asked for.

    Args:
        model: name or folder; `TINY` for a model that is built here.
        text: of `hf_ess.modulation.texts`.
        curves: rows of the curves too.
        device: "cpu", or "auto" for a GPU if there is one.

    Returns:
        Rows; or why there are none, where the model cannot be loaded or measured.

    Source: Parnichkun et al., ICML 2025, section 5.3 and appendix D.8.
    """

    def rows() -> Rows:
        loaded, tokenizer = _loaded(model, device)
        result = hf_ess.measure_modulation(
            loaded,
            tokenizer,
            texts=(text,),
            separators=_separators(tokenizer),
            tolerances=TOLERANCES,
            progress=False,
        )
        found = list(_dips(result))
        if curves:
            found += [row for run in result.runs for row in _curve(run)]
        return found

    return _or_reason(rows)


def recall_rows(model: str, characters: int | None, device: str) -> Rows | dict[str, str]:
    """Perplexity on recall tokens, on others and on all, of a text in which names return.

    Args:
        model: as `modulation_rows`.
        characters: how much of the text, all by default.
        device: as `modulation_rows`.

    Returns:
        As `modulation_rows`.

    Source: Arora et al., ICLR 2024, section 3; Parnichkun et al., ICML 2025, figure 9b.
    """

    def rows() -> Rows:
        loaded, tokenizer = _loaded(model, device)
        words = files("hf_ess").joinpath("data", RECALL_TEXT).read_text("utf-8")[:characters]
        result = hf_ess.recall_perplexity(loaded, words, tokenizer, progress=False)
        return [
            {
                KIND: PERPLEXITY,
                "tokens": group.name,
                "count": group.tokens,
                "perplexity": group.perplexity,
                "standard_error": group.perplexity_error,
            }
            for group in (result.all, result.recall, result.others)
        ]

    return _or_reason(rows)


def _or_reason(rows: Callable[[], Rows]) -> Rows | dict[str, str]:
    """A model that cannot be had, or does not fit, leaves the others as they are."""
    try:
        return rows()
    except HfEssError as error:
        return {FAILED: f"{type(error).__name__}: {error.what}"}
    except (MemoryError, torch.OutOfMemoryError) as error:
        return {FAILED: f"{type(error).__name__}: it does not fit into memory"}


def _loaded(model: str, device: str) -> tuple[Any, Any]:
    if model == TINY:
        return tiny_language()
    return model_and_tokenizer(model, None, device=str(device_named(device)))


def _separators(tokenizer: Any) -> Sequence[str]:
    """Those of all models, and the end-of-text token where eos is another one."""
    known = END_OF_TEXT in getattr(tokenizer, "get_vocab", dict)()
    if known and getattr(tokenizer, "eos_token", None) != END_OF_TEXT:
        return (f"{TOKEN}{END_OF_TEXT}", *SEPARATORS)
    return SEPARATORS


def _dips(result: Modulation) -> Iterator[dict[str, Any]]:
    by_run = {(run.text, run.separator): run for run in result.runs}
    table = result.to_pandas().drop(columns="model")
    for row, metric in zip(
        (dict(zip(table.columns, cells, strict=True)) for cells in table.itertuples(index=False)),
        [metric for _ in result.runs for metric in result.metrics],
        strict=True,
    ):
        run = by_run[row["text"], row["separator"]]
        depths = " ".join(f"{depth:.4f}" for depth in run.dips[metric].depths)
        yield {KIND: DIPS, **row, DEPTHS: depths, LEFT_OUT: len(run.left_out)}


def _curve(run: ModulatedText) -> Iterator[dict[str, Any]]:
    marked = {cut for start, stop in run.spans for cut in range(start, max(stop, start + 1) + 1)}
    for position in range(1, len(run.tokens)):
        yield {
            KIND: CURVE,
            "text": run.text,
            "separator": run.separator,
            POSITION: position,
            IN_SEPARATOR: position in marked,
            **{
                label: float(run.curves[tolerance][position])
                for label, tolerance in zip(METRICS, TOLERANCES, strict=True)
            },
        }
