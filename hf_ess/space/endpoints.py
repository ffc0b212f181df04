"""The same for programs: endpoints of Gradio's API, which are the tools of its MCP server, too."""

# Gradio reads the types of parameters and results from the functions themselves, so that here
# annotations are not kept as text.
import inspect
import json
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import gradio as gr

from hf_ess.errors import HfEssError
from hf_ess.space.api import POSITIONS, Api
from hf_ess.space.asking import by_mcp, progress_listeners, user_of
from hf_ess.space.instrument import Instrument
from model_adapters.recorder import CORE

Answer = TypeVar("Answer")


def add_endpoints(instrument: Instrument) -> None:
    """Adds `analyze`, `compare` and `models` to the page that is being built."""

    def analyze(
        model: str,
        text: str,
        positions: str = POSITIONS,
        tolerances: list[float] | None = None,
        scope: str = CORE,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        said = _api(instrument, request).analyze(model, text, positions, tolerances, scope)
        return _as_json(said, request)

    def compare(
        model_a: str = "",
        text_a: str = "",
        model_b: str = "",
        text_b: str = "",
        key_a: str = "",
        key_b: str = "",
        positions: str = POSITIONS,
        tolerances: list[float] | None = None,
        scope: str = CORE,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        said = _api(instrument, request).compare(
            model_a, text_a, model_b, text_b, key_a, key_b, positions, tolerances, scope
        )
        return _as_json(said, request)

    def models(request: gr.Request | None = None) -> dict[str, Any]:
        return _as_json(_api(instrument, request).models(), request)

    for function, documented in (
        (analyze, Api.analyze),
        (compare, Api.compare),
        (models, Api.models),
    ):
        function.__doc__ = inspect.getdoc(documented)
        gr.api(_explained(function), api_name=function.__name__, concurrency_limit=None)


def _api(instrument: Instrument, request: gr.Request | None) -> Api:
    on_step, on_wait = progress_listeners()
    return Api(instrument, user_of(request), on_step=on_step, on_wait=on_wait)


def _as_json(said: dict[str, Any], request: gr.Request | None) -> dict[str, Any]:
    """JSON for everybody: Gradio's MCP server would write a dictionary as Python does."""
    answer: Any = json.dumps(said, allow_nan=False) if by_mcp(request) else said
    return cast("dict[str, Any]", answer)


def _explained(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """Errors that say what to do reach the caller; what else goes wrong does not."""

    @wraps(function)
    def answered(*arguments: Any, **options: Any) -> Answer:
        try:
            return function(*arguments, **options)
        except HfEssError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return answered
