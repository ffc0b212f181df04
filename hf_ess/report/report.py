"""The result of an analysis: labelled arrays, averages, tables, plots, save and load."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hf_ess.errors import InvalidInputError
from hf_ess.report import aggregates
from hf_ess.report.layer import LayerESS
from hf_ess.report.names import ENTROPY, Metric, metric_column, metric_label, resolve_metric
from hf_ess.report.records import SampleInfo, UnsupportedLayer, plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hf_ess.hub import PushResult

Reduction = Literal["mean", "sum"]
Level = Literal["layer", "group", "position"]
PlotKind = Literal["heatmap", "profile", "positions"]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(eq=False, kw_only=True)
class ESSReport:
    """Effective state-size of every mixer of a model, on some texts.

    Averages and totals are over verified layers only; a layer whose operator does not rebuild
    the real output is listed and never averaged in.

    A `metric` is `"entropy"` or one of `tolerances`. `layers` says how layers enter a total:
    "mean" is the definition of the paper, "sum" that of its language figures.

    Source: Parnichkun et al., "Quantifying Memory Utilization with Effective State-Size",
    ICML 2025, section 3.

    Attributes:
        layers: one `LayerESS` for every run of every mixer, in order.
        unsupported: mixers that were found and not analysed.
        positions: int64 `[P]`, the same for every layer.
        tolerances: those of the tolerance-ESS.
        samples: one `SampleInfo` for each of the B texts.
        relative: tolerances are fractions of the largest singular value (ours).
        window: None, or `[f, p]`: only the p columns before and the f rows from each position
            on were used (ours). The counts for absolute tolerances are then lower bounds.
        scope: which part of a mixer is the operator: "core", what its mixing function applies;
            "mixer", that with the convolution and gates around it; "jacobian", its derivative.
        complete: False if the analysis ended before all layers were done.
        incomplete_reason: why, empty if complete.
        provenance: model, revision, library versions, settings; values that JSON cannot hold are
            kept as text.
        warnings: what the reader has to know.
        created_at: ISO 8601 time; no part of the compared content.

    Raises:
        InvalidInputError: layers, samples, positions or tolerances do not fit together.
    """

    layers: list[LayerESS]
    positions: NDArray[np.int64]
    tolerances: tuple[float, ...]
    samples: list[SampleInfo]
    unsupported: list[UnsupportedLayer] = field(default_factory=list)
    relative: bool = False
    window: tuple[int, int] | None = None
    scope: str = "core"
    complete: bool = True
    incomplete_reason: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    created_at: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        self.positions = np.asarray(self.positions, dtype=np.int64)
        self.tolerances = tuple(float(tolerance) for tolerance in self.tolerances)
        self.window = (int(self.window[0]), int(self.window[1])) if self.window else None
        self.provenance = {str(key): plain(value) for key, value in self.provenance.items()}
        self.warnings = [str(warning) for warning in self.warnings]
        if self.complete == bool(self.incomplete_reason):
            raise InvalidInputError("A report has an incomplete_reason exactly if incomplete.")
        for layer in self.layers:
            self._check_layer(layer)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every metric of this report: `"entropy"`, then the tolerances."""
        return (ENTROPY, *self.tolerances)

    @property
    def verified_layers(self) -> list[LayerESS]:
        """The layers that enter averages.

        Raises:
            ReportError: there is none.
        """
        return aggregates.verified_layers(self.layers)

    def metric_label(self, metric: Metric) -> str:
        """How the metric is written, for example "windowed entropy-ESS, window 64x64"."""
        key = resolve_metric(metric, self.tolerances)
        return metric_label(key, relative=self.relative, window=self.window)

    def metric_column(self, metric: Metric) -> str:
        """The name of the metric in a data frame, for example "tolerance_ess_0.001"."""
        key = resolve_metric(metric, self.tolerances)
        return metric_column(key, relative=self.relative, window=self.window)

    def average_ess(self, metric: Metric = ENTROPY) -> float:
        """Mean ESS per channel over layers, channels, samples and positions.

        Raises:
            InvalidInputError: the report has no such metric.
            ReportError: no layer is verified.
        """
        return aggregates.average(self.verified_layers, self._metric(metric))

    def standard_error(self, metric: Metric = ENTROPY) -> float:
        """Standard error over samples of `average_ess`; NaN for a single sample.

        Raises:
            InvalidInputError: the report has no such metric.
            ReportError: no layer is verified.
        """
        return aggregates.standard_error(self.verified_layers, self._metric(metric))

    def total_ess(self, metric: Metric = ENTROPY, layers: Reduction = "mean") -> float:
        """Sum over the channels of a layer, mean over samples and positions, then over layers.

        Raises:
            InvalidInputError: the report has no such metric, or `layers` is unknown.
            ReportError: no layer is verified.
        """
        return aggregates.total(self.verified_layers, self._metric(metric), layers)

    def total_ess_by_position(
        self, metric: Metric = ENTROPY, layers: Reduction = "mean"
    ) -> NDArray[np.float64]:
        """`[P]`: sum over the channels of a layer, mean over samples, then over layers.

        Raises:
            InvalidInputError: the report has no such metric, or `layers` is unknown.
            ReportError: no layer is verified.
        """
        used, key = self.verified_layers, self._metric(metric)
        return aggregates.total_by_position(used, [layer.values(key) for layer in used], layers)

    def utilization(self, metric: Metric = ENTROPY) -> float:
        """Mean of ESS / TSS, the share of the capacity that is in use, between 0 and 1.

        Blocks without capacity are left out; NaN if no block has any.

        Raises:
            InvalidInputError: the report has no such metric.
            ReportError: no layer is verified.
        """
        return aggregates.utilization(self.verified_layers, self._metric(metric))

    def to_pandas(self, level: Level = "layer") -> pd.DataFrame:
        """A tidy frame with a row per layer, per group, or per layer and position.

        The values of unverified layers are NaN; their rows say why.

        Raises:
            InvalidInputError: the level is unknown.
        """
        from hf_ess.report.rows import to_pandas

        return to_pandas(self, level)

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the summary in the types of JSON; None stands for NaN."""
        from hf_ess.report.rows import to_dict

        return to_dict(self)

    def summary(self, width: int = 120) -> str:
        """The report as plain text: a row per layer, totals, unsupported mixers, warnings."""
        from hf_ess.report.tables import summary

        return summary(self, width)

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = True) -> Path:
        """Write `report.json` and `arrays.safetensors`, both or neither; returns the folder.

        Raises:
            OutputPathError: the folder cannot be written, its disk is full, or it holds a report
                and `overwrite` is off. An earlier report there is then unharmed.
        """
        from hf_ess.report.storage import save_report

        return save_report(self, folder, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ESSReport:
        """Read a saved report; needs neither torch nor the model.

        Raises:
            ReportError: a file is missing, truncated or altered, or of an unknown version.
        """
        from hf_ess.report.storage import load_report

        return load_report(folder)

    @classmethod
    def from_hub(
        cls,
        repo_id: str,
        *,
        revision: str | None = None,
        folder: str = "ess",
        repo_type: str = "model",
        token: str | None = None,
    ) -> ESSReport:
        """Read the report that `push_to_hub` published in a repository of the Hub.

        Args:
            repo_id: `user/model`.
            revision: branch, tag or commit; None for main.
            folder: where in the repository.
            repo_type: "model", "dataset" or "space".
            token: of the Hub; None for the one of `hf auth login` or HF_TOKEN.

        Raises:
            HubError: there is no such repository, revision or report, or no connection.
            ReportError: the report is damaged, or was written by a newer hf_ess.
        """
        from hf_ess.hub import report_from_hub

        return report_from_hub(
            repo_id, revision=revision, folder=folder, repo_type=repo_type, token=token
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        create_pr: bool = False,
        revision: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        include_text: bool = False,
        benchmark: tuple[str, str] | None = None,
        dry_run: bool = False,
        message: str | None = None,
        card: bool = True,
    ) -> PushResult:
        """Publish the report in the repository of its model: files, plots, a section of the card.

        One commit, or one pull request; none where all is there already. The text that was
        measured stays here unless `include_text` is on. `hf_ess.hub.push_report` says more.

        Args:
            repo_id: `user/model`.
            create_pr: propose the change by a pull request; an open one of ours is updated.
            revision: another branch than main.
            private: makes a missing repository, private or public; None makes none.
            token: of the Hub; None for the one of `hf auth login` or HF_TOKEN.
            include_text: publish the text that was measured, and its tokens, too.
            benchmark: a benchmark dataset and its task, for `.eval_results/hf_ess.yaml`.
            dry_run: read and plan, and send nothing.
            message: first line of the commit.
            card: False leaves the card alone.

        Raises:
            InvalidInputError: no repository of a model is named, or arguments do not fit together.
            HubError: the Hub refused or could not be reached, or does not take the card.
            ReportError: no layer is verified.
        """
        from hf_ess.hub import push_report

        return push_report(
            self,
            repo_id,
            create_pr=create_pr,
            revision=revision,
            private=private,
            token=token,
            include_text=include_text,
            benchmark=benchmark,
            dry_run=dry_run,
            message=message,
            card=card,
        )

    def fingerprint(self) -> str:
        """SHA-256 of the content: equal for equal measurements, whenever they were made."""
        from hf_ess.report.storage import serialize

        return str(serialize(self)[0]["content_sha256"])

    def plot(
        self,
        kind: PlotKind = "heatmap",
        path: str | os.PathLike[str] | None = None,
        metric: Metric = ENTROPY,
    ) -> Figure:
        """Draw the report; with a path also write it there (PNG, SVG or PDF by its ending).

        Args:
            kind: "heatmap", layers by positions; "profile", averages of layers with their range
                over heads; "positions", total ESS by position.
            path: of the file, None for none.
            metric: "entropy" or one of the tolerances.

        Raises:
            InvalidInputError: the kind or the metric is unknown.
            OutputPathError: the path cannot be written.
            ReportError: no layer is verified.
        """
        from hf_ess.report.plots import plot

        return plot(self, kind, path, self._metric(metric))

    def plot_all(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every kind of plot into the folder as PNG, and return the paths.

        Raises:
            OutputPathError: the folder cannot be written.
            ReportError: no layer is verified.
        """
        from hf_ess.report.plots import plot_all

        return plot_all(self, folder)

    def __repr__(self) -> str:
        verified = sum(layer.verified for layer in self.layers)
        return (
            f"ESSReport({len(self.layers)} layers, {verified} verified, {len(self.unsupported)} "
            f"unsupported, {len(self.samples)} samples, {len(self.positions)} positions)"
        )

    def _metric(self, metric: Metric) -> Metric:
        return resolve_metric(metric, self.tolerances)

    def _check_layer(self, layer: LayerESS) -> None:
        if not np.array_equal(layer.positions, self.positions):
            raise InvalidInputError(f"Layer {layer.name!r} has other positions than the report.")
        if layer.tolerances != self.tolerances:
            raise InvalidInputError(f"Layer {layer.name!r} has other tolerances than the report.")
        if layer.samples != len(self.samples):
            raise InvalidInputError(
                f"Layer {layer.name!r} has {layer.samples} samples, the report has "
                f"{len(self.samples)}."
            )
        if not layer.verified:
            return
        lengths = np.array([sample.length for sample in self.samples])
        reached = self.positions[None, :] < lengths[:, None]
        absent = np.isnan(layer.entropy_ess[:, 0])
        if (~absent & ~reached).any():
            raise InvalidInputError(
                f"Layer {layer.name!r} has values at positions beyond the end of a sample.",
                fix="Put NaN there, so that they enter no average.",
            )
        # A window may not fit everywhere; without one, a gap would silently shift the averages.
        if self.window is None and (absent & reached).any():
            raise InvalidInputError(f"Layer {layer.name!r} is verified and has NaN inside a text.")
