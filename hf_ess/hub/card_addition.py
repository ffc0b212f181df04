"""What a report adds to the card of its model: to be spliced in, or pasted by hand."""

from __future__ import annotations

from hf_ess.hub.card_markers import BEGIN, END
from hf_ess.hub.card_section import card_section, model_index_entry
from hf_ess.hub.card_text import CardAddition
from hf_ess.hub.publication_files import FOLDER
from hf_ess.report import ESSReport


def card_addition(report: ESSReport, repo_id: str | None) -> CardAddition:
    """The section and the metadata of a report, for `with_addition`."""
    return CardAddition(
        section=card_section(report, repo_id=repo_id, image_folder=FOLDER),
        model_index_entry=model_index_entry(report, repo_id=repo_id),
    )


def section_with_marks(report: ESSReport, repo_id: str | None = None) -> str:
    """The section of the card between its markers, where a push finds it again.

    Args:
        report: need not be `published`; neither its text nor its paths are in the section.
        repo_id: the repository of the model, for the command that repeats the measurement.

    Example:
        >>> import numpy as np
        >>> from hf_ess.report import ESSReport, SampleInfo
        >>> report = ESSReport(
        ...     layers=[], positions=np.array([1]), tolerances=(0.1,),
        ...     samples=[SampleInfo(length=2)],
        ... )
        >>> print(section_with_marks(report)[:46])
        <!-- hf_ess:begin -->
        <BLANKLINE>
        ## Effective state-size
    """
    section = card_addition(report, repo_id).section.strip()
    return f"{BEGIN}\n\n{section}\n\n{END}\n"
