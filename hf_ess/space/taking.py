"""What can be taken away from the page: files, words for a model card, a pull request."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from hf_ess.errors import HfEssError, InvalidInputError
from hf_ess.report import ESSReport
from hf_ess.space.downloads import Downloads
from hf_ess.space.events import AT_ONCE, UNLIMITED
from hf_ess.space.instrument import Instrument
from hf_ess.space.page import Page, Publishing
from hf_ess.space.wording import note, problem

_SAVE = "() => document.querySelector('#hfess-file')?.click()"
_COPY = """async () => {
  const button = document.querySelector("#hfess-link");
  const words = button.textContent;
  try {
    await navigator.clipboard.writeText(window.location.href);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copy it from the address bar";
  }
  setTimeout(() => { button.textContent = words; }, 2000);
}"""


class Taking:
    """The answers of the part below the view.

    Args:
        instrument: what keeps the reports.
        downloads: where zip files lie.
    """

    def __init__(self, instrument: Instrument, downloads: Downloads) -> None:
        self._instrument = instrument
        self._downloads = downloads

    def connect(self, page: Page) -> None:
        """Joins elements and answers, while the page is being built."""
        page.report.click(self.zip_file, page.shown, [page.file, page.status], **UNLIMITED).success(
            None, js=_SAVE, **AT_ONCE
        )
        page.card.click(self.card_section, page.shown, [page.section, page.status], **UNLIMITED)
        page.link.click(None, js=_COPY, **AT_ONCE)
        if page.publishing is not None:
            part: Publishing = page.publishing
            part.push.click(self.publish, [page.shown, *part.inputs], part.answer, **UNLIMITED)

    def zip_file(self, keys: Sequence[str]) -> tuple[Any, str]:
        """What is shown, as a file."""
        try:
            self._report(keys)
            reports = {key: self._instrument.report(key) for key in keys}
            path: Path = self._downloads.zip_of(reports)
        except HfEssError as error:
            return gr.skip(), problem(error)
        return gr.update(value=str(path)), ""

    def card_section(self, keys: Sequence[str]) -> tuple[Any, str]:
        """What can be pasted into the card of the first model."""
        from hf_ess.hub import section_with_marks

        try:
            section = section_with_marks(self._report(keys))
        except HfEssError as error:
            return gr.skip(), problem(error)
        return gr.update(value=section, visible=True), ""

    def publish(
        self,
        keys: Sequence[str],
        repository: str,
        with_text: bool,
        token: gr.OAuthToken | None,
    ) -> str:
        """Proposes the report to the visitor's repository, with the visitor's own login."""
        from hf_ess.hub import push_report

        try:
            report = self._report(keys)
            if token is None:
                raise InvalidInputError(
                    "Publishing needs your own login.", fix="Sign in with Hugging Face first."
                )
            pushed = push_report(
                report,
                repository,
                token=token.token,
                create_pr=True,
                include_text=bool(with_text),
            )
        except HfEssError as error:
            return problem(error)
        if pushed.pr_url is None:
            return note("The repository holds this report already.")
        url = html.escape(pushed.pr_url, quote=True)
        link = f'<a href="{url}" target="_blank" rel="noopener">{url}</a>'
        return f'<p class="hfess-note" role="status">{link}</p>'

    def _report(self, keys: Sequence[str]) -> ESSReport:
        if not keys:
            raise InvalidInputError("Nothing is shown yet.", fix="Measure a text first.")
        return self._instrument.report(keys[0])
