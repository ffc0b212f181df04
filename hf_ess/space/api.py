"""What programs and language models ask of a server: three functions that return JSON only."""

from __future__ import annotations

from typing import Any

from hf_ess.analysis.analyze import DEFAULT_TOLERANCES
from hf_ess.errors import InvalidInputError
from hf_ess.report import ESSReport
from hf_ess.report.comparison import compare as compare_reports
from hf_ess.report.comparison import default_names
from hf_ess.space.instrument import Instrument
from hf_ess.space.jobs import OnWait
from hf_ess.space.measuring import OnStep, Request
from hf_ess.space.words import findings, verdict
from hf_ess.written import parsed_positions
from model_adapters.recorder import CORE

POSITIONS = "auto"


class Api:
    """The functions of one server for one caller; every call waits in its queue.

    Args:
        instrument: measures and keeps.
        user: whose jobs these are.
        on_step: called as a measurement goes on.
        on_wait: called while others are measured first.
    """

    def __init__(
        self,
        instrument: Instrument,
        user: str,
        *,
        on_step: OnStep | None = None,
        on_wait: OnWait | None = None,
    ) -> None:
        self._instrument = instrument
        self._user = user
        self._on_step = on_step
        self._on_wait = on_wait

    def models(self) -> dict[str, Any]:
        """Lists the models that can be measured here, and the limits of this server.

        Returns:
            `models`: name, parameters, bytes in float32 and mixers of each, null where not known;
            `any_hub_model`: whether other models of the Hub may be named; `limits`.
        """
        catalog, limits = self._instrument.catalog, self._instrument.limits
        return {
            "models": [
                {
                    "name": model.name,
                    "parameters": model.parameters,
                    "bytes": model.bytes,
                    "mixers": model.mixers,
                }
                for model in catalog.models
            ],
            "any_hub_model": catalog.any_hub_model,
            "limits": {
                "characters": limits.characters,
                "tokens": limits.tokens,
                "positions": limits.positions,
                "parameters": limits.parameters,
                "seconds": limits.seconds,
            },
        }

    def analyze(
        self,
        model: str,
        text: str,
        positions: str = POSITIONS,
        tolerances: list[float] | None = None,
        scope: str = CORE,
    ) -> dict[str, Any]:
        """Measures the effective state-size (ESS) of every layer of a language model on a text.

        ESS is the number of dimensions of memory that a layer uses at a position of the text: the
        rank of what it hands from the past to the future.

        Args:
            model: A name from `models`, or the id of a model on the Hub where the server allows it.
            text: What the model reads; some hundred words show most.
            positions: "auto", "all", a stride such as "8", or a list such as "8,16,24".
            tolerances: Thresholds of the tolerance-ESS; 0.1, 0.001 and 0.00001 if left out.
            scope: "core" for the mixing function alone, "mixer" for that with its convolution and
                gates.

        Returns:
            Averages and totals of the model and of every layer, findings in words, and `key`, by
            which `compare` and the page find the result again.
        """
        key = self._measured(model, text, positions, tolerances, scope)
        return {"key": key, **described(self._instrument.report(key))}

    def compare(
        self,
        model_a: str = "",
        text_a: str = "",
        model_b: str = "",
        text_b: str = "",
        key_a: str = "",
        key_b: str = "",
        positions: str = POSITIONS,
        tolerances: list[float] | None = None,
        scope: str = CORE,
    ) -> dict[str, Any]:
        """Compares the effective state-size of two models on a text, or of a model on two texts.

        Each side is a model with a text, or the key of a result that `analyze` returned.

        Args:
            model_a: Name of the first model.
            text_a: What it reads.
            model_b: Name of the second model; the first one again if left out.
            text_b: What it reads; the first text again if left out.
            key_a: A result in place of the first model and text.
            key_b: A result in place of the second model and text.
            positions: "auto", "all", a stride such as "8", or a list such as "8,16,24".
            tolerances: Thresholds of the tolerance-ESS; 0.1, 0.001 and 0.00001 if left out.
            scope: "core", or "mixer" for the mixing function with its convolution and gates.

        Returns:
            Both reports by model, by layer, by relative depth and, for equal texts, by position;
            `differences` says what keeps the numbers from meaning the same, such as two texts.
        """
        if not key_b and not (model_b or text_b):
            raise InvalidInputError(
                "There is nothing to compare with.",
                fix="Give a second model, a second text, or the key of a second result.",
            )
        options = (positions, tolerances, scope)
        first = key_a or self._measured(model_a, text_a, *options)
        second = key_b or self._measured(model_b or model_a, text_b or text_a, *options)
        reports = [self._instrument.report(key) for key in (first, second)]
        return {"keys": [first, second], **compared(reports)}

    def _measured(
        self,
        model: str,
        text: str,
        positions: str,
        tolerances: list[float] | None,
        scope: str,
    ) -> str:
        request = Request(
            model=model,
            text=text,
            positions=parsed_positions(str(positions), "positions"),
            tolerances=tuple(tolerances or DEFAULT_TOLERANCES),
            scope=scope,
        )
        return self._instrument.measure(
            request, self._user, on_step=self._on_step, on_wait=self._on_wait
        )


def described(report: ESSReport) -> dict[str, Any]:
    """The numbers of a report in the types of JSON, with what is remarkable in words.

    The tokens of the text are not among them.
    """
    numbers = report.to_dict()
    for row, layer in zip(numbers["layers"], report.layers, strict=True):
        row["verdict"] = verdict(layer)
    return {"words": findings(report), **numbers}


def compared(reports: list[ESSReport]) -> dict[str, Any]:
    """Two reports side by side in the types of JSON; what keeps them apart is said, not refused."""
    names = default_names(reports)
    return compare_reports(reports, names=names, force=True).to_dict()
