"""One measurement for a visitor: checked, told of layer by layer, and ended when they want."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from hf_ess.analysis import analyze
from hf_ess.analysis.analyze import DEFAULT_TOLERANCES, checked_tolerances
from hf_ess.errors import CancelledError, LimitError
from hf_ess.progress import Progress
from hf_ess.report import ESSReport
from hf_ess.space.background import BackgroundWork
from hf_ess.space.catalog import Catalog, CatalogModel
from hf_ess.space.limits import Limits
from hf_ess.space.models_in_use import ModelInUse, ModelsInUse, free_memory
from hf_ess.space.planning import Plan, plan
from hf_ess.spectra import Positions
from model_adapters.recorder import CORE
from model_adapters.recording import check_scope
from model_adapters.tokenizing import encoded

MOST_TOLERANCES = 10
WAKES_AFTER = 0.1

Stage = Literal["loading", "measuring"]


@dataclass(frozen=True)
class Request:
    """What a visitor wants measured.

    Attributes:
        model: a name from the catalogue.
        text: what the model reads.
        positions: "auto", "all", a stride, or positions.
        tolerances: of the tolerance-ESS.
        scope: "core" or "mixer".
    """

    model: str
    text: str
    positions: Positions = "auto"
    tolerances: Sequence[float] = DEFAULT_TOLERANCES
    scope: str = CORE

    def check(self, limits: Limits) -> None:
        """Refuses what can be refused without the model.

        Raises:
            InvalidInputError, InvalidTypeError: no text, or unknown words.
            LimitError: more than the limits allow.
        """
        limits.check_text(self.text)
        # Shown in the message, whatever somebody sends.
        check_scope(str(self.scope)[:40])
        if len(checked_tolerances(self.tolerances)) > MOST_TOLERANCES:
            raise LimitError(
                f"{len(self.tolerances)} tolerances are asked for; this server takes "
                f"{MOST_TOLERANCES}.",
                fix="Ask for fewer; the page counts at every other one from the spectra.",
            )


@dataclass(frozen=True)
class Step:
    """How far a measurement is.

    Attributes:
        stage: "loading" the model, or "measuring" its layers.
        done: layers measured.
        total: layers to measure, 0 while it is not known.
        layer: name of the last one.
        seconds: since the first layer began.
        remaining: seconds, at the speed measured so far; None before the first layer is done.
    """

    stage: Stage
    done: int = 0
    total: int = 0
    layer: str = ""
    seconds: float = 0.0
    remaining: float | None = None

    @classmethod
    def of(cls, progress: Progress) -> Step:
        """What an analysis tells after a layer."""
        left = progress.total - progress.done
        return cls(
            stage="measuring",
            done=progress.done,
            total=progress.total,
            layer=progress.layer,
            seconds=progress.seconds,
            remaining=progress.seconds / progress.done * left,
        )


OnStep = Callable[[Step], None]


class Measurer:
    """Measures one request at a time with the models of a catalogue.

    Args:
        catalog: the models, and the limits.
        device: where models run: the GPU where there is one, by default.
        dtype: of weights, that of the checkpoint by default.
    """

    def __init__(
        self, catalog: Catalog, *, device: str | None = None, dtype: str | None = None
    ) -> None:
        self.catalog = catalog
        self.limits = catalog.limits
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.models = ModelsInUse(self.limits.model_bytes, self.device, dtype)
        self._turn = threading.Lock()

    def measure(
        self,
        request: Request,
        on_step: OnStep | None = None,
        cancel: threading.Event | None = None,
    ) -> ESSReport:
        """The report of a request, with singular values where they fit.

        Its numbers are those of `hf_ess.analyze` with the same text, positions, tolerances and
        scope and `accuracy="exact"`. It holds arrays of numpy only, no matter where the model ran.

        Args:
            request: what to measure.
            on_step: called before the model is loaded, before the first layer, and after each.
            cancel: set it to end the measurement after the layer that runs, or once the model
                is loaded.

        Raises:
            InvalidInputError, InvalidTypeError: the request cannot be measured.
            LimitError: it is above a limit, or took longer than the limit.
            CancelledError: `cancel` was set.
            HfEssError: what `hf_ess.analyze` raises.
        """
        tell = _Teller(on_step or (lambda _: None), cancel or threading.Event(), self.limits)
        request.check(self.limits)
        entry = self.catalog.found(request.model)
        with self._one_at_a_time(tell):
            tell.step(Step("loading" if not self.models.has(entry) else "measuring"))
            try:
                return self._measured(request, entry, self.models.get(entry), tell)
            finally:
                free_memory()

    def _measured(
        self, request: Request, entry: CatalogModel, used: ModelInUse, tell: _Teller
    ) -> ESSReport:
        planned = self._plan(request, used)
        tell.step(Step("measuring"))
        with warnings.catch_warnings():
            # The report holds them, and the page shows them.
            warnings.filterwarnings("ignore", module=r"hf_ess\.")
            report = analyze(
                used.model,
                [request.text],
                used.tokenizer,
                positions=planned.positions,
                tolerances=request.tolerances,
                scope=request.scope,
                accuracy="exact",
                keep_singular_values=planned.keep_singular_values,
                progress=False,
                on_progress=tell.progress,
                distributed=False,
            )
        return _described(report, entry, planned)

    def _plan(self, request: Request, used: ModelInUse) -> Plan:
        tokens = len(encoded(used.tokenizer, request.text)["input_ids"])
        self.limits.check_tokens(tokens)
        return plan(request.positions, tokens, used.mixers, self.limits)

    @contextmanager
    def _one_at_a_time(self, tell: _Teller) -> Iterator[None]:
        while not self._turn.acquire(timeout=WAKES_AFTER):
            tell.check()
        try:
            yield
        finally:
            self._turn.release()


class _Teller:
    """Passes steps on, unless the measurement is to end."""

    def __init__(self, on_step: OnStep, cancel: threading.Event, limits: Limits) -> None:
        self._on_step = on_step
        self._cancel = cancel
        self._limits = limits

    def check(self) -> None:
        if self._cancel.is_set():
            raise CancelledError(
                "The measurement was cancelled.", fix="Start it again at any time."
            )

    def step(self, step: Step) -> None:
        self.check()
        self._on_step(step)

    def progress(self, progress: Progress) -> None:
        if progress.seconds > self._limits.seconds and progress.done < progress.total:
            raise LimitError(
                f"The measurement took longer than {self._limits.seconds} seconds: "
                f"{progress.done} of {progress.total} layers are done.",
                fix="Shorten the text, ask for fewer positions, or choose a smaller model.",
            )
        self.step(Step.of(progress))


def _described(report: ESSReport, entry: CatalogModel, planned: Plan) -> ESSReport:
    """The report under the name of the catalogue, which for a local model is no path."""
    report.provenance |= {"model": entry.name, "model_is_local": entry.is_local}
    if planned.note:
        report.warnings.append(planned.note)
    return report


def stream(
    measurer: Measurer, request: Request, cancel: threading.Event | None = None
) -> Iterator[Step | ESSReport]:
    """The steps of a measurement as they come, and its report at the end.

    The measurement runs in a thread of its own. It is cancelled when the iterator is closed, as
    a page does that its reader left. Everything that is yielded can be pickled.

    Raises:
        HfEssError: what `Measurer.measure` raises.
    """
    wanted = cancel or threading.Event()
    work: BackgroundWork[Step, ESSReport] = BackgroundWork(
        lambda tell: measurer.measure(request, tell, wanted), name="hf_ess measurement"
    )
    try:
        yield from work.news()
    finally:
        if not work.is_over:
            wanted.set()
        work.wait()
    yield work.result()
