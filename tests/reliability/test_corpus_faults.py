"""Long analyses that meet bad texts, damaged files, full disks and other work."""

from __future__ import annotations

import errno
import gc
import json

import numpy as np
import pytest
import torch
from tiny_models import build_tiny

import hf_ess
from hf_ess.analysis import report_size
from hf_ess.analysis.checkpoint import DESCRIPTION, Checkpoint
from hf_ess.analysis.gathering import MeasuredPart
from hf_ess.report import folders

PART = "Long runs"
LENGTHS = (20, 33, 20, 9, 33, 12, 20)
BAD = 7  # a token on which the model with bad texts gives NaN


def rows(lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(10, 60, (n,), generator=generator).tolist() for n in lengths]


def analysed(model, texts, **options):
    return hf_ess.analyze(model, {"input_ids": texts}, progress=False, **options)


def arrays_of(report):
    return {
        (layer.name, name): getattr(layer, name)
        for layer in report.layers
        for name in ("entropy_ess", "capacity", "attainable_by_group", "residual", "error_bound")
    } | {
        (layer.name, tau): layer.tolerance_ess[tau]
        for layer in report.layers
        for tau in layer.tolerances
    }


@pytest.fixture
def picky():
    """A model that gives NaN for texts with a certain token, with finite weights."""
    model = build_tiny("llama")

    def spoil(module, arguments, output):
        return output.masked_fill((arguments[0] == BAD)[..., None], torch.nan)

    model.model.embed_tokens.register_forward_hook(spoil)
    return model


