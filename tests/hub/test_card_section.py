"""The section of a model card: read again by a parser of Markdown that knows nothing of ours."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from markdown_it import MarkdownIt
from report.synthetic import UNSUPPORTED, make_layer, make_report, unverified

import hf_ess
from hf_ess.hub.card_section import DOCUMENTATION, PAPER, card_section, model_index_entry
from hf_ess.plain_text import printable
from hf_ess.report import SampleInfo, UnsupportedLayer
from hf_ess.report.publication import published

FOLDS = ["Every layer", "How it was measured, and how to repeat it"]
HOSTILE = [
    "a|b|c", "||", "`x`", "```", "~~~", "line\nbreak", "\n\n# heading\n\n", "\r\n", "\t- item",
    "<script>alert(1)</script>", "</details>", "</summary>", "<!--", "-->", "<!-- hf_ess:begin -->",
    "<!-- hf_ess:end -->", "](javascript:alert(1))", "[x](javascript:alert(1))", "![x](y)", "**b**",
    "_i_ __b__", "&lt;b&gt;", "&#60;b&#62;", "\\", "a\\|b", "\\`", "$x$ $$y$$", "www.example.org",
    "http\u003a//example.org", "me@example.org", "<https://example.org>", "<a href=x>", "[^1]",
    "1. x",
    "\u202eevil", "\x1b[31mred", "\ud800", "日本語", "\u2028", "---", "=====", "- [ ] x", "{{x}}",
    "'\"<img src=x onerror=y>\"'", "a\\", "\\\\(x\\\\)", ":smile:", "@user", "#12", "~~s~~", "*",
]  # fmt: skip


def parsed(section):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(section)


def leaves(tokens):
    for token in tokens:
        yield token
        yield from leaves(token.children or [])


def words_of(token):
    """What a reader sees of a block."""
    return "".join(x.content for x in leaves(token.children) if x.type in ("text", "code_inline"))


def tables(section):
    """Each table as rows of cells, header first."""
    found = []
    for before, token in zip([None, *(tokens := parsed(section))], tokens, strict=False):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and before.type in ("td_open", "th_open"):
            found[-1][-1].append(words_of(token))
    return found


def assert_well_formed(section, links=(DOCUMENTATION, PAPER)):
    """One heading, two folded blocks that are closed, one command, our links, whole tables."""
    tokens = parsed(section)
    everything = list(leaves(tokens))
    raw = [token.content.strip() for token in everything if token.type.startswith("html")]
    folds = [(f"<details>\n<summary>{name}</summary>", "</details>") for name in FOLDS]
    assert raw == [*folds[0], *folds[1]]
    assert [t.tag for t in everything if t.type == "heading_open"] == ["h2"]
    assert [t.attrGet("href") for t in everything if t.type == "link_open"] == list(links)
    assert [t.info for t in everything if t.type in ("fence", "code_block")] == ["console"]
    marks = {t.type for t in everything} & {"em_open", "s_open", "code_inline", "hr", "blockquote"}
    assert not marks
    assert all(token.level <= 8 for token in tokens)
    for rows in tables(section):
        assert len(rows) >= 2
        assert {len(row) for row in rows} == {len(rows[0])}
    assert "<!--" not in section
    assert "-->" not in section
    assert section.encode()
    assert section.endswith("\n")
    assert not re.search(r"[^\S\n ]|\r", section)


def test_the_whole_section():
    common = {"positions": (4, 8), "lengths": (12,), "groups": 1}
    values = np.array([[[2.0, 3.0]]])
    counts = {0.1: values, 0.001: values + 1, 1e-5: values + 2}
    layers = [
        make_layer(
            index, **common, entropy_ess=values * (index + 1), tolerance_ess=counts, capacity=10,
            residual=[2e-6], undecided={0.1: 0, 0.001: 1, 1e-5: 0}, entropy_half_width=0.0098,
            attainable_by_group=4, method="divide-and-conquer",
        )
        for index in (0, 1)
    ]  # fmt: skip
    provenance = {
        "model": "org/model", "revision": "abc123", "model_class": "LlamaForCausalLM",
        "dtype": "float32", "quantization": "", "device": "cpu", "attention_implementation": "sdpa",
        "versions": {"torch": "2.13.0", "hf-ess": "0.1.0", "transformers": "5.23.0", "numpy": "2"},
        "settings": {"layers": None, "accuracy": "certified", "method": "auto", "batch_size": 1},
    }  # fmt: skip
    report = make_report(layers, **common, provenance=provenance, warnings=["Mind the step."])
    section = card_section(report, repo_id="user/model")
    assert_well_formed(section)
    text = [words_of(token) for token in parsed(section) if token.type == "inline"]
    # By hand: layer 0 has 2 and 3, layer 1 has 4 and 6; the capacity is 10.
    assert text[:2] == [
        "Effective state-size",
        "On 1 text of 12 tokens, the layers of this model carry on average 3.75 dimensions of "
        "state per channel from earlier tokens to later ones (entropy-ESS, certified to within "
        "1.0%): 37.5% of what they could hold. The operators of all 2 layers were verified "
        "against the model.",
    ]
    model, every_layer, how = tables(section)
    assert model == [
        ["metric", "average per channel", "total, mean of layers", "total, sum of layers",
         "utilization"],
        ["entropy-ESS", "3.75", "15.00", "30.00", "37.5%"],
        ["tolerance-ESS(0.1)", "2.50", "10.00", "20.00", "25.0%"],
        ["tolerance-ESS(0.001)", "3.50~", "14.00", "28.00", "35.0%"],
        ["tolerance-ESS(1e-05)", "4.50", "18.00", "36.00", "45.0%"],
    ]  # fmt: skip
    assert every_layer == [
        ["layer", "mixer", "heads", "state size", "average entropy ESS", "total entropy ESS",
         "average tol.ESS (0.1)", "average tol.ESS (0.001)", "average tol.ESS (1e-05)",
         "utilization", "residual", "verified"],
        ["0", "softmax attention", "1", "grows", "2.50", "10.00", "2.50", "3.50~", "4.50", "25.0%",
         "2.0e-06", "yes"],
        ["1", "softmax attention", "1", "grows", "5.00", "20.00", "2.50", "3.50~", "4.50", "50.0%",
         "2.0e-06", "yes"],
    ]  # fmt: skip
    assert how == [
        ["what", "how"],
        ["model", "org/model"],
        ["revision", "abc123"],
        ["class", "LlamaForCausalLM"],
        ["texts", "1 text of 12 tokens"],
        ["SHA-256", "0" * 64],
        ["positions", "one in 4 (2)"],
        ["tolerances", "0.1, 0.001, 1e-05 (absolute)"],
        ["window", "none: whole blocks"],
        ["scope", "core: what the mixing function applies"],
        ["layers", "all"],
        ["method", "divide-and-conquer (2 layers); accuracy: certified"],
        ["largest residual", "2.0e-06, bound 1.0e-04"],
        ["dtype", "float32"],
        ["quantization", "none"],
        ["attention implementation", "sdpa"],
        ["device", "cpu"],
        ["versions", "hf-ess 0.1.0, torch 2.13.0, transformers 5.23.0"],
    ]
    (picture,) = [token for token in leaves(parsed(section)) if token.type == "image"]
    assert picture.attrGet("src") == "ess/positions.png"
    assert words_of(picture) == (
        "Curve of the total tolerance-ESS(0.1) per layer by position: lowest 8.00 at position 4, "
        "highest 12.00 at position 8."
    )
    assert "Warning: Mind the step." in text
    assert "~ some singular values are too close to the tolerance to be counted for certain" in text
    (fence,) = [token for token in parsed(section) if token.type == "fence"]
    assert fence.content == (
        "$ hf-ess analyze org/model --file text.txt --positions 4 --tolerance 0.1 --tolerance "
        f"0.001 --tolerance 1e-05 --dtype float32 --revision abc123  # SHA-256 of text.txt: "
        f"{'0' * 64}\n"
    )


def test_what_was_not_verified_is_named():
    layers = [make_layer(0), make_layer(1, **unverified()), make_layer(2, **unverified())]
    report = make_report(layers, unsupported=[UNSUPPORTED])
    section = card_section(report)
    assert_well_formed(section)
    text = "\n".join(words_of(token) for token in parsed(section) if token.type == "inline")
    assert (
        "The operators of 1 of 4 layers were verified against the model, and only those count; "
        "not verified: 1, 2; not supported: model.layers.9.mlstm (mlstm)." in text
    )
    assert "Not verified: model.layers.1.self_attn: residual 3.0e-01 above 1.0e-04" in text
    assert "Unsupported: model.layers.9.mlstm (mlstm): no adapter knows it" in text
    rows = tables(section)[1]
    assert rows[2][4:10] == ["-"] * 6
    assert [row[-1] for row in rows[1:]] == ["yes", "NO", "NO"]


def test_many_layers_are_named_in_the_folded_part_only():
    layers = [make_layer(0), *(make_layer(i, **unverified()) for i in range(1, 40))]
    section = card_section(make_report(layers))
    first = words_of(next(t for t in parsed(section)[3:] if t.type == "inline"))
    assert first.endswith("not verified: 1, 2, 3, 4, 5, 6, 7, 8 and 31 more.")
    assert section.count("- Not verified") == 39
    assert len(tables(section)[1]) == 41


def test_no_verified_layer_is_no_number():
    report = make_report([make_layer(0, **unverified())], unsupported=[UNSUPPORTED])
    section = card_section(report)
    assert_well_formed(section)
    assert "No layer of this model could be verified" in section
    assert "The operators of 0 of 2 layers were verified" in section
    assert len(tables(section)) == 2
    assert ".png" not in section
    assert model_index_entry(report) is None


def test_incomplete_is_said_first():
    report = make_report(complete=False, incomplete_reason="no *space*")
    section = card_section(report)
    assert_well_formed(section)
    text = [words_of(token) for token in parsed(section) if token.type == "inline"]
    assert text[2] == "INCOMPLETE (no *space*): the numbers are those of the layers that were done."
    assert model_index_entry(report) is None


def test_several_texts_have_a_standard_error():
    section = card_section(make_report(lengths=(12, 11)))
    assert tables(section)[0][0][2] == "standard error over texts"
    assert "On 2 texts of 11 to 12 tokens" in section
    rows = dict(row for row in tables(section)[2] if len(row) == 2)
    assert rows["SHA-256"] == f"{'0' * 64}, {'0' * 64}"


def test_many_texts_do_not_fill_the_card():
    samples = [SampleInfo(length=12, text_sha256=f"{i:02x}" * 32) for i in range(30)]
    report = make_report(lengths=(12,) * 30, samples=samples)
    rows = dict(row for row in tables(card_section(report))[2] if len(row) == 2)
    assert rows["SHA-256"].endswith(f"{'07' * 32} and 22 more in report.json")
    (result,) = model_index_entry(report)["results"]
    assert result["dataset"]["name"].startswith("30 texts, SHA-256 00000000..., 01010101..., ")
    assert result["dataset"]["name"].endswith("07070707... and 22 more, 360 tokens")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": (8, 4)}, ["windowed entropy-ESS, window 8x4", "8 tokens from each position"]),
        ({"relative": True}, ["relative tolerance-ESS(0.1)", "fractions of the largest singular"]),
        ({"scope": "mixer"}, ["mixer: with the convolution and gates around it"]),
        ({"scope": "jacobian"}, ["entropy-ESS of the Jacobian", "The Jacobians of all 3 layers"]),
        ({"positions": (5,)}, ["position 5", "Average entropy-ESS per channel of each layer"]),
        (
            {"provenance": {"settings": {"layers": [0, "model.layers.1"]}}},
            ["Only some layers of the model were chosen to be measured: 0, model.layers.1."],
        ),
        ({"provenance": {"model": "/home/jane/llama"}}, ["llama (not loaded from the Hub)"]),
    ],
)
def test_what_kind_of_measurement_it_was(changes, words):
    section = card_section(make_report(**changes))
    assert_well_formed(section)
    text = "\n".join(words_of(token) for token in parsed(section) if token.type == "inline")
    for expected in words:
        assert expected in text
    assert ("ess/profile.png" in section) == (changes.get("positions") == (5,))


def hostile_report(word):
    """A report with the word at every place that a model, a user or another program fills."""
    layers = [
        make_layer(0, mixer=word, method=word, method_reason=word),
        make_layer(-1, name=word),
        make_layer(-1, name=word, mixer=word, verified=False, reason=word),
    ]
    return make_report(
        layers,
        unsupported=[UnsupportedLayer(word, -1, word, word)],
        warnings=[word],
        complete=False,
        incomplete_reason=word,
        provenance={
            **dict.fromkeys(
                ["model", "model_class", "revision", "dtype", "quantization", "device"], word
            ),
            "attention_implementation": word,
            "versions": dict.fromkeys(["hf-ess", "torch", "transformers", word], word),
            "settings": {"layers": [word, 0], "method": word, "accuracy": word, word: word},
        },
    )


@pytest.mark.parametrize("word", HOSTILE, ids=ascii)
def test_names_from_elsewhere_stay_words(word):
    report = hostile_report(word)
    section = card_section(report, repo_id=word)
    assert_well_formed(section)
    model, every_layer, how = tables(section)
    word = published(report).warnings[0]
    seen = printable(word).strip()
    assert every_layer[1][1] == seen
    assert every_layer[2][0] == seen
    facts = dict(how)
    assert facts["class"] == facts["device"] == seen
    text = [words_of(token) for token in parsed(section) if token.type == "inline"]
    assert f"Warning: {printable(word)}".rstrip() in text
    assert any(line.startswith(f"INCOMPLETE ({printable(word)})") for line in text)
    assert not re.search("javascript", json.dumps([t.attrs for t in leaves(parsed(section))]))
    assert len(model[0]) == 5


def test_the_folder_of_the_images_is_quoted():
    section = card_section(make_report(), image_folder="a b)<c>")
    assert "](a%20b%29%3Cc%3E/positions.png)" in section
    assert_well_formed(section)


def test_it_is_the_same_text_every_time():
    first = make_report(created_at="2001-01-01T00:00:00+00:00")
    second = make_report()
    assert card_section(first) == card_section(second)
    assert "2001" not in card_section(first)
    assert "created" not in card_section(first)


def test_nothing_of_the_text_or_the_machine_is_in_it(llama_folder):
    text = "w17 w23 w42 w99 w101 w17 w64"
    report = hf_ess.analyze(llama_folder, text, progress=False)
    section = card_section(report, repo_id="user/model")
    entry = json.dumps(model_index_entry(report, repo_id="user/model"))
    for secret in (text, "w17", "w101", str(llama_folder), "/tmp", str(llama_folder.parent)):
        assert secret not in section
        assert secret not in entry
    assert "hf-ess analyze user/model --file text.txt --positions all" in section


def test_what_is_no_number_is_no_metric():
    layer = make_layer(0, capacity=0.0, attainable_by_group=1)
    report = make_report([layer])
    assert math.isnan(report.utilization())
    (result,) = model_index_entry(report)["results"]
    kinds = [metric["type"] for metric in result["metrics"]]
    assert "utilization_entropy_ess" not in kinds
    assert "average_entropy_ess" in kinds
    json.dumps(result, allow_nan=False)
    section = card_section(report)
    assert_well_formed(section)
    assert "of what they could hold" not in section
