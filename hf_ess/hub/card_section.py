"""The part of a model card that a report fills: a section in Markdown, an entry of model-index.

Names of models and layers, reasons and warnings come from elsewhere: they are escaped wherever
they stand, so that they stay words. The same report gives the same text, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from hf_ess.errors import ReportError
from hf_ess.hub.measured_facts import measured_facts, texts_in_words
from hf_ess.hub.repeat_command import hub_id_of, repeat_command, settings_of
from hf_ess.plain_text import printable
from hf_ess.report import ESSReport, aggregates
from hf_ess.report.cells import markdown_cell, markdown_table
from hf_ess.report.names import ENTROPY, Metric
from hf_ess.report.plots import curve_metric
from hf_ess.report.publication import published
from hf_ess.report.tables import (
    ABSENT,
    Column,
    flag_notes,
    layer_columns,
    layer_notes,
    model_columns,
    number,
    share,
)
from hf_ess.report.text import counted

HEADING = "## Effective state-size"
DOCUMENTATION = "https://pypi.org/project/hf-ess/"
PAPER = "https://arxiv.org/abs/2504.19561"
SOURCE = f"""\
Measured with [hf_ess]({DOCUMENTATION}); the metric is from \
[Parnichkun et al., ICML 2025]({PAPER})."""
MOST_NAMED = 8
SIGNIFICANT = 6


def card_section(
    report: ESSReport, *, repo_id: str | None = None, image_folder: str = "ess"
) -> str:
    """What a model card says of a report, in the Markdown of GitHub and the Hub.

    Headline numbers, what they do not cover, a table of the metrics, a plot, and folded: every
    layer, how it was measured, the command that repeats it. No text, no path of this machine
    and no time is in it.

    Args:
        report: need not be `published`; what must not be published is left out here too.
        repo_id: the repository of the card, which the command names if the model was local.
        image_folder: where the plots of `ESSReport.plot_all` lie, relative to the card.

    Example:
        >>> import numpy as np
        >>> from hf_ess.report import ESSReport, SampleInfo
        >>> report = ESSReport(
        ...     layers=[], positions=np.array([1]), tolerances=(0.1,),
        ...     samples=[SampleInfo(length=2)],
        ... )
        >>> print(card_section(report, repo_id="user/model")[:60])
        ## Effective state-size
        <BLANKLINE>
        No layer of this model could be ver
    """
    shown = published(report)
    try:
        measured = len(shown.verified_layers)
    except ReportError:
        measured = 0
    blocks = [HEADING, f"{_headline(shown, measured)} {_coverage(shown, measured)}"]
    blocks += _reservations(shown)
    if measured:
        blocks.append(_table(model_columns(shown)))
        blocks += _listed(flag_notes(shown))
        blocks.append(_picture(shown, image_folder))
    blocks += _folded("Every layer", [_table(layer_columns(shown)), *_listed(layer_notes(shown))])
    facts = [list(fact) for fact in measured_facts(shown)]
    command = f"```console\n$ {repeat_command(shown, repo_id=repo_id)}\n```"
    warnings = _listed([f"Warning: {warning}" for warning in shown.warnings])
    how = [markdown_table(["what", "how"], facts, [False, False]).rstrip(), *warnings, command]
    blocks += [*_folded("How it was measured, and how to repeat it", how), SOURCE]
    return "\n\n".join(blocks) + "\n"


def model_index_entry(report: ESSReport, *, repo_id: str | None = None) -> dict[str, Any] | None:
    """The headline metrics as one entry of the Hub's `model-index`, in plain types of JSON.

    None where no layer is verified, and where the analysis is incomplete: an average over the
    layers that were done first is not one of the model.

    Args:
        report: what was measured.
        repo_id: its last component is the name of the entry.
    """
    shown = published(report)
    try:
        averages = {metric: shown.average_ess(metric) for metric in shown.metrics}
    except ReportError:
        return None
    if not shown.complete:
        return None
    metrics = [
        _metric(shown, metric, "average", "average {} per channel", value)
        for metric, value in averages.items()
    ]
    used = shown.utilization()
    metrics.append(_metric(shown, ENTROPY, "utilization", "utilization, {} over capacity", used))
    name = repo_id or hub_id_of(shown) or str(shown.provenance.get("model") or "model")
    return {
        "name": printable(name.rsplit("/", 1)[-1]),
        "results": [
            {
                "task": {"type": "text-generation"},
                "dataset": {"type": "text", "name": _dataset_name(shown)},
                "metrics": [metric for metric in metrics if metric is not None],
                "source": {"name": "hf_ess", "url": DOCUMENTATION},
            }
        ],
    }


def _headline(report: ESSReport, measured: int) -> str:
    if not measured:
        return "No layer of this model could be verified, so that there is no number to report."
    label = _label(report, ENTROPY)
    widest = aggregates.widest_half_width(report.layers)
    certified = f", certified to within {share(widest)}" if widest > 0 else ""
    sentence = (
        f"On {texts_in_words(report)}, the layers of this model carry on average "
        f"**{number(report.average_ess())}** dimensions of state per channel from earlier tokens "
        f"to later ones ({label}{certified})"
    )
    used = report.utilization()
    return f"{sentence}." if math.isnan(used) else f"{sentence}: **{share(used)}** of what they " \
        "could hold."  # fmt: skip


def _coverage(report: ESSReport, measured: int) -> str:
    """Of how many layers the numbers are, and which ones are missing."""
    found = len(report.layers) + len(report.unsupported)
    what = "Jacobian" if report.scope == "jacobian" else "operator"
    unverified = [layer.label for layer in report.layers if not layer.verified]
    unsupported = [f"{layer.name} ({layer.mixer})" for layer in report.unsupported]
    if not unverified and not unsupported:
        whose = f"all {found} layers were" if found != 1 else "the one layer was"
        return f"The {what}{'s' if found != 1 else ''} of {whose} verified against the model."
    missing = [
        f"{reason}: {_some(names)}"
        for reason, names in (("not verified", unverified), ("not supported", unsupported))
        if names
    ]
    return (
        f"The {what}s of {measured} of {counted(found, 'layer')} were verified against the model, "
        f"and only those count; {'; '.join(missing)}."
    )


def _reservations(report: ESSReport) -> Iterator[str]:
    if not report.complete:
        reason = markdown_cell(report.incomplete_reason)
        yield f"**INCOMPLETE** ({reason}): the numbers are those of the layers that were done."
    asked = settings_of(report).get("layers")
    if isinstance(asked, list):
        chosen = _some([str(layer) for layer in asked])
        yield f"Only some layers of the model were chosen to be measured: {chosen}."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(markdown_cell(name) for name in names[:MOST_NAMED])
    left = len(names) - MOST_NAMED
    return f"{shown} and {left} more" if left > 0 else shown


def _table(columns: Sequence[Column]) -> str:
    """Every column that has a number in any row."""
    used = [x for x in columns if not x.cells or any(cell != ABSENT for cell in x.cells)]
    header = [x.header.replace("-\n", "").replace("\n", " ") for x in used]
    rows = [list(row) for row in zip(*(x.cells for x in used), strict=True)]
    return markdown_table(header, rows, [x.justify_right for x in used]).rstrip()


def _listed(lines: Sequence[str]) -> list[str]:
    """A list as one block, no block where there is nothing to list."""
    return ["\n".join(f"- {markdown_cell(line)}" for line in lines)] if lines else []


def _folded(summary: str, blocks: Sequence[str]) -> list[str]:
    return [f"<details>\n<summary>{summary}</summary>", *blocks, "</details>"]


def _picture(report: ESSReport, folder: str) -> str:
    curve = len(report.positions) > 1
    words = _curve_in_words(report) if curve else _profile_in_words(report)
    kind = "positions" if curve else "profile"
    return f"![{markdown_cell(words)}]({quote(f'{folder}/{kind}.png')})"


def _curve_in_words(report: ESSReport) -> str:
    metric: Metric = curve_metric(report)
    totals = report.total_ess_by_position(metric)
    lowest, highest = (int(pick(totals)) for pick in (np.nanargmin, np.nanargmax))
    return (
        f"Curve of the total {report.metric_label(metric)} per layer by position: lowest "
        f"{number(totals[lowest])} at position {report.positions[lowest]}, highest "
        f"{number(totals[highest])} at position {report.positions[highest]}."
    )


def _profile_in_words(report: ESSReport) -> str:
    layers = report.verified_layers
    means = [aggregates.mean_of(layer.entropy_ess) for layer in layers]
    lowest, highest = int(np.argmin(means)), int(np.argmax(means))
    return (
        f"Average {report.metric_label(ENTROPY)} per channel of each layer: lowest "
        f"{number(means[lowest])} in layer {layers[lowest].label}, highest "
        f"{number(means[highest])} in layer {layers[highest].label}."
    )


def _within(report: ESSReport) -> str:
    chosen = isinstance(settings_of(report).get("layers"), list)
    left_out = sum(not layer.verified for layer in report.layers) + len(report.unsupported)
    if not chosen and not left_out:
        return ""
    kind = "chosen " if chosen else ""
    found = len(report.layers) + len(report.unsupported)
    return f", over {len(report.verified_layers)} of {found} {kind}layers"


def _label(report: ESSReport, metric: Metric) -> str:
    """The name of a metric; a derivative is no operator, and not to be taken for one."""
    label = report.metric_label(metric)
    return f"{label} of the Jacobian" if report.scope == "jacobian" else label


def _metric(
    report: ESSReport, metric: Metric, kind: str, name: str, value: float
) -> dict[str, Any] | None:
    if not math.isfinite(value):
        return None
    column = report.metric_column(metric) + ("_jacobian" if report.scope == "jacobian" else "")
    return {
        "type": f"{kind}_{column}",
        "name": name.format(_label(report, metric)) + _within(report),
        "value": float(f"{value:.{SIGNIFICANT}g}"),
    }


def _dataset_name(report: ESSReport) -> str:
    digests = sorted({sample.text_sha256 for sample in report.samples if sample.text_sha256})
    tokens = counted(sum(sample.length for sample in report.samples), "token")
    if not digests:
        return f"token ids, {tokens}"
    listed = ", ".join(f"{digest[:8]}..." for digest in digests[:MOST_NAMED])
    left = len(digests) - MOST_NAMED
    more = f" and {left} more" if left > 0 else ""
    texts = "text" if len(report.samples) == 1 else f"{len(report.samples)} texts"
    return f"{texts}, SHA-256 {listed}{more}, {tokens}"
