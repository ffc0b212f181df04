from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from report.synthetic import TOLERANCES, UNSUPPORTED, make_layer, make_report, unverified

import hf_ess
from hf_ess.errors import OutputPathError, ReportError
from hf_ess.report import ESSReport, check_writable
from hf_ess.report.arrays import pack, unpack
from hf_ess.report.layer import GRIDS
from hf_ess.report.schema import ARRAYS, CONTENT, DOCUMENT, LAYER, SAMPLE
from hf_ess.report.schema import UNSUPPORTED as REFUSED
from hf_ess.report.storage import content_sha256

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/schema/report-v3.schema.json").read_text("utf-8")
)


@pytest.fixture
def report():
    common = {"lengths": (12, 7), "positions": (2, 5, 9)}
    below = {tau: np.full((2, 2, 3), tau < 1e-4) for tau in TOLERANCES}
    layers = [
        make_layer(0, **common, below_floor=below, undecided=dict.fromkeys(TOLERANCES, 1)),
        make_layer(1, **common, state_size=4, call=1, singular_values=np.ones((2, 2, 3, 5))),
        make_layer(2, **common, **unverified()),
    ]
    report = make_report(
        layers,
        **common,
        unsupported=[UNSUPPORTED],
        warnings=["a \x1b[31mwarning\u2028 of 日本"],
        window=(8, 4),
        relative=True,
        complete=False,
        incomplete_reason="interrupted",
    )
    report.samples[1].tokens = ["\ud800", "\n", "\U0001f600", "", "a", "b", "c"]
    report.samples[1].text_sha256 = None
    return report


def same_bits(left, right):
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and (np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes())
    )


def test_round_trip_is_exact(report, tmp_path):
    assert report.save(tmp_path) == tmp_path
    loaded = ESSReport.load(str(tmp_path))
    for name in (
        "unsupported", "tolerances", "relative", "window", "scope", "complete",
        "incomplete_reason", "provenance", "warnings", "created_at",
    ):  # fmt: skip
        assert getattr(loaded, name) == getattr(report, name)
    assert same_bits(loaded.positions, report.positions)
    for mine, theirs in zip(report.samples, loaded.samples, strict=True):
        assert (mine.length, mine.tokens) == (theirs.length, theirs.tokens)
        assert mine.text_sha256 == theirs.text_sha256
        assert (mine.text_withheld, theirs.text_withheld) == (False, False)
        assert same_bits(mine.token_ids, theirs.token_ids)
    for mine, theirs in zip(report.layers, loaded.layers, strict=True):
        for name in ("index", "name", "call", "mixer", "groups", "multiplicity", "state_size"):
            assert getattr(mine, name) == getattr(theirs, name)
        for name in ("verified", "residual_bound", "reason", "method", "tolerances"):
            assert getattr(mine, name) == getattr(theirs, name)
        for name in ("entropy_ess", "residual", "positions", *GRIDS):
            assert same_bits(getattr(mine, name), getattr(theirs, name)), name
        for tau in TOLERANCES:
            assert same_bits(mine.tolerance_ess[tau], theirs.tolerance_ess[tau])
            assert same_bits(mine.undecided[tau], theirs.undecided[tau])
            assert same_bits(mine.below_floor[tau], theirs.below_floor[tau])
        assert (mine.singular_values is None) == (theirs.singular_values is None)
    assert same_bits(report.layers[1].singular_values, loaded.layers[1].singular_values)
    assert loaded.fingerprint() == report.fingerprint()
    assert loaded.summary() == report.summary()


@pytest.mark.parametrize(
    "values",
    [
        np.full((2, 3, 4), 7.0),
        np.arange(24.0).reshape(2, 3, 4),
        np.full((1, 2, 2), np.nan),
        np.full((1, 2, 2), -0.0),
        np.full((1, 1, 1), 2.0**31),
        np.full((1, 1, 1), -3.0),
        np.array([[[0.5, np.nan]]]),
        np.array([[[True, False]], [[True, True]]]),
    ],
)
def test_packing_is_undone_exactly(values):
    packed = pack(values)
    assert packed.nbytes <= values.nbytes
    assert same_bits(unpack(packed, values.shape[1]), values)


def test_the_document_is_valid_canonical_and_repeatable(report, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    report.save(first)
    report.save(second)
    text = (first / "report.json").read_text("ascii")
    assert text == (second / "report.json").read_text("ascii")
    assert (first / "arrays.safetensors").read_bytes() == (
        second / "arrays.safetensors"
    ).read_bytes()
    document = json.loads(text)
    jsonschema.validate(document, SCHEMA)
    assert text == json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n"
    later = make_report(created_at="2001-01-01T00:00:00+00:00")
    assert later.fingerprint() == make_report().fingerprint()


def test_schema_file_and_hand_written_check_agree():
    definitions, content = SCHEMA["$defs"], SCHEMA["properties"]["content"]
    for form, described in (
        (DOCUMENT, SCHEMA),
        (CONTENT, content),
        (ARRAYS, content["properties"]["arrays"]),
        (LAYER, definitions["layer"]),
        (SAMPLE, definitions["sample"]),
        (REFUSED, definitions["unsupported"]),
    ):
        assert set(form) == set(described["required"]) == set(described["properties"])


def test_saving_over_an_older_report(report, tmp_path):
    make_report().save(tmp_path)
    with pytest.raises(OutputPathError, match="holds a report already"):
        report.save(tmp_path, overwrite=False)
    report.save(tmp_path)
    assert ESSReport.load(tmp_path).fingerprint() == report.fingerprint()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "arrays.safetensors",
        "report.json",
    ]


