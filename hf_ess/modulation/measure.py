"""`hf_ess.measure_modulation`: a model and texts in, dips at separators out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_ess.analysis import analyze
from hf_ess.analysis.analyze import DEFAULT_TOLERANCES
from hf_ess.analysis.named_models import model_and_tokenizer
from hf_ess.arguments import check_whole
from hf_ess.errors import InvalidInputError, InvalidTypeError
from hf_ess.modulation.dips import find_dips, surroundings_for
from hf_ess.modulation.prompts import EOS, NEWLINE, NONE, PERIOD, check_separators, separated
from hf_ess.modulation.prompts import SeparatedText as Prompt
from hf_ess.modulation.result import Floats, ModulatedText, Modulation
from hf_ess.modulation.texts import passages_of
from hf_ess.report import ESSReport, aggregates
from hf_ess.report.names import Metric
from hf_ess.report.tables import model_flag

DEFAULT_SEPARATORS = (EOS, PERIOD, NEWLINE, NONE)
Texts = Sequence[str] | Mapping[str, Sequence[str]]


def measure_modulation(
    model: nn.Module | str | os.PathLike[str],
    tokenizer: Any | None = None,
    *,
    texts: Texts = ("short",),
    separators: Sequence[str] = DEFAULT_SEPARATORS,
    tolerances: Sequence[float] = DEFAULT_TOLERANCES,
    window: int | tuple[int, int] | None = None,
    layers: Sequence[int | str] | int | str | None = None,
    draws: int = 2000,
    seed: int = 0,
    progress: bool = True,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Modulation:
    """Measures whether a model lets its state go where one passage ends and the next begins.

    Each text runs once for each separator. Total ESS at the cuts of a separator (before it and
    after each of its tokens) is compared with its surroundings, and that fall with the same at cuts
    elsewhere in the text that are as far from the ends. All positions are measured.

    Source: Parnichkun et al., "Quantifying Memory Utilization with Effective State-Size", ICML
    2025, section 5.3 and appendix D.8 (total ESS by position around separators, summed over
    layers). The depths, their test, and the text after the last separator are ours.

    Args:
        model: a loaded model, or a Hub id, a local folder, or the path of a `.gguf` file.
        tokenizer: needed if the model is given as an object; a fast one.
        texts: names of the texts that come with hf_ess ("short", "long", "code", "shots"), or
            your own: from names to passages, of which the last should be long.
        separators: "eos", the tokenizer's own token; "period"; "newline"; "none"; "closing", the
            last character of each passage itself; or "token:<|endoftext|>" for another token.
        tolerances: thresholds of the tolerance-ESS, absolute.
        window: `w` or `(f, p)` for windowed ESS, free of boundary effects (ours).
        layers: indices or names of the layers to measure, all by default.
        draws: of the random choices behind p-values and intervals.
        seed: of these choices.
        progress: show a progress bar on stderr.
        dtype: of a model given by name; the checkpoint's own by default.
        device: where a model given by name goes.
        revision: branch, tag or commit of a Hub id.
        trust_remote_code: run Python code that comes with a checkpoint; off unless asked for.

    Returns:
        The result: `.summary()`, `.to_pandas()`, `.plot()`, `.save()`.

    Raises:
        InvalidInputError: unknown text or separator, a tokenizer without end-of-text token, a text
            that is too short; all but the last is found before anything runs.
        InvalidTypeError: an argument of a wrong type, or no fast tokenizer.
        ReportError: no layer could be verified.
        HfEssError: as in `hf_ess.analyze`.

    Example:
        >>> import hf_ess
        >>> hf_ess.measure_modulation("model", separators=["comma"])
        Traceback (most recent call last):
            ...
        hf_ess.errors.InvalidInputError: Unknown separator 'comma'.
        What to do: Choose among eos, period, newline, none, closing, or token:<text of a token>.
    """
    chosen = check_separators(separators)
    passages = _passages(texts)
    check_whole("draws", draws, least=1)
    model, tokenizer = model_and_tokenizer(
        model,
        tokenizer,
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    prompts = [
        separated(name, parts, separator, tokenizer)
        for name, parts in passages.items()
        for separator in chosen
    ]
    for prompt in prompts:
        surroundings_for(prompt.shortest_passage)
    runs, reports = [], []
    for prompt in prompts:
        report = analyze(
            model,
            torch.tensor([prompt.ids]),
            tokenizer,
            positions="all",
            tolerances=tolerances,
            window=window,
            layers=layers,
            progress=progress,
        )
        runs.append(_run(prompt, report, draws, seed))
        reports.append(report)
    first = reports[0]
    return Modulation(
        model=str(first.provenance.get("model") or type(model).__name__),
        runs=tuple(runs),
        tolerances=first.tolerances,
        window=first.window,
        provenance={**first.provenance, "draws": draws, "seed": seed},
        warnings=tuple(dict.fromkeys(line for report in reports for line in report.warnings)),
    )


def _passages(texts: Texts) -> dict[str, Sequence[str]]:
    if isinstance(texts, Mapping):
        found = dict(texts)
        if any(isinstance(parts, str) for parts in found.values()):
            raise InvalidTypeError("A text of your own is a sequence of passages, not one string.")
    elif isinstance(texts, str):
        raise InvalidTypeError(f"texts must be a sequence, got {texts!r}.", fix=f"({texts!r},)")
    else:
        found = {name: passages_of(name) for name in texts}
    if not found:
        raise InvalidInputError("There is no text to measure.", fix="Name one, such as 'short'.")
    return found


def _run(prompt: Prompt, report: ESSReport, draws: int, seed: int) -> ModulatedText:
    around = surroundings_for(prompt.shortest_passage)
    used = report.verified_layers
    grids = [layer.attainable_by_group for layer in used]
    attainable = _by_position(report, aggregates.total_by_position(used, grids, "sum"))
    metrics = report.metrics
    curves: dict[Metric, Floats] = {
        metric: _by_position(report, report.total_ess_by_position(metric, layers="sum"))
        for metric in metrics
    }
    left_out = [layer.name for layer in report.layers if not layer.verified]
    return ModulatedText(
        text=prompt.name,
        separator=prompt.separator,
        tokens=tuple(report.samples[0].tokens or ()),
        spans=prompt.spans,
        around=around,
        curves=curves,
        attainable=attainable,
        dips={
            metric: find_dips(curve, attainable, prompt.spans, around, draws=draws, seed=seed)
            for metric, curve in curves.items()
        },
        flags={metric: model_flag(report, metric) for metric in metrics},
        layers=tuple(layer.name for layer in used),
        left_out=(*left_out, *(layer.name for layer in report.unsupported)),
    )


def _by_position(report: ESSReport, values: Floats) -> Floats:
    """`[L + 1]`, NaN at both ends and wherever nothing was measured."""
    placed = np.full(report.samples[0].length + 1, np.nan)
    placed[report.positions] = values
    return placed
