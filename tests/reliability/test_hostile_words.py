"""One hostile name for everything that has one, through every outlet: it stays mere text."""

from __future__ import annotations

import ast
import copy
import csv
import io
import json
import logging
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from reliability.hostile import NAME, OBEYED, commands_in
from report.synthetic import make_layer, make_report
from tiny_checkpoints import save_llama
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import hf_ess
from hf_ess import HfEssError
from hf_ess.hub.card_addition import card_addition
from hf_ess.hub.card_text import with_addition
from hf_ess.plain_text import safe_to_show
from hf_ess.report import UnsupportedLayer
from hf_ess.report.leaderboard import Entry, leaderboard

PART = "Hostile input"
WHAT = (
    "One name of terminal codes, direction marks, HTML, Markdown, rich markup, TeX, YAML and a "
    "formula for model, layers, mixers, reasons, tokens: "
)
FOLDER_NAME = NAME.replace("/", "|")[:120]
CLI = Path(hf_ess.__file__).parent / "cli"


@pytest.fixture(scope="module")
def report():
    layers = [
        make_layer(0, mixer=NAME, method=NAME, method_reason=NAME),
        make_layer(-1, name=NAME),
        make_layer(-1, name=NAME + "2", mixer=NAME, verified=False, reason=NAME),
    ]
    made = make_report(
        layers,
        unsupported=[UnsupportedLayer(NAME, -1, NAME, NAME)],
        warnings=[NAME],
        complete=False,
        incomplete_reason=NAME,
        scope=NAME,
        provenance=dict.fromkeys(("model", "model_class", "model_type", "dtype", NAME), NAME),
    )
    made.samples[0].tokens = [NAME] * made.samples[0].length
    return made


@pytest.fixture(scope="module")
def saved(report, tmp_path_factory):
    return report.save(tmp_path_factory.mktemp("reports") / FOLDER_NAME)


def replace_fields(report, **changes):
    changed = copy.copy(report)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


