"""What stands on the page, and where: the elements of Gradio, without what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hf_ess.space.component import view_element
from hf_ess.space.prompts import EXAMPLES, SEPARATORS, example_text

TITLE = "Effective state-size"
INTRODUCTION = (
    "See where a language model remembers and where it lets go. The operator of every layer is "
    "recovered from the running model and proven against what the layer computed; the rank of what "
    "it hands from the past to the future is how much of its memory the model really uses."
)
PAPER = "https://arxiv.org/abs/2504.19561"
POSITIONS_HELP = "auto, all, a stride such as 8, or a list such as 8,16,24"
SCOPES = [("core: the mixing function", "core"), ("mixer: with its convolution and gates", "mixer")]
NOTHING, OTHER_MODEL, OTHER_TEXT = "nothing", "model", "text"
COMPARISONS = [
    ("nothing", NOTHING),
    ("another model", OTHER_MODEL),
    ("another text", OTHER_TEXT),
]


@dataclass(frozen=True)
class Choices:
    """What visitors can choose between.

    Attributes:
        models: names with what is written on them.
        any_model: whether they may write the name of another one.
        publishing: whether they can log in.
        limits: in words.
    """

    models: Sequence[tuple[str, str]]
    any_model: bool
    publishing: bool
    limits: str


@dataclass(frozen=True)
class Page:
    """The elements that do something."""

    model: Any
    text: Any
    example: Any
    separator: Any
    positions: Any
    scope: Any
    against: Any
    other_model: Any
    other_text: Any
    measure: Any
    cancel: Any
    status: Any
    view: Any
    shown: Any
    taking: Any
    report: Any
    card: Any
    link: Any
    file: Any
    section: Any
    gallery: Any
    gallery_notes: Any
    publishing: Publishing | None


@dataclass(frozen=True)
class Publishing:
    """The elements of the part that only those see who can log in."""

    part: Any
    repository: Any
    with_text: Any
    push: Any
    answer: Any

    @property
    def inputs(self) -> list[Any]:
        """What is read when the button is pressed."""
        return [self.repository, self.with_text]


def lay_out(choices: Choices, cell: Callable[[Any], Any]) -> Page:
    """Puts the elements on the page that is being built."""
    gr.HTML(
        f"<h1>{TITLE}</h1><p>{INTRODUCTION} "
        f'<a href="{PAPER}" target="_blank" rel="noopener">The measure</a></p>',
        elem_id="hfess-head",
        padding=False,
    )
    with gr.Tabs():
        with gr.Tab("Measure"):
            asked = _question(choices)
        with gr.Tab("Gallery"):
            gallery = gr.Radio([], label="Reports", elem_id="hfess-gallery")
            notes = gr.HTML("Reading the reports …", padding=False, elem_id="hfess-gallery-notes")
    status = gr.HTML("", elem_id="hfess-status", padding=False)
    taken = _taking_away()
    view = view_element(cell)
    publishing = _publishing() if choices.publishing else None
    return Page(
        **asked,
        **taken,
        status=status,
        view=view,
        publishing=publishing,
        shown=gr.State([]),
        gallery=gallery,
        gallery_notes=notes,
    )


def _question(choices: Choices) -> dict[str, Any]:
    with gr.Row(elem_id="hfess-question"):
        with gr.Column(scale=3, min_width=320):
            text = gr.Textbox(
                example_text(EXAMPLES[0][1])[0],
                label="Text",
                lines=7,
                max_lines=14,
                info=choices.limits,
                elem_id="hfess-text",
            )
            with gr.Row(elem_id="hfess-examples"):
                example = gr.Dropdown(
                    list(EXAMPLES),
                    value=EXAMPLES[0][1],
                    label="Example",
                    filterable=False,
                    min_width=140,
                    elem_id="hfess-example",
                )
                separator = gr.Dropdown(
                    list(SEPARATORS),
                    value=SEPARATORS[0][1],
                    label="Separated by",
                    filterable=False,
                    min_width=140,
                    elem_id="hfess-separator",
                )
        with gr.Column(scale=2, min_width=280):
            model = _model(choices, "Model", "hfess-model")
            against = gr.Radio(
                COMPARISONS, value=NOTHING, label="Compare with", elem_id="hfess-against"
            )
            other_model = _model(
                choices, "Model to compare with", "hfess-other-model", number=1, visible=False
            )
            other_text = gr.Textbox(
                label="Text to compare with", lines=4, visible=False, elem_id="hfess-other-text"
            )
            with gr.Accordion("Positions and scope", open=False, elem_id="hfess-settings"):
                positions = gr.Textbox(
                    "auto", label="Positions", info=POSITIONS_HELP, elem_id="hfess-positions"
                )
                scope = gr.Radio(SCOPES, value="core", label="Scope", elem_id="hfess-scope")
            with gr.Row(elem_id="hfess-buttons"):
                measure = gr.Button("Measure", variant="primary", elem_id="hfess-measure")
                cancel = gr.Button("Cancel", elem_id="hfess-cancel")
    return {
        "model": model,
        "text": text,
        "example": example,
        "separator": separator,
        "positions": positions,
        "scope": scope,
        "against": against,
        "other_model": other_model,
        "other_text": other_text,
        "measure": measure,
        "cancel": cancel,
    }


def _model(choices: Choices, label: str, name: str, number: int = 0, visible: bool = True) -> Any:
    return gr.Dropdown(
        list(choices.models),
        value=choices.models[min(number, len(choices.models) - 1)][1],
        label=label,
        info="Or the id of a model on the Hub, organisation/name" if choices.any_model else None,
        allow_custom_value=choices.any_model,
        filterable=True,
        visible=visible,
        elem_id=name,
    )


def _taking_away() -> dict[str, Any]:
    with gr.Column(visible=False, elem_id="hfess-taking") as taking:
        with gr.Row():
            report = gr.Button("Report (zip)", size="sm", elem_id="hfess-report")
            card = gr.Button("Section for a model card", size="sm", elem_id="hfess-card")
            link = gr.Button("Copy link", size="sm", elem_id="hfess-link")
        file = gr.DownloadButton(visible="hidden", elem_id="hfess-file")
        section = gr.Code(
            language="markdown",
            label="For the README.md of the model",
            visible=False,
            elem_id="hfess-section",
        )
    return {
        "taking": taking,
        "report": report,
        "card": card,
        "link": link,
        "file": file,
        "section": section,
    }


def _publishing() -> Publishing:
    with gr.Accordion("Publish to your own repository", open=False) as part:
        with gr.Row():
            repository = gr.Textbox(
                label="Model repository", placeholder="you/model", elem_id="hfess-repository"
            )
            with_text = gr.Checkbox(label="Publish the text and its tokens, too", value=False)
        with gr.Row():
            gr.LoginButton(size="sm")
            push = gr.Button("Open a pull request", size="sm", elem_id="hfess-push")
        answer = gr.HTML("", padding=False, elem_id="hfess-pushed")
    return Publishing(part, repository, with_text, push, answer)
