"""Version 3 of the schema: texts may be withheld; nothing is written that could not be read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jsonschema
import pytest
import safetensors.numpy
from report.synthetic import make_report

from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.report import ESSReport, SampleInfo

DATA = Path(__file__).parent / "data"
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/schema/report-v3.schema.json").read_text("utf-8")
)


@pytest.fixture
def report():
    return make_report(lengths=(12, 7))


def test_a_withheld_text(report, tmp_path):
    report.samples[1] = SampleInfo(length=7, text_sha256="a" * 64, token_ids_sha256="b" * 64)
    report.save(tmp_path)
    document = json.loads((tmp_path / "report.json").read_text("ascii"))
    jsonschema.validate(document, SCHEMA)
    shown, withheld = document["content"]["samples"]
    assert withheld == {
        "length": 7, "text_sha256": "a" * 64, "text_withheld": True, "tokens": None,
        "token_ids_sha256": "b" * 64,
    }  # fmt: skip
    assert shown["text_withheld"] is False
    assert len(shown["tokens"]) == 12
    names = set(safetensors.numpy.load((tmp_path / "arrays.safetensors").read_bytes()))
    ids = b"".join(number.to_bytes(8, "little") for number in range(12))
    assert shown["token_ids_sha256"] == hashlib.sha256(ids).hexdigest()
    assert "sample.00000.token_ids" in names
    assert "sample.00001.token_ids" not in names
    loaded = ESSReport.load(tmp_path)
    assert [sample.text_withheld for sample in loaded.samples] == [False, True]
    assert loaded.samples[1].token_ids is None
    assert loaded.fingerprint() == report.fingerprint()
    assert loaded.average_ess() == report.average_ess()
    assert loaded.summary() == report.summary()
    loaded.plot_all(tmp_path)


def test_tokens_of_a_withheld_text_are_refused(report, tmp_path):
    with pytest.raises(InvalidInputError, match="withheld"):
        SampleInfo(length=1, tokens=["a"])
    with pytest.raises(InvalidInputError, match="do not have their token_ids_sha256"):
        SampleInfo(length=1, token_ids=[3], token_ids_sha256="b" * 64)
    report.samples[1].token_ids = None
    with pytest.raises(ReportError, match=r"samples\[1\] has tokens, and its text is withheld"):
        report.save(tmp_path)
    document = {"length": 1, "text_sha256": None, "text_withheld": True}
    document |= {"token_ids_sha256": None, "tokens": ["a"]}
    schema = SCHEMA["$defs"]["sample"] | {"$defs": SCHEMA["$defs"]}
    assert not jsonschema.Draft202012Validator(schema).is_valid(document)
    assert jsonschema.Draft202012Validator(schema).is_valid(document | {"tokens": None})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: setattr(r.layers[0], "mixer", None), r"layers\[0\].mixer is of type NoneType"),
        (lambda r: setattr(r.samples[0], "text_sha256", "ABC"), "text_sha256 is no SHA-256"),
        (lambda r: setattr(r, "warnings", [3]), r"warnings\[0\] is of type int"),
    ],
)
def test_what_could_not_be_read_is_not_written(report, tmp_path, spoil, message):
    spoil(report)
    with pytest.raises(ReportError, match=message):
        report.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_report_of_the_first_schema_version_still_loads():
    old = ESSReport.load(DATA / "report-v1")
    assert [layer.method for layer in old.layers] == ["svd", "svd"]
    assert old.average_ess() == pytest.approx(1.0374219020505484, rel=1e-15)
    for layer in old.layers:
        assert layer.method_reason == ""
        assert (layer.entropy_half_width == 0).all()


def test_a_report_of_the_second_schema_version_still_loads():
    old = ESSReport.load(DATA / "report-v2")
    assert old.average_ess() == pytest.approx(1.5568808085523145, rel=1e-15)
    assert [layer.verified for layer in old.layers] == [True, True, False]
    assert old.layers[0].method_reason == "many positions: cheaper than their singular values"
    assert old.layers[0].entropy_half_width[0, 0, 0] == 0.0625
    assert [sample.text_withheld for sample in old.samples] == [False, False]
    assert old.samples[0].tokens[:2] == [" word0", " word1"]
    assert old.samples[1].token_ids.tolist() == list(range(7))
    assert (old.window, old.relative, old.complete) == ((8, 4), True, False)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_report_can_be_saved_again(tmp_path, version):
    old = ESSReport.load(DATA / f"report-v{version}")
    old.save(tmp_path)
    document = json.loads((tmp_path / "report.json").read_text("ascii"))
    jsonschema.validate(document, SCHEMA)
    assert document["schema_version"] == 3
    again = ESSReport.load(tmp_path)
    assert again.fingerprint() == old.fingerprint()
    assert again.average_ess() == old.average_ess()
