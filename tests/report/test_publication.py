"""What is published holds the numbers, and nothing of the text or of the machine."""

from __future__ import annotations

import json
import os
import platform
import re

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from report.synthetic import make_layer, make_report

import hf_ess
from hf_ess.report import ESSReport, SampleInfo, UnsupportedLayer
from hf_ess.report.arrays import report_arrays
from hf_ess.report.publication import published

HOME, TEMPORARY = "/home/jane.roe", "/tmp/kq7-scratch"
TOKENS = [" Zanzibar", " heliotrope", "<|endoftext|>", " quokka"] * 3
IDS = np.arange(7_340_001, 7_340_013)
DIGEST = "ab" * 32
SECRETS = (
    *(token.strip() for token in TOKENS), *map(str, IDS), "jane", "roe", "/home", "/tmp", "kq7",
    "scratch", "Jane", "Users", "hf_abcdefgh", "file:",
)  # fmt: skip


@pytest.fixture
def report():
    layers = [
        make_layer(0, name=f"{HOME}/layers.0", method_reason=f"see {TEMPORARY}/log.txt"),
        make_layer(1, mixer="C:\\Users\\Jane Roe\\mixer.py"),
        make_layer(2, verified=False, reason=f"'{HOME}/my models/x.bin' is missing"),
    ]
    sample = SampleInfo(length=12, text_sha256=DIGEST, tokens=TOKENS, token_ids=IDS)
    refused = UnsupportedLayer(f"a {TEMPORARY}/b", 9, f"{HOME}/c", f"file://{HOME}/d.py")
    return make_report(
        layers,
        samples=[sample],
        unsupported=[refused],
        warnings=[f"loaded from {HOME}/models/llama-mini.", "hf_abcdefghijklmnopqrst was used"],
        complete=False,
        incomplete_reason=f"no space on {TEMPORARY}/x",
        provenance={
            "model": f"{HOME}/models/llama-mini",
            "versions": {"torch": "2.13.0+cpu"},
            "settings": {"layers": [0, f"{HOME}/layers.0"], f"{TEMPORARY}/key": None},
            "epsilon": 0.1 + 0.2,
        },
    )


def everything(report, folder):
    """The bytes of a saved report and of its plots, and every text in them."""
    report.save(folder)
    found = [path.read_bytes() for path in [folder / "report.json", folder / "arrays.safetensors"]]
    for path in report.plot_all(folder):
        found.append(path.read_bytes())
        with Image.open(path) as image:
            found.append(repr(image.info).encode())
    return found


def test_no_secret_is_in_any_file_or_label(report, tmp_path):
    before = everything(report, tmp_path / "before")
    shown = everything(published(report), tmp_path / "after")
    drawn = [
        text.get_text()
        for kind in ("heatmap", "profile", "positions")
        for text in published(report).plot(kind).findobj(Text)
    ]
    for secret in SECRETS:
        assert not any(secret.encode() in data for data in shown), secret
        assert not any(secret in text for text in drawn), secret
    document = before[0].decode()
    assert all(secret in document for secret in SECRETS if not secret.isdecimal())
    assert IDS.astype("<i8").tobytes() in before[1]
    assert not any(
        row.tobytes() in data for row in (IDS.astype("<i8"), IDS.astype("<i4")) for data in shown
    )


def test_token_labels_are_drawn_of_an_unpublished_report_only(report):
    def labels(one):
        return {text.get_text() for text in one.plot("positions").findobj(Text)}

    words = {"Zanzibar", "heliotrope", "quokka", "<|endoftext|>"}
    assert words & labels(report)
    assert words & labels(published(report, include_text=True))
    assert not words & labels(published(report))


def test_the_strings_that_are_left(report):
    shown = published(report)
    assert shown.provenance == {
        "model": "llama-mini",
        "model_is_local": True,
        "versions": {"torch": "2.13.0+cpu"},
        "settings": {"layers": [0, "layers.0"], "key": None},
        "epsilon": 0.1 + 0.2,
    }
    assert shown.warnings == ["loaded from llama-mini.", "hf_*** was used"]
    assert shown.incomplete_reason == "no space on x"
    assert shown.layers[0].name == "layers.0"
    assert shown.layers[0].method_reason == "see log.txt"
    assert shown.layers[1].mixer == "mixer.py"
    assert shown.layers[2].reason == "'x.bin' is missing"
    assert shown.unsupported == [UnsupportedLayer("a b", 9, "c", "d.py")]


