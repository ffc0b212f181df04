"""Everything behind the page: a request in, a key out, and under the key the report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hf_ess.analysis.analyze import checked_tolerances
from hf_ess.errors import ReportError
from hf_ess.report import ESSReport
from hf_ess.space.catalog import Catalog, CatalogModel
from hf_ess.space.jobs import Jobs, OnWait
from hf_ess.space.measuring import Measurer, OnStep, Request
from hf_ess.space.results import ResultStore, check_key, result_key
from hf_ess.space.view import cell, view
from hf_ess.space.view_schema import Cell, View
from hf_ess.spectra import Positions

Measure = Callable[[Request, OnStep | None, threading.Event | None], ESSReport]
# Looks for reports that were not measured here, such as those of a gallery.
FindReport = Callable[[str], ESSReport | None]


class Instrument:
    """Measures requests in turn, keeps the reports, and shows them.

    Args:
        catalog: which models, and the limits.
        store: where reports are kept.
        measurer: measures; one with the best device by default.
        measure: in place of `measurer.measure`, where measuring needs more around it.
        elsewhere: finds the report of a key that is not in the store.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: ResultStore,
        *,
        measurer: Measurer | None = None,
        measure: Measure | None = None,
        elsewhere: FindReport | None = None,
    ) -> None:
        self.catalog = catalog
        self.limits = catalog.limits
        self.store = store
        self.jobs = Jobs(self.limits)
        self.measurer = measurer or Measurer(catalog)
        self._measure = measure or self.measurer.measure
        self._elsewhere = elsewhere or (lambda _: None)

    def measure(
        self,
        request: Request,
        user: str,
        *,
        on_step: OnStep | None = None,
        on_wait: OnWait | None = None,
        cancel: threading.Event | None = None,
    ) -> str:
        """Measures a request in its turn; what was measured before is not measured again.

        Args:
            request: what to measure.
            user: whatever tells users apart.
            on_step: called as the measurement goes on.
            on_wait: called while others are measured first.
            cancel: set it to end the job.

        Returns:
            The key under which the report is kept.

        Raises:
            LimitError: above a limit, the user has a job already, or the queue is full.
            CancelledError: it was cancelled.
            HfEssError: what `Measurer.measure` raises.
        """
        request.check(self.limits)
        key = self.key(request)
        if self.store.get(key) is not None:
            return key
        with self.jobs.entered(user, on_wait, cancel) as job:
            # Somebody else may have asked the same and come first.
            if self.store.get(key) is None:
                self.store.put(key, self._measure(request, on_step, job.cancel))
        return key

    def key(self, request: Request) -> str:
        """The key of what a request asks for; nothing is downloaded or loaded.

        Raises:
            InvalidInputError, LimitError: the model may not be measured here.
        """
        return self._key(request, self.catalog.found(request.model))

    def report(self, key: str) -> ESSReport:
        """The report of a key.

        Raises:
            InvalidInputError: this is no key.
            ReportError: it is not kept (any more).
        """
        found = self.store.get(check_key(key)) or self._elsewhere(key)
        if found is None:
            raise ReportError(
                "The result of this link is not kept any more.",
                causes=["it was not used for long, and made room for others"],
                fix="Measure the text again; it gets the same link.",
            )
        return found

    def view(self, key: str) -> View:
        """What the page draws of the report of a key.

        Raises:
            InvalidInputError, ReportError: as `report`.
        """
        return view(self.report(key), key=key)

    def cell(self, key: str, layer: int, position: int) -> Cell:
        """One cell of the report of a key.

        Raises:
            InvalidInputError, ReportError: as `report`; or there is no such cell.
        """
        return cell(self.report(key), layer, position)

    def _key(self, request: Request, entry: CatalogModel) -> str:
        limits = self.limits
        settings: dict[str, Any] = {
            "positions": _listed(request.positions),
            "tolerances": list(checked_tolerances(request.tolerances)),
            "scope": request.scope,
            "dtype": self.measurer.models.dtype,
            # Which positions "auto" means.
            "limits": [limits.every_position, limits.spectra_bytes],
        }
        return result_key(entry.name, entry.revision, request.text, settings)


def _listed(positions: Positions) -> Any:
    """Positions in the types of JSON; what makes no sense is refused when it is measured."""
    if isinstance(positions, (str, int)):
        return positions
    return [int(position) for position in positions]