@pytest.mark.parametrize("name", ["llama", "mamba", "lfm2"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_checkpoint_changes_no_bit(tmp_path, tried, name, batch_size):
    model = build_tiny(name)
    options = {"batch_size": batch_size, "keep_singular_values": batch_size == 2}
    plain = analysed(model, rows(), **options)
    for _ in range(2):  # the second time everything is read back
        kept = analysed(model, rows(), checkpoint=tmp_path, **options)
        assert kept.fingerprint() == plain.fingerprint()
    tried(
        PART,
        "Attention, Mamba and a hybrid on texts of unequal length, with finished batches written "
        "to disk and read back",
        "The report has the fingerprint of one made in memory",
        times=2,
    )


def test_the_batch_size_changes_rounding_only(tried):
    model = build_tiny("llama").double()
    alone = arrays_of(analysed(model, rows()))
    together = arrays_of(analysed(model, rows(), batch_size=3))
    assert alone.keys() == together.keys()
    for key, values in alone.items():
        np.testing.assert_allclose(together[key], values, rtol=1e-9, atol=1e-12, err_msg=str(key))
    tried(
        PART,
        "Texts of four lengths one at a time, and three of a length together, in float64",
        "All values agree to 1e-9",
    )


def test_memory_holds_one_batch_while_it_measures(tmp_path, monkeypatch, tried):
    alive, write = [], Checkpoint.write

    def counted_write(self, batch, gathering):
        write(self, batch, gathering)
        alive.append(sum(type(thing) is MeasuredPart for thing in gc.get_objects()))

    monkeypatch.setattr(Checkpoint, "write", counted_write)
    model = build_tiny("llama")
    gc.collect()  # of what other tests have left
    analysed(model, rows((12,) * 20), checkpoint=tmp_path)
    layers = model.config.num_hidden_layers
    assert alive == [layers] * 20
    tried(
        PART,
        "What is in memory while 20 texts are measured with a checkpoint",
        "The measurements of one text at a time, and of no other",
        times=20,
    )


def test_nothing_measured_outlives_the_analysis():
    model = build_tiny("llama")
    gc.collect()
    gc.disable()  # which would find what recorders refer to, some time later
    try:
        analysed(model, rows())
        assert not any(type(thing) is MeasuredPart for thing in gc.get_objects())
    finally:
        gc.enable()


def test_a_text_that_fails_ends_the_analysis_unless_it_may_be_left_out(picky, tmp_path, tried):
    texts = rows()
    texts[2][5] = BAD  # runs together with texts 0 and 6
    texts[4][1] = BAD  # with text 1
    with pytest.raises(hf_ess.NonFiniteError):
        analysed(picky, texts, batch_size=3)
    others = analysed(picky, [text for text in texts if BAD not in text])
    options = {"batch_size": 3, "leave_out_failing": True, "positions": "all"}
    for folder in (None, tmp_path, tmp_path):
        with pytest.warns(UserWarning, match=r"2 of 7 texts could not be analysed"):
            report = analysed(picky, texts, checkpoint=folder, **options)
        assert [one["text"] for one in report.provenance["left_out"]] == ["sample 2", "sample 4"]
        assert "NaN or infinity" in report.provenance["left_out"][0]["reason"]
        assert [sample.length for sample in report.samples] == [20, 33, 9, 12, 20]
        assert "2 of 7 texts" in report.summary()
        assert arrays_of(report).keys() == arrays_of(others).keys()
        for key, values in arrays_of(others).items():
            np.testing.assert_array_equal(arrays_of(report)[key], values, err_msg=str(key))
    tried(
        PART,
        "Two of seven texts make the model give NaN, each in a batch with others",
        "A named error; with `leave_out_failing` both are named in the report, and the numbers of "
        "the others are those of an analysis without the two, to the bit",
        times=3,
    )


def test_texts_that_cannot_be_read_are_left_out_by_name(tokenizer, tmp_path, tried):
    path = tmp_path / "texts.jsonl"
    texts = ["w1 w2 w3 w4", "", "w5", "w6 w7 w8 w9", "\ud83d", " "]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    read = hf_ess.read_texts(path)
    model = build_tiny("llama")
    with pytest.raises(hf_ess.InvalidInputError, match=r"^Line 2 of .*texts\.jsonl is empty"):
        hf_ess.analyze(model, read, tokenizer, progress=False)
    with pytest.raises(hf_ess.InvalidInputError, match=r"^Line 3 of .* has 1 token"):
        hf_ess.analyze(model, [read[0], read[2]], tokenizer, progress=False)
    with pytest.raises(hf_ess.InvalidInputError, match=r"^Line 5 of .* no text that can be writ"):
        hf_ess.analyze(model, [read[0], read[4]], tokenizer, progress=False)
    with pytest.warns(UserWarning, match=r"4 of 6 texts .* The first: Line 2 of .* is empty\.$"):
        report = hf_ess.analyze(model, read, tokenizer, progress=False, leave_out_failing=True)
    places = [one["text"].partition(" of ")[0] for one in report.provenance["left_out"]]
    assert places == ["line 2", "line 3", "line 5", "line 6"]
    assert len(report.samples) == 2
    with pytest.raises(hf_ess.InvalidInputError, match="None of the 2 text"):
        hf_ess.analyze(model, read[1:3], tokenizer, progress=False, leave_out_failing=True)
    tried(
        PART,
        "Lines of a file that are empty, blank, one token long or half of an emoji",
        "An error that names file and line; with `leave_out_failing` all four are named in the "
        "report",
        times=4,
    )


def test_bad_weights_are_not_taken_for_bad_texts(tmp_path):
    model = build_tiny("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(hf_ess.NonFiniteError, match=r"model\.layers\.0\.mlp\.up_proj"):
        analysed(model, rows(), leave_out_failing=True, checkpoint=tmp_path)


def test_none_can_be_analysed(picky):
    with pytest.raises(hf_ess.InvalidInputError, match=r"None of the 2 text\(s\) can be analysed"):
        analysed(picky, [[BAD, 3, 4], [5, BAD, 6]], leave_out_failing=True)


def _flipped(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def _of_other_work(path):
    other = path.parent / "other"
    analysed(build_tiny("llama"), rows(seed=1), checkpoint=other)
    path.write_bytes((other / path.name).read_bytes())


DAMAGES = {
    "a bit is flipped": _flipped,
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "of other texts": _of_other_work,
    "another program's": lambda path: path.write_bytes(b"\x80\x04\x95 a pickle of bad intent"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_batch_is_measured_anew(tmp_path, tried, damage):
    model = build_tiny("llama")
    plain = analysed(model, rows(), checkpoint=tmp_path)
    DAMAGES[damage](tmp_path / "batch-000002.safetensors")
    with pytest.warns(UserWarning, match="Batch 2 in .* is damaged and is measured anew: it"):
        again = analysed(model, rows(), checkpoint=tmp_path)
    assert again.fingerprint() == plain.fingerprint()
    assert analysed(model, rows(), checkpoint=tmp_path).fingerprint() == plain.fingerprint()
    tried(
        PART,
        "The file of a finished batch with a flipped bit, cut, empty, of other texts, or a pickle",
        "A warning names it; the batch is measured anew, to the same numbers",
    )


def _other_weights(model):
    with torch.no_grad():
        model.model.norm.weight[-1] += 1e-3


OTHER = {
    "weights": (_other_weights, {}, "model.weights_sha256"),
    "configuration": (lambda m: setattr(m.config, "rms_norm_eps", 0.1), {}, "configuration"),
    "dtype": (lambda model: model.double(), {}, 'model.dtype: "float32" there, "float64" here'),
    "tolerances": (lambda _: None, {"tolerances": (0.5,)}, "settings.tolerances"),
    "batch size": (lambda _: None, {"batch_size": 2}, "settings.batch_size: 1 there, 2 here"),
    "length": (lambda _: None, {"max_length": 30}, "texts.token_ids_sha256"),
}


@pytest.mark.parametrize("what", OTHER)
def test_other_work_is_refused(tmp_path, tried, what):
    change, options, named = OTHER[what]
    model = build_tiny("llama")
    plain = analysed(model, rows(), checkpoint=tmp_path).fingerprint()
    change(model)
    with pytest.raises(hf_ess.InvalidInputError, match="checkpoint of another analysis") as error:
        analysed(model, rows(), checkpoint=tmp_path, **options)
    assert any(named in cause for cause in error.value.causes)
    assert analysed(build_tiny("llama"), rows(), checkpoint=tmp_path).fingerprint() == plain
    tried(
        PART,
        "Going on with other weights, configuration, dtype, tolerances, batch size or length",
        "Refused by an error that names the difference; the checkpoint is unharmed",
    )


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff"])
def test_a_checkpoint_that_does_not_say_of_what_it_is(tmp_path, content):
    model = build_tiny("llama")
    analysed(model, rows(), checkpoint=tmp_path)
    if content is None:
        (tmp_path / DESCRIPTION).unlink()
    else:
        (tmp_path / DESCRIPTION).write_bytes(content)
    with pytest.raises(hf_ess.HfEssError, match=DESCRIPTION if content != b"[]" else "another"):
        analysed(model, rows(), checkpoint=tmp_path)


def test_a_full_disk_keeps_what_is_finished(tmp_path, monkeypatch, tried):
    model, write = build_tiny("llama"), folders.write_durably
    plain = analysed(model, rows()).fingerprint()

    def write_until_full(path, data):
        if "batch-000003" in path.name:
            path.write_bytes(data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(folders, "write_durably", write_until_full)
    with pytest.raises(hf_ess.OutputPathError, match="No space left"):
        analysed(model, rows(), checkpoint=tmp_path)
    monkeypatch.undo()
    assert len(list(tmp_path.glob("batch-*"))) == 3
    assert analysed(model, rows(), checkpoint=tmp_path).fingerprint() == plain
    assert not list(tmp_path.glob(".*.tmp"))
    tried(
        PART,
        "The disk is full when a batch is written",
        "A named error; earlier batches are kept, and the next call goes on to the same numbers",
    )


def test_models_that_throw_dice_throw_the_same_ones(tmp_path, tried):
    model = build_tiny("llama")

    def shake(module, arguments, output):
        return output + 1e-3 * torch.randn_like(output)

    model.model.embed_tokens.register_forward_hook(shake)
    whole = analysed(model, rows(), checkpoint=tmp_path / "whole").fingerprint()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    analysed(model, rows(), checkpoint=tmp_path / "parts")
    assert torch.equal(torch.get_rng_state(), before)
    for number in (1, 4, 5):
        (tmp_path / "parts" / f"batch-{number:06d}.safetensors").unlink()
    assert analysed(model, rows(), checkpoint=tmp_path / "parts").fingerprint() == whole
    tried(
        PART,
        "A model that throws dice, with three of seven batches missing",
        "The same dice for the same batch: the numbers of one run, to the bit",
    )


def test_a_report_that_would_not_fit_is_refused_before_anything_is_measured(monkeypatch, tried):
    monkeypatch.setattr(report_size, "memory_bytes", lambda: 2**16)
    model = build_tiny("llama")
    with pytest.raises(hf_ess.MemoryBudgetError, match="The report of 7 texts at 32 positions"):
        analysed(model, rows(), on_progress=lambda _: pytest.fail("something was measured"))
    monkeypatch.setattr(report_size, "memory_bytes", lambda: None)
    assert analysed(model, rows()).layers
    tried(
        PART,
        "A report that needs more memory than the machine has",
        "Refused by name before anything is measured, with what would fit",
    )


def test_long_texts_are_cut(tokenizer, tried):
    words = " ".join(f"w{n % 50}" for n in range(40))
    model = build_tiny("llama")
    cut = hf_ess.analyze(model, [words, "w1 w2 w3"], tokenizer, max_length=16, progress=False)
    short = " ".join(words.split()[:16])
    own = hf_ess.analyze(model, [short, "w1 w2 w3"], tokenizer, progress=False)
    assert [sample.length for sample in cut.samples] == [16, 3]
    for key, values in arrays_of(own).items():
        np.testing.assert_array_equal(arrays_of(cut)[key], values)
    # The whole text was not measured, and is not what the report says it is of.
    assert cut.samples[0].text_sha256 is None
    assert cut.samples[1].text_sha256 is not None
    assert cut.provenance["settings"]["max_length"] == 16
    for wrong, error in ((1, hf_ess.InvalidInputError), ("16", hf_ess.InvalidTypeError)):
        with pytest.raises(error, match="max_length"):
            hf_ess.analyze(model, words, tokenizer, max_length=wrong)
