"""What tests of pushes have in common: reports, cards, and what a repository has to look like."""

from __future__ import annotations

import traceback
from pathlib import Path

from hf_ess import ESSReport
from hf_ess.hub.card_section import card_section
from hf_ess.hub.card_text import without_addition
from hf_ess.hub.pull_requests import TITLE
from hf_ess.report.publication import published

CARD = (
    "---\nlicense: mit # as the first version\ntags:\n- pytorch\n---\n\n# A model\n\nIts story.\n"
)
REPO = "me/model"
DATA = {"ess/report.json", "ess/arrays.safetensors"}
IMAGES = {"ess/heatmap.png", "ess/profile.png", "ess/positions.png"}
WRITTEN = {"README.md"} | DATA | IMAGES


def ours(repo):
    """Commits that pushes made, oldest first."""
    return [commit for commit in repo.commits if "ess/report.json" in commit.changed]


def commits_of(repo, revision="main"):
    """What was committed after the repository was made."""
    return [commit.message for commit in repo.history(revision)[:-2]]


def report_in(files, folder):
    """The report that files of one commit hold."""
    for path in DATA:
        (Path(folder) / Path(path).name).write_bytes(files[path])
    return ESSReport.load(folder)


def fingerprint(report):
    """Of a report as it is published."""
    return published(report).fingerprint()


def check_whole(files, folder, theirs=CARD):
    """The files of one commit belong together, and the owner's text is as it was."""
    assert files.keys() >= WRITTEN
    report = report_in(files, folder)
    card = files["README.md"]
    assert without_addition(card).decode() == theirs
    assert card_section(report, repo_id=REPO).strip() in card.decode()
    return report


def whole_error(error):
    """All that somebody could see of an error, with those behind it."""
    return "".join(traceback.format_exception(error))


def open_proposals(repo):
    return [each.num for each in repo.pull_requests if (each.title, each.status) == (TITLE, "open")]