def test_the_numbers_are_the_same_objects(report):
    shown = published(report)
    theirs = report_arrays(shown.layers, shown.samples)
    for name, array in report_arrays(report.layers, report.samples).items():
        if name.startswith("sample"):
            assert name not in theirs
        else:
            assert theirs[name].tobytes() == array.tobytes()
    for mine, other in zip(report.layers, shown.layers, strict=True):
        assert other.entropy_ess is mine.entropy_ess
        assert other.capacity is mine.capacity
        assert other.residual is mine.residual
    assert shown.positions is report.positions
    assert shown.created_at == report.created_at
    assert shown.average_ess() == report.average_ess()


def test_the_report_itself_is_left_alone(report):
    before = report.fingerprint()
    published(report)
    assert report.fingerprint() == before
    assert report.samples[0].tokens == TOKENS


def test_what_identifies_the_text_stays(report):
    (sample,) = published(report).samples
    assert (sample.length, sample.text_sha256, sample.text_withheld) == (12, DIGEST, True)
    assert (sample.tokens, sample.token_ids) == (None, None)


def test_the_text_is_kept_on_request(report):
    report.samples[0].tokens[0] = " /home/of/a/token"
    shown = published(report, include_text=True)
    assert shown.samples[0].tokens == report.samples[0].tokens
    assert shown.samples[0].token_ids is report.samples[0].token_ids
    assert shown.provenance["model"] == "llama-mini"


@pytest.mark.parametrize("include_text", [False, True])
def test_twice_is_once(report, tmp_path, include_text):
    once = published(report, include_text=include_text)
    twice = published(once, include_text=include_text)
    assert once.fingerprint() == twice.fingerprint() != report.fingerprint()
    once.save(tmp_path)
    loaded = ESSReport.load(tmp_path)
    assert loaded.fingerprint() == once.fingerprint()
    assert published(loaded, include_text=include_text).fingerprint() == once.fingerprint()


@pytest.mark.parametrize(
    ("provenance", "name"),
    [
        ({"model": "org/name"}, "org/name"),
        ({"model": "org/name", "model_is_local": False}, "org/name"),
        ({"model": "gpt2"}, "gpt2"),
        ({"model": "runs/llama", "model_is_local": True}, "llama"),
        ({"model": "runs/3/llama"}, "llama"),
        ({"model": "/models/my llama/"}, "my llama"),
        ({"model": "./llama"}, "llama"),
        ({"model": "~/llama"}, "llama"),
        ({"model": "runs\\llama"}, "llama"),
        ({"model": r"D:\a b\llama"}, "llama"),
        ({"model": "D:/a b/llama"}, "llama"),
        ({"model": "file:///models/llama"}, "llama"),
        ({"model": "tiny.gguf", "model_is_local": True}, "tiny.gguf"),
        ({"model": "/home/jane"}, "local model"),
        ({"model": ".", "model_is_local": True}, "local model"),
        ({"model": 3}, 3),
        ({}, None),
    ],
)
def test_the_name_of_the_model(provenance, name):
    shown = published(make_report(provenance=provenance))
    assert shown.provenance.get("model") == name
    assert published(shown).provenance == shown.provenance


def test_a_relative_path_of_the_model_is_replaced_everywhere():
    provenance = {"model": "secret-project/llama", "model_is_local": True}
    warnings = ["secret-project/llama was in training mode"]
    shown = published(make_report(provenance=provenance, warnings=warnings))
    assert shown.warnings == ["llama was in training mode"]


@pytest.mark.parametrize("model", ["/", "\\", "//", "a\\", "/w"])
def test_a_name_that_is_hardly_a_path_is_replaced_nowhere_else(model):
    provenance = {"model": model, "model_is_local": True}
    shown = published(make_report(provenance=provenance, warnings=["ESS a / TSS", "w and \\n"]))
    assert shown.warnings == ["ESS a / TSS", "w and \\n"]
    assert shown.provenance["model"] in ("local model", "a", "w")


def test_a_real_report_holds_nothing_of_the_environment(llama_folder, tmp_path):
    text = "w17 w23 w42 w99 w101 w17 w64"
    report = hf_ess.analyze(llama_folder, text, progress=False)
    shown = published(report)
    shown.save(tmp_path)
    document = (tmp_path / "report.json").read_text("ascii")
    assert str(llama_folder) in json.dumps(report.provenance)
    for secret in (str(llama_folder.parent), str(tmp_path.parent), "w17", "w101"):
        assert secret not in document
    assert platform.node() not in [*re.split(r"\W+", document), *re.findall('"(.*?)"', document)]
    for name, value in os.environ.items():
        if re.search("TOKEN|KEY|SECRET|PASSW", name) and len(value) > 5:
            assert value not in document, name
    assert shown.provenance["model"] == llama_folder.name
    assert shown.provenance["settings"] == report.provenance["settings"]
