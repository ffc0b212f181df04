from __future__ import annotations

import numpy as np
import pytest
from report.synthetic import TOLERANCES, make_layer, make_report, unverified

from hf_ess.errors import InvalidInputError, ReportError
from hf_ess.report import SampleInfo


def test_arrays_broadcast_and_follow_the_entropy():
    layer = make_layer(lengths=(12, 6), positions=(2, 5, 9), capacity=[[[1, 2, 3]]])
    assert layer.capacity.shape == (2, 2, 3)
    assert np.isnan(layer.capacity[1, :, 2]).all()
    for array in (
        layer.attainable_by_group,
        layer.error_bound,
        layer.largest_singular_value,
        layer.tolerance_ess[0.1],
        layer.undecided[0.1],
    ):
        assert (np.isnan(array) == np.isnan(layer.entropy_ess)).all()
    assert not layer.below_floor[0.1][1, :, 2].any()


def test_attainable_is_the_largest_over_samples_and_groups():
    layer = make_layer(lengths=(12, 6), positions=(2, 5, 9, 11))
    assert layer.attainable.tolist() == [2.0, 5.0, 3.0, 1.0]
    nothing = make_layer(lengths=(6,), positions=(2, 9))
    assert nothing.attainable[0] == 2
    assert np.isnan(nothing.attainable[1])


def test_values_by_metric():
    layer = make_layer()
    assert layer.values("entropy") is layer.entropy_ess
    assert layer.values(np.float64(1e-3)) is layer.tolerance_ess[1e-3]
    assert layer.values(np.float32(1e-3)) is layer.tolerance_ess[1e-3]
    for metric in (0.5, "tolerance", True, None):
        with pytest.raises(InvalidInputError, match=r"'entropy', 0.1, 0.001, 1e-05"):
            layer.values(metric)


def test_singular_values_are_kept_as_float32_and_masked():
    layer = make_layer(lengths=(12, 6), singular_values=np.ones((2, 2, 3, 4)))
    assert layer.singular_values.dtype == np.float32
    assert np.isnan(layer.singular_values[1, :, 2]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entropy_ess": np.ones((1, 2, 4))}, "shape"),
        ({"residual": np.zeros(2)}, "shape"),
        ({"capacity": np.ones((1, 3, 3))}, "capacity has shape"),
        ({"capacity": np.nan}, "capacity is NaN"),
        ({"undecided": {0.5: 0}}, "other tolerances"),
        ({"singular_values": np.ones((1, 2, 3))}, "singular_values"),
        ({"multiplicity": 0}, "at least 1"),
        ({"residual_bound": np.inf}, "finite"),
        ({"verified": False}, "reason"),
        ({"reason": "odd"}, "reason"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        make_layer(**changes)


def test_a_value_in_some_groups_only_is_refused():
    entropy = np.ones((1, 2, 3))
    entropy[0, 1, 2] = np.nan
    with pytest.raises(InvalidInputError, match="some groups only"):
        make_layer(entropy_ess=entropy)


def test_report_checks_its_layers():
    with pytest.raises(InvalidInputError, match="positions"):
        make_report([make_layer(positions=(1, 2, 3))])
    with pytest.raises(InvalidInputError, match="tolerances"):
        make_report([make_layer()], tolerances=(0.1,))
    with pytest.raises(InvalidInputError, match="samples"):
        make_report([make_layer(lengths=(12, 12))])
    with pytest.raises(InvalidInputError, match="beyond the end"):
        make_report([make_layer()], samples=[SampleInfo(length=9, token_ids=range(9))])
    with pytest.raises(InvalidInputError, match="NaN inside"):
        make_report([make_layer(lengths=(9,))], lengths=(12,))
    with pytest.raises(InvalidInputError, match="incomplete"):
        make_report(complete=False)


def test_a_window_may_leave_positions_out():
    report = make_report([make_layer(lengths=(9,))], lengths=(12,), window=[4, 4])
    assert report.window == (4, 4)
    assert np.isnan(report.total_ess_by_position()[2])


def test_samples_check_their_tokens():
    with pytest.raises(InvalidInputError, match="tokens"):
        SampleInfo(length=2, tokens=["a"], token_ids=[1, 2])
    with pytest.raises(InvalidInputError, match="token_ids"):
        SampleInfo(length=2, token_ids=[1])


def test_provenance_becomes_plain():
    report = make_report(provenance={"dtype": np.dtype("f4"), "n": np.int64(3), "t": (1, np.inf)})
    assert report.provenance == {"dtype": "float32", "n": 3, "t": [1, "inf"]}


def test_nothing_verified_raises_instead_of_nan():
    report = make_report([make_layer(**unverified())])
    for call in (
        report.average_ess,
        report.standard_error,
        report.total_ess,
        report.total_ess_by_position,
        report.utilization,
        report.plot,
    ):
        with pytest.raises(ReportError, match="No layer"):
            call()
    assert "No layer of this report is verified" in report.summary()
    assert report.to_dict()["model"] is None
    assert report.metrics == ("entropy", *TOLERANCES)
