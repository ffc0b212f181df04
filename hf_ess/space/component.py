"""The element of the page that carries the view, and what its value looks like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from hf_ess.space import bundle

VIEW_ID = "hfess-view"
HOST = "<div data-hfess-host></div>"


def view_element(answer: Callable[[Any], Any]) -> Any:
    """An element of Gradio whose value is what `view_value` makes.

    Its template never changes: Gradio evaluates what stands in a template as a program.

    Args:
        answer: what the view is told when somebody chooses a cell, called with
            `{"key": ..., "layer": ..., "position": ...}`.
    """

    # The bridge calls it by this name, and Gradio marks the function, which a method is not.
    def cell(asked: Any) -> Any:
        return answer(asked)

    return gr.HTML(
        value=None,
        html_template=HOST,
        js_on_load=bundle.bridge(),
        head=f"<script>{bundle.script()}</script>",
        server_functions=[cell],
        apply_default_css=False,
        elem_id=VIEW_ID,
        padding=False,
    )


def view_value(
    views: Sequence[Mapping[str, Any]], state: Mapping[str, object] | None = None
) -> str:
    r"""The value that shows one view, or two side by side.

    Args:
        views: one or two.
        state: what of the page is to be as a link says; None leaves it as it is.

    Example:
        >>> view_value([{"title": "<b>"}])
        '{"views":[{"title":"\\u003cb>"}],"state":null}'
    """
    value = {"views": list(views), "state": None if state is None else dict(state)}
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    # Gradio looks for tags in values of this element and warns; none is ever shown as one.
    return text.replace("<", "\\u003c")
