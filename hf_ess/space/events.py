"""What happens on the page when somebody does something."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from hf_ess.errors import CancelledError, HfEssError, InvalidInputError
from hf_ess.space.asking import Done, News, Tell, followed, listeners, user_of
from hf_ess.space.component import view_value
from hf_ess.space.gallery import Gallery
from hf_ess.space.instrument import Instrument
from hf_ess.space.links import parsed_link
from hf_ess.space.measuring import Request
from hf_ess.space.page import NOTHING, OTHER_MODEL, OTHER_TEXT, Page
from hf_ess.space.prompts import example_text
from hf_ess.space.wording import news_note, note, problem
from hf_ess.written import parsed_positions

# Nobody waits in Gradio's queue: the instrument's own knows users, and says how long it takes.
UNLIMITED: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


class Events:
    """The answers of the page.

    Args:
        instrument: what measures and keeps.
        gallery: reports that the operator shows.
    """

    def __init__(self, instrument: Instrument, gallery: Gallery) -> None:
        self._instrument = instrument
        self._gallery = gallery
        # By user: how those hear something whose measurement runs or waits.
        self._telling: dict[str, Tell] = {}

    def connect(self, page: Page, demo: Any) -> None:
        """Joins elements and answers, while the page is being built."""
        shown = [page.status, page.view, page.shown, page.taking, page.section]
        page.measure.click(
            self.measure,
            [
                page.model,
                page.text,
                page.positions,
                page.scope,
                page.against,
                page.other_model,
                page.other_text,
            ],
            shown,
            show_progress="hidden",
            **UNLIMITED,
        )
        page.cancel.click(self.cancel, None, page.status, **AT_ONCE)
        page.against.input(
            self.comparing, page.against, [page.other_model, page.other_text], **AT_ONCE
        )
        example = [page.example, page.separator]
        for chosen in example:
            chosen.input(self.example, example, [page.text, page.separator], **AT_ONCE)
        opened = [*shown, page.text, page.model]
        page.gallery.input(self.open_report, page.gallery, opened, **UNLIMITED)
        demo.load(self.open_link, None, opened, **UNLIMITED)
        demo.load(self.list_gallery, None, [page.gallery, page.gallery_notes], **UNLIMITED)
        demo.unload(self.leave)

    def measure(
        self,
        model: str,
        text: str,
        positions: str,
        scope: str,
        against: str,
        other_model: str,
        other_text: str,
        request: gr.Request,
    ) -> Iterator[Any]:
        """Measures what was asked for, says how it goes on, and shows it."""
        pairs = {
            NOTHING: [(model, text)],
            OTHER_MODEL: [(model, text), (other_model, text)],
            OTHER_TEXT: [(model, text), (model, other_text)],
        }
        try:
            if against not in pairs:
                raise InvalidInputError("A comparison is with another model or another text.")
            where = parsed_positions(positions or "auto", "Positions")
            asked = [
                Request(model=named, text=written, positions=where, scope=scope)
                for named, written in pairs[against]
            ]
            user = user_of(request)
            for told in followed(lambda tell: self._measured(asked, user, tell)):
                if isinstance(told, Done):
                    yield self._shown(told.result)
                else:
                    yield self._said(news_note(told.words, told.done, told.total))
        except CancelledError:
            yield self._said(note("Cancelled."))
        except HfEssError as error:
            yield self._said(problem(error))

    def _measured(self, asked: Sequence[Request], user: str, tell: Tell) -> list[str]:
        for each in asked:
            each.check(self._instrument.limits)
            self._instrument.key(each)
        on_step, on_wait = listeners(tell)
        return [
            self._instrument.measure(each, user, on_step=on_step, on_wait=on_wait) for each in asked
        ]

    def cell(self, asked: Any) -> dict[str, Any]:
        """One cell for the view: `{"key": ..., "layer": ..., "position": ...}` asks for it.

        Anybody can send anything: what cannot be answered is `{"error": why}`.
        """
        try:
            if not isinstance(asked, dict):
                raise InvalidInputError("A cell is asked for by key, layer and position.")
            layer, position = asked.get("layer"), asked.get("position")
            if type(layer) is not int or type(position) is not int:
                raise InvalidInputError("Layer and position are whole numbers.")
            return dict(self._instrument.cell(asked.get("key", ""), layer, position))
        except HfEssError as error:
            return {"error": str(error)}

    def cancel(self, request: gr.Request) -> Any:
        """Ends what the visitor has running or waiting."""
        user = user_of(request)
        if not self._instrument.jobs.cancel(user):
            return note("Nothing is running.")
        # Said by the measurement itself, so that it cannot come after its last word.
        tell = self._telling.get(user)
        if tell is not None:
            tell(News("Cancelling after this layer"))
        return gr.skip()

    def leave(self, request: gr.Request) -> None:
        """Nobody waits any more for what a closed page had asked for."""
        self._instrument.jobs.cancel(user_of(request))

    def comparing(self, against: str) -> tuple[Any, Any]:
        """Shows what a comparison needs."""
        return gr.update(visible=against == OTHER_MODEL), gr.update(visible=against == OTHER_TEXT)

    def example(self, name: str, separator: str) -> tuple[Any, Any]:
        """Puts an example into the text box."""
        text, separated = example_text(name, separator)
        return text, gr.update(visible=separated)

    def open_report(self, key: str) -> Any:
        """Shows a report of the gallery."""
        return self._opened([key], None)

    def open_link(self, request: gr.Request) -> Any:
        """Shows what the address asks for."""
        link = parsed_link(dict(request.query_params))
        if not link.keys:
            return [gr.skip() for _ in range(7)]
        return self._opened(link.keys, link.state)

    def list_gallery(self) -> tuple[Any, str]:
        """The reports that can be opened, and what could not be read."""
        entries = self._gallery.entries()
        choices = [(entry.title, entry.key) for entry in entries]
        problems = self._gallery.problems()
        words = "".join(note(f"Not read: {each}") for each in problems)
        if not entries:
            words = (
                note("No reports are shown here; they come with hf-ess serve --reports.") + words
            )
        return gr.update(choices=choices, visible=bool(entries)), words

    def _opened(self, keys: Sequence[str], state: dict[str, Any] | None) -> Any:
        """What is shown, with its text and model where one would ask for them again."""
        try:
            return [*self._shown(keys, state), *self._question_of(keys[0])]
        except HfEssError as error:
            return [*self._said(problem(error)), gr.skip(), gr.skip()]

    def _question_of(self, key: str) -> tuple[Any, Any]:
        report = self._instrument.report(key)
        texts = [sample.tokens for sample in report.samples]
        text = "".join(texts[0]) if len(texts) == 1 and texts[0] else gr.skip()
        known = {model.name for model in self._instrument.catalog.models}
        model = report.provenance.get("model")
        return text, model if model in known else gr.skip()

    def _shown(self, keys: Sequence[str], state: dict[str, Any] | None = None) -> Any:
        views = [self._instrument.view(key) for key in keys]
        visible = gr.update(visible=True)
        return "", view_value(views, state), list(keys), visible, gr.update(visible=False)

    def _said(self, words: str) -> Any:
        return [words, *(gr.skip() for _ in range(4))]