COMMANDS = {
    "compare": ["{0}", "{0}", "--force"],
    "compare as CSV": ["{0}", "{0}", "--force", "--format", "csv"],
    "compare as JSON": ["{0}", "{0}", "--force", "--format", "json"],
    "leaderboard": ["{0}"],
    "leaderboard in Markdown": ["{0}", "--format", "markdown"],
    "leaderboard as CSV": ["{0}", "--format", "csv"],
    "card": ["{0}"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_read_a_report(command, saved, run_command, tried):
    status, out, err = run_command(
        command.split()[0], *(x.format(saved) for x in COMMANDS[command])
    )
    assert status == 0, err
    assert len(out) > 100
    assert commands_in(out + err) == []
    tried(
        PART,
        WHAT + "tables, Markdown, CSV and JSON of compare, leaderboard, card",
        "No control character leaves the command, and rich markup is shown as it is written",
    )


def test_a_summary(report):
    assert commands_in(report.summary()) == []
    assert "[red]rich[/red]" in report.summary(400)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model in a folder of a hostile name, whose tokenizer knows hostile words."""
    folder = save_llama(tmp_path_factory.mktemp("models") / FOLDER_NAME)
    words = ["<unk>", *(f"{NAME.replace(' ', '')}{number}" for number in range(127))]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return folder, " ".join(words[5:20])


def test_a_model_is_measured(model, run_command, tmp_path, tried):
    folder, text = model
    out_folder = tmp_path / FOLDER_NAME
    status, out, err = run_command("analyze", folder, "--text", text, "--out", out_folder)
    assert status == 0, err
    assert commands_in(out) == []
    # Bars of progress begin their lines anew, by themselves.
    assert set(commands_in(err)) <= {"'\\r'"}
    assert "\\x1b" in out
    assert f"wrote {safe_to_show(str(out_folder))}" in err
    tokens = hf_ess.ESSReport.load(out_folder).samples[0].tokens
    assert "".join(tokens).replace(" ", "") == text.replace(" ", "")  # data stays what it is
    tried(
        PART,
        WHAT + "a model is measured, its report and plots written to a folder of that name",
        "No control character on stdout or stderr; the report holds the words as they are",
    )


@pytest.mark.parametrize("command", ["analyze", "recall", "modulate", "push", "compare"])
def test_errors_and_warnings(command, run_command, tmp_path, tried):
    status, out, err = run_command(command, tmp_path / FOLDER_NAME, *(["x"] * (command == "push")))
    assert (status, out) == (1, "")
    assert commands_in(err) == []
    assert "Traceback" not in err
    tried(PART, WHAT + "errors of commands", "Escapes are written out, on stderr and in exceptions")


def test_exceptions_that_programs_show():
    error = HfEssError(NAME, causes=[NAME], fix=NAME)
    for shown in (str(error), error.what, error.fix, *error.causes, repr(error.args)):
        assert commands_in(shown) == []


def test_logs_and_warnings_of_libraries(monkeypatch, run_command, capsys, tried):
    def measured(*_args, **_options):
        logger = logging.getLogger("transformers.hostile")
        handler = logging.StreamHandler()
        logger.addHandler(handler)
        try:
            raise ValueError(NAME)
        except ValueError:
            logger.exception("weights %s", NAME)
        logger.removeHandler(handler)
        warnings.warn(NAME, stacklevel=1)
        raise HfEssError(NAME)

    monkeypatch.setattr(hf_ess, "analyze", measured)
    warnings.simplefilter("always")
    factory = logging.getLogRecordFactory()
    status, _, err = run_command("analyze", "model", "--text", "a b")
    assert status == 1
    assert err.count("rich[/red]") >= 4
    assert commands_in(err) == []
    assert logging.getLogRecordFactory() is factory
    tried(PART, WHAT + "logs with tracebacks and warnings of libraries", "Written out as escapes")


def test_nothing_else_of_the_commands_writes_to_stderr():
    for path in CLI.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        uses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        assert path.name == "telling.py" or not any(node.attr == "stderr" for node in uses), path


def test_the_card(report, tried):
    whole = replace_fields(report, complete=True, incomplete_reason="")
    edited = with_addition(b"# A model\n", card_addition(whole, "me/model"))
    card = edited.content.decode()
    assert commands_in(card) == []
    _, front, body = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert set(metadata) == {"tags", "model-index"}
    assert len(metadata["model-index"]) == 1
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    inner = [child for token in tokens for child in token.children or []]
    html = [x.content for x in (*tokens, *inner) if x.type in ("html_block", "html_inline")]
    assert not any(
        word in piece.lower() for piece in html for word in ("script", "onerror", "<img")
    )
    links = [str(value) for x in inner for value in x.attrs.values()]
    assert not any("evil" in link or "javascript" in link for link in links)
    tried(PART, WHAT + "the card of the model, with its front matter", "No HTML, link or key of it")


def _compared(kind):
    def draw(report, path):
        named = [NAME, f"{NAME}2"]
        hf_ess.compare([report, report], names=named, force=True).plot(kind, path)

    return draw


PLOTS = {
    "heatmap": lambda report, path: report.plot("heatmap", path=path),
    "profile": lambda report, path: report.plot("profile", path=path),
    "positions": lambda report, path: report.plot("positions", path=path),
    **{f"compared by {kind}": _compared(kind) for kind in ("layer", "depth", "position")},
}


@pytest.mark.parametrize("kind", PLOTS)
def test_plots(report, kind, tmp_path, tried):
    path = tmp_path / f"{kind}.svg"
    PLOTS[kind](report, path)
    tags = {node.tag.rpartition("}")[2] for node in ET.parse(path).iter()}
    assert not tags & {"script", "a", "image", "foreignObject"} - {"image"}
    assert commands_in(path.read_text()) == []
    tried(PART, WHAT + "plots", "Drawn as text: no formula of TeX, no element of SVG, no warning")


def test_spreadsheets(report, tried):
    named = replace_fields(report, provenance={"model": "@SUM(1)", "model_class": "-1+1"})
    tables = [
        leaderboard([Entry.of("=cmd|x", named)]).to_csv(),
        hf_ess.compare([named, named], names=["+1", NAME], force=True).to_csv("layer"),
    ]
    cells = [cell for text in tables for row in csv.reader(io.StringIO(text)) for cell in row]
    assert {"'=cmd|x", "'@SUM(1)"} <= set(cells)
    assert not any(cell.startswith(("=", "@", "+", "\t", "\r")) for cell in cells)
    tried(PART, WHAT + "CSV", "No cell is a formula: an apostrophe stands before it")


def test_json_is_ascii(report):
    text = json.dumps(report.to_dict())
    assert text.isascii()
    assert not any(character in text for character in OBEYED)
