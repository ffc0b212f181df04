"""Reports that others made: nothing but two files is read, and nothing in them is believed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import safetensors.numpy
from hub.conftest import clean_client, hub
from reliability.hostile import Mark
from report.synthetic import make_report

import hf_ess
from hf_ess import ESSReport, HfEssError, InvalidInputError, ReportError
from hf_ess.hub import read_report, report_from_hub, section_with_marks
from hf_ess.report.leaderboard import report_folders
from hf_ess.report.storage import content_sha256
from hf_ess.space.downloads import Downloads
from hf_ess.space.gallery import Gallery
from hf_ess.space.links import parsed_link
from hf_ess.space.results import ResultStore
from hf_ess.space.view import view

__all__ = ["clean_client", "hub"]
PART = "Hostile input"
OUTSIDE = [
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "C:\\x",
    "file:///etc/passwd",
    "a\0b",
    "~/x",
    "./x",
]


@pytest.fixture
def folder(tmp_path):
    return make_report(2).save(tmp_path / "report")


def rewritten(folder, change):
    """The report with its content changed and its own checksum right, as its author would."""
    path = folder / "report.json"
    document = json.loads(path.read_text())
    change(document["content"])
    document["content_sha256"] = content_sha256(document["content"])
    path.write_text(json.dumps(document))


def use_all(folder):
    """Everything that is done with a report."""
    report = ESSReport.load(folder)
    report.summary()
    report.to_pandas(level="group")
    report.total_ess()
    section_with_marks(report)
    json.dumps(view(report), allow_nan=False)
    hf_ess.compare([report, report], force=True)


def _each(part, **changes):
    return lambda content: [entry.update(changes) for entry in content[part]]


def _deep(content):
    for _ in range(100):
        content["provenance"] = {"x": content["provenance"]}


CLAIMS = {
    "groups": _each("layers", groups=10**9),
    "endless groups": _each("layers", groups=10**30),
    "channels": _each("layers", multiplicity=10**15),
    "endless channels": _each("layers", multiplicity=10**400),
    "state": _each("layers", state_size=10**400),
    "index": _each("layers", index=10**400),
    "bound": _each("layers", residual_bound=10**400),
    "length": _each("samples", length=10**400, tokens=None, text_withheld=True),
    "positions": lambda content: content.update(positions=[10**30, 2, 3]),
    "tolerances": lambda content: content.update(tolerances=[10**400, 1, 2]),
    "window": lambda content: content.update(window=[1]),
    "no samples": lambda content: content.update(samples=[]),
    "no layers": lambda content: content.update(layers=[]),
    "depth": _deep,
    "bytes": lambda content: content["arrays"].update(bytes=10**400),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_reports_that_claim_what_cannot_be(folder, claim, tried):
    rewritten(folder, CLAIMS[claim])
    with pytest.raises(HfEssError):
        use_all(folder)
    tried(
        PART,
        "report.json claims impossible numbers or depths, with a right checksum",
        "A named error",
    )


def test_a_length_that_no_text_has_takes_no_memory(folder):
    def change(content):
        content["samples"][0].update(length=10**15, tokens=None, text_withheld=True)

    rewritten(folder, change)
    use_all(folder)


SHAPES = {
    "flat": np.zeros((2, 2)),
    "a number": np.array(1.0),
    "nothing": np.zeros((0, 0, 0)),
    "negative": np.full((1, 2, 3), -5.0),
    "infinite": np.full((1, 2, 3), np.inf),
    "bits": np.zeros((1, 2, 3), dtype=bool),
    "counts": np.full((1, 1, 3), 2**31 - 1, dtype=np.int32),
    "huge": np.full((1, 2, 3), 1e300),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_of_another_kind(folder, shape, tried):
    arrays = safetensors.numpy.load((folder / "arrays.safetensors").read_bytes())
    names = [name for name in arrays if not name.startswith("layer.00001")]
    for name in names:
        data = safetensors.numpy.save(arrays | {name: SHAPES[shape]})
        changed = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (folder / "arrays.safetensors").write_bytes(data)
        rewritten(folder, lambda content, new=changed: content["arrays"].update(new))
        try:
            use_all(folder)
        except HfEssError:
            continue
    tried(
        PART,
        "An array of a report has another shape, type or size, with right checksums",
        "A named error, or the report is shown; nothing else is raised",
        times=len(names),
    )


def _pipe(path):
    os.mkfifo(path)


def _endless(path):
    path.symlink_to("/dev/zero")


def _nested(path):
    path.mkdir()


@pytest.mark.parametrize("name", ["report.json", "arrays.safetensors"])
@pytest.mark.parametrize("kind", [_pipe, _endless, _nested])
def test_what_is_no_file(folder, name, kind, tried):
    (folder / name).unlink()
    kind(folder / name)
    with pytest.raises(ReportError, match="Cannot read"):
        ESSReport.load(folder)
    assert Gallery([str(folder)]).entries() == []
    tried(PART, "A file of a report is a pipe, a device or a folder", "A named error, no waiting")


@pytest.mark.parametrize("where", OUTSIDE)
def test_a_report_names_no_other_file(folder, where):
    rewritten(folder, lambda content: content["arrays"].update(file=where))
    assert ESSReport.load(folder).average_ess() == make_report(2).average_ess()


def test_links_in_a_folder_of_reports_are_not_followed(folder, tmp_path, tried):
    secret = make_report(1, seed=9).save(tmp_path / "elsewhere" / "secret")
    shared = tmp_path / "shared"
    shared.mkdir()
    shutil.copytree(folder, shared / "mine")
    (shared / "link").symlink_to(secret, target_is_directory=True)
    (shared / "copy").mkdir()
    for name in ("report.json", "arrays.safetensors"):
        (shared / "copy" / name).symlink_to(secret / name)
    assert [found.name for found in report_folders(shared)] == ["mine"]
    tried(
        PART,
        "A folder of reports holds symbolic links to others",
        "The leaderboard leaves them out",
    )


def test_pickles_beside_a_report_are_not_opened(folder, tmp_path, tried):
    mark = Mark(tmp_path)
    for name in ("report.pkl", "arrays.joblib", "arrays.npz", "arrays.npy", "config.pt"):
        (folder / name).write_bytes(mark.pickled)
    use_all(folder)
    for name in ("arrays.safetensors", "report.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(mark.pickled)
        with pytest.raises(ReportError, match="damaged"):
            ESSReport.load(folder)
        (folder / name).write_bytes(kept)
    assert not mark.is_there
    pickle.loads(mark.pickled)
    assert mark.is_there  # what it would have done
    tried(PART, "Pickles lie beside and in place of the files of a report", "Never run", times=7)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_elsewhere(name, tmp_path, tried):
    store = ResultStore(tmp_path / "results", 10**6)
    downloads = Downloads(tmp_path / "downloads")
    report = make_report(1)
    for use in (store.get, lambda key: store.put(key, report)):
        with pytest.raises(InvalidInputError):
            use(name)
    with pytest.raises(InvalidInputError):
        downloads.zip_of({name: report})
    assert parsed_link({"view": name}).keys == ()
    with pytest.raises(HfEssError):
        read_report(name)
    with pytest.raises(HfEssError):
        hf_ess.analyze(name, "a b")
    assert [path.name for path in tmp_path.rglob("*")] == ["results"]
    tried(
        PART,
        "Paths, addresses and null bytes as the name of a model, a report, a result, a download, "
        "a link",
        "A named error; nothing outside is read, nothing is written",
        times=6,
    )


@pytest.mark.parametrize(
    "name", ["analyze", "compare", "leaderboard", "recall", "modulate", "push"]
)
def test_null_bytes_at_the_command_line(name, run_command):
    status, out, err = run_command(name, "a\0b", *(["c"] if name in ("compare", "push") else []))
    assert (status, out.strip()) == (1, "") or name == "leaderboard"
    assert status == 1
    assert "Traceback" not in err


def test_a_report_is_the_same_after_all_that(folder):
    before = copy.deepcopy(ESSReport.load(folder).to_dict())
    use_all(folder)
    assert ESSReport.load(folder).to_dict() == before


@pytest.mark.parametrize("inside", ["../../../etc", "a/../../b", "..", "..\\..\\x", "a\0b", "/etc"])
def test_folders_of_a_repository_that_lead_out_of_it(hub, inside, run_command, tried):
    hub.repo("me/model", {"README.md": "# A model"})
    places = (f"me/model/{inside}", f"datasets/me/model/{inside}", f"me/model@{inside}")
    for place in places:
        with pytest.raises(InvalidInputError, match="repository"):
            read_report(place)
        assert Gallery([place]).entries() == []
        assert run_command("compare", place, "me/model")[0] == 1
    with pytest.raises(InvalidInputError, match="is no folder of a repository"):
        report_from_hub("me/model", folder=inside)
    assert hub.requests == []
    tried(
        PART,
        "A folder or a revision of a repository of the Hub leads out of it",
        "A named error, and the Hub is not asked",
        times=10,
    )