def edited(folder, change, *, honest_hash=False):
    path = folder / "report.json"
    document = json.loads(path.read_text("ascii"))
    change(document)
    if honest_hash:
        document["content_sha256"] = content_sha256(document["content"])
    path.write_text(json.dumps(document), "ascii")


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


DAMAGES = {
    "no json": (lambda f: (f / "report.json").unlink(), "Cannot read"),
    "no arrays": (lambda f: (f / "arrays.safetensors").unlink(), "Cannot read"),
    "cut json": (lambda f: cut(f / "report.json"), "no valid JSON"),
    "cut arrays": (lambda f: cut(f / "arrays.safetensors"), "bytes instead of"),
    "empty json": (lambda f: (f / "report.json").write_bytes(b""), "no valid JSON"),
    "binary json": (lambda f: (f / "report.json").write_bytes(b"\xff\xfe\x00"), "no valid JSON"),
    "nested json": (lambda f: (f / "report.json").write_bytes(b"[" * 100_000), "no valid JSON"),
    "list": (lambda f: (f / "report.json").write_text("[]"), "schema_version is None"),
    "nan": (lambda f: (f / "report.json").write_text('{"schema_version": NaN}'), "NaN"),
    "bit": (lambda f: flip_a_bit(f / "arrays.safetensors"), "SHA-256"),
    "edited": (lambda f: edited(f, lambda d: d["content"].update(scope="all")), "SHA-256"),
    "newer": (lambda f: edited(f, lambda d: d.update(schema_version=4)), "newer hf_ess"),
    "version true": (lambda f: edited(f, lambda d: d.update(schema_version=True)), "version is"),
    "no content": (lambda f: edited(f, lambda d: d.pop("content")), "lacks 'content'"),
    "extra": (lambda f: edited(f, lambda d: d["content"].update(x=1)), "unknown key 'x'"),
    "type": (
        lambda f: edited(f, lambda d: d["content"]["layers"][1].update(groups=2.5)),
        r"content.layers\[1\].groups is of type float",
    ),
    "item": (
        lambda f: edited(f, lambda d: d["content"].update(positions=["a"])),
        r"content.positions\[0\] is of type str",
    ),
    "no object": (
        lambda f: edited(f, lambda d: d["content"].update(samples=[3])),
        r"content.samples\[0\] is no object",
    ),
    "layer too many": (
        lambda f: edited(
            f, lambda d: d["content"]["layers"].append(d["content"]["layers"][0]), honest_hash=True
        ),
        "contradicts itself",
    ),
    "other tolerances": (
        lambda f: edited(f, lambda d: d["content"]["tolerances"].append(2.0), honest_hash=True),
        "contradicts itself",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(report, tmp_path, damage):
    report.save(tmp_path)
    harm, message = DAMAGES[damage]
    harm(tmp_path)
    with pytest.raises(ReportError, match=message) as caught:
        ESSReport.load(tmp_path)
    assert "What to do" in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ReportError, match="nowhere"):
        ESSReport.load(tmp_path / "nowhere")


def raise_full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_in_the_place_of_the_folder(report, tmp_path):
    (tmp_path / "file").write_text("x")
    for call in (report.save, report.plot_all, check_writable):
        with pytest.raises(OutputPathError):
            call(tmp_path / "file")


def test_check_writable_creates_and_removes(tmp_path):
    folder = tmp_path / "a" / "b"
    check_writable(folder, 1, remove_created=True)
    assert not (tmp_path / "a").exists()
    check_writable(folder, 1)
    assert list(folder.iterdir()) == []
    check_writable(folder, 1, remove_created=True)
    assert folder.exists()


def test_check_writable_sees_a_full_disk(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    check_writable(tmp_path, 2**20)
    with pytest.raises(OutputPathError, match=r"1\.0 MiB free"):
        check_writable(tmp_path / "new", 2**21)
    assert not (tmp_path / "new").exists()


def test_check_writable_sees_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", raise_full)
    with pytest.raises(OutputPathError, match="No space left"):
        check_writable(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert list(tmp_path.iterdir()) == []


def test_loading_needs_no_heavy_package(report, tmp_path):
    report.save(tmp_path)
    code = (
        "import sys; import hf_ess.report as r; "
        "light = set(sys.modules); "
        "report = r.ESSReport.load(sys.argv[1]); report.average_ess(); report.utilization(0.1); "
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'rich'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert 'safetensors' not in light"
    )
    root = Path(hf_ess.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
