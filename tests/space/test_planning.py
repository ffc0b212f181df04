"""Positions are as many as help, and as fit."""

from __future__ import annotations

import pytest

from hf_ess.errors import InvalidInputError, LimitError
from hf_ess.space.limits import Limits
from hf_ess.space.planning import MixerSize, plan

SMALL = [MixerSize(2, None)]
WIDE = [MixerSize(1536, 16)] * 24


def test_short_texts_are_measured_everywhere():
    planned = plan("auto", 256, SMALL, Limits())
    assert planned.positions == tuple(range(1, 256))
    assert planned.keep_singular_values
    assert planned.note == ""


def test_longer_ones_at_64_positions_at_most():
    planned = plan("auto", 257, SMALL, Limits())
    assert len(planned.positions) <= 64
    steps = {b - a for a, b in zip(planned.positions, planned.positions[1:], strict=False)}
    assert steps == {5}


def test_positions_are_thinned_until_the_spectra_fit():
    limits = Limits()
    planned = plan("auto", 256, WIDE, limits)
    kept = 4 * 24 * 1536 * 16 * len(planned.positions)
    assert limits.spectra_bytes / 2 < kept <= limits.spectra_bytes
    assert "of 255 positions are measured" in planned.note
    assert planned.keep_singular_values


def test_spectra_that_would_leave_too_few_positions_are_given_up():
    planned = plan("auto", 200, WIDE, Limits(spectra_bytes=2**24))
    assert not planned.keep_singular_values
    assert 16 <= len(planned.positions) <= 64
    assert "do not fit" in planned.note


def test_what_is_asked_for_is_measured_or_refused():
    assert plan([5, 3], 20, SMALL, Limits()).positions == (3, 5)
    assert plan(6, 20, SMALL, Limits()).positions == (6, 12, 18)
    assert len(plan("all", 500, SMALL, Limits()).positions) == 499
    with pytest.raises(LimitError, match=r"519 positions .* measures 512"):
        plan("all", 520, SMALL, Limits())
    with pytest.raises(LimitError, match=r"255 positions .* measures 113") as refused:
        plan("all", 256, WIDE, Limits())
    assert "auto" in str(refused.value)
    with pytest.raises(InvalidInputError, match="Position 20 is out of range"):
        plan([20], 20, SMALL, Limits())


def test_the_estimate_covers_what_is_kept():
    from tiny_models import build_tiny, tiny_input_ids

    import hf_ess

    for model_type in ("llama", "mamba", "jamba"):
        model = build_tiny(model_type)
        report = hf_ess.analyze(
            model, tiny_input_ids(model, length=30), positions="all", progress=False,
            keep_singular_values=True,
        )  # fmt: skip
        sizes = [MixerSize(layer.groups, layer.state_size) for layer in report.layers]
        kept = sum(layer.singular_values.nbytes for layer in report.layers)
        limits = Limits(spectra_bytes=kept)
        assert plan("all", 30, sizes, limits).keep_singular_values
        with pytest.raises(LimitError):
            plan("all", 30, sizes, Limits(spectra_bytes=kept // 2))
