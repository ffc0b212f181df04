"""Windows from rows of M: the values, bounds and memory of what never forms M."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from spectra.causal_matrices import (
    chunked,
    entropy,
    low_rank,
    naive_values,
    peaked_attention,
    previous_token,
    random_causal,
    sliding_average,
    uniform_average,
)
from torch.utils._python_dispatch import TorchDispatchMode

from hf_ess.errors import InvalidInputError, MemoryBudgetError, NonFiniteError
from hf_ess.operators import (
    ColumnScaled,
    ConvolutionOperator,
    DenseOperator,
    DifferentialAttentionOperator,
    LinearOperator,
    PlacedAttentionOperator,
    Product,
    RowScaled,
    ScoredAttentionOperator,
    SoftmaxAttentionOperator,
    StateSpaceOperator,
    Sum,
)
from hf_ess.operators.transitions import ScalarDecay
from hf_ess.spectra import Request, block_singular_values, dense_block_singular_values
from hf_ess.spectra import windowed as route
from hf_ess.spectra.windowed import WindowedSolver, windowed_block_singular_values

LENGTHS = [67, 96, 129]
WINDOWS = [(1, 1), (4, 4), (3, 9), (9, 3), (16, 16), (7, 500), (16, 1)]
MAKERS = {
    "attention": peaked_attention,
    "random": random_causal,
    "uniform": uniform_average,
    "rank3": lambda length: low_rank(length, 3),
    "sliding": lambda length: sliding_average(length, 5),
    "chunked": lambda length: chunked(length, 7),
    "shift": previous_token,
    "nothing": lambda length: torch.eye(length, dtype=torch.float64),
}
# Operators without zero rows and columns within windows: bounds equal those of whole matrices.
FULL = ["attention", "random", "uniform", "rank3"]


def features(length, heads=2, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 1, heads, length, width, generator=generator)


def attention(length, mask=None, heads=2):
    query, key, _ = features(length, heads)
    return SoftmaxAttentionOperator(query, key, mask)


def recurrence(length):
    keys, values, _ = features(length)
    return StateSpaceOperator(ScalarDecay(-keys[..., 0].abs()), keys, values)


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


OPERATORS = {
    "softmax": attention,
    "sliding window": lambda n: attention(n, causal(n).triu(-6)[None, None]),
    "bias": lambda n: attention(
        n, random_causal(n).float().masked_fill(~causal(n), -torch.inf)[None, None]
    ),
    "scored": lambda n: ScoredAttentionOperator(
        random_causal(n).masked_fill(~causal(n), -torch.inf)[None, None]
    ),
    "differential": lambda n: DifferentialAttentionOperator(attention(n, heads=4), 0.4),
    "placed": lambda n: PlacedAttentionOperator(
        attention(n), torch.arange(n).masked_fill(torch.arange(n) % 3 == 0, -1)
    ),
    "long filter": lambda n: ConvolutionOperator(features(n)[0, 0, :, :, 0], length=n),
    "rows scaled": lambda n: RowScaled(attention(n), features(n)[0, ..., 0]),
    "columns scaled": lambda n: ColumnScaled(attention(n), features(n)[0, ..., 0]),
    "sum": lambda n: Sum(attention(n), recurrence(n)),
    "product": lambda n: Product(attention(n), ConvolutionOperator(torch.ones(1, 3), length=n)),
}


def assert_matches(dense, spectra, window):
    """Every value within its bound of numpy's; of SVD within 1e-10 of the largest."""
    for head, matrix in enumerate(dense[0]):
        for place, position in enumerate(spectra.positions):
            expected = naive_values(matrix, position, window)
            values = spectra.values[0, head, place]
            slack = 1e-13 * (1 + float(expected[0]))
            bound = spectra.value_errors()[0, head, place, : len(expected)]
            error = (values[: len(expected)] - expected).abs()
            assert (error <= bound + slack).all(), position
            if not spectra.from_squares[0, head, place]:
                assert float(error.max()) <= 1e-10 * float(expected[0])
            assert not values[len(expected) :].any()
            assert entropy(values) == pytest.approx(entropy(expected), abs=1e-5)


@pytest.mark.parametrize("method", ["auto", "gram", "svd"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("maker", MAKERS)
def test_values_match_the_oracle_at_all_positions(maker, window, method):
    matrix = MAKERS[maker](67)
    request = Request(tuple(range(1, 67)), window, method)
    spectra = windowed_block_singular_values(DenseOperator(matrix), request)
    assert spectra.window == window
    assert_matches(matrix[None, None], spectra, window)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_that_is_formed(name, length):
    operator = OPERATORS[name](length)
    positions = (1, 2, 3, 20, 21, 40, length - 3, length - 2, length - 1)
    request = Request(positions, (11, 14), tolerance_floor=1e-5)
    spectra = windowed_block_singular_values(operator, request)
    assert_matches(operator.to_dense(), spectra, (11, 14))


@pytest.mark.parametrize("positions", [(1,), (128,), (1, 128), (60, 61, 62), (5, 50, 51, 90)])
def test_any_choice_of_positions(positions):
    operator = attention(129)
    whole = windowed_block_singular_values(operator, Request(tuple(range(1, 129)), (9, 12)))
    some = windowed_block_singular_values(operator, Request(positions, (9, 12)))
    places = [position - 1 for position in positions]
    width = some.values.shape[-1]
    torch.testing.assert_close(some.values, whole.values[:, :, places, :width], rtol=0, atol=1e-9)
    assert torch.equal(some.sizes, whole.sizes[:, :, places])


@pytest.mark.parametrize("floor", [None, 1e-12, 1e-8, 1e-5])
@pytest.mark.parametrize("method", ["auto", "gram", "svd"])
@pytest.mark.parametrize("maker", FULL)
def test_bounds_flags_and_names_are_those_of_whole_matrices(maker, method, floor):
    matrix = MAKERS[maker](96)
    request = Request(tuple(range(1, 96)), (12, 10), method, floor)
    rows = windowed_block_singular_values(DenseOperator(matrix), request)
    whole = dense_block_singular_values(matrix[None, None], request)
    torch.testing.assert_close(rows.error_bound, whole.error_bound, rtol=1e-7, atol=0)
    assert torch.equal(rows.sizes, whole.sizes)
    assert torch.equal(rows.from_squares, whole.from_squares)
    assert (rows.method, rows.reason) == (whole.method, whole.reason)
    assert ((rows.values - whole.values).abs() <= rows.value_errors() + whole.value_errors()).all()


@pytest.mark.parametrize("maker", ["sliding", "chunked", "nothing"])
def test_zeros_within_windows_are_no_values(maker):
    matrix = MAKERS[maker](96)
    request = Request(tuple(range(1, 96)), (12, 10))
    rows = windowed_block_singular_values(DenseOperator(matrix), request)
    whole = dense_block_singular_values(matrix[None, None], request)
    assert (rows.sizes <= whole.sizes).all()
    assert (rows.error_bound <= whole.error_bound * (1 + 1e-7)).all()
    if maker == "nothing":
        assert not rows.sizes.any()
        assert not rows.error_bound.any()


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_scaling_the_operator_scales_its_values(scale):
    matrix = peaked_attention(67)
    request = Request((9, 33, 60), (8, 8))
    plain = windowed_block_singular_values(DenseOperator(matrix), request)
    scaled = windowed_block_singular_values(DenseOperator(matrix * scale), request)
    error = (scaled.values / scale - plain.values).abs()
    assert (error <= 2 * plain.error_bound[..., None]).all()
    torch.testing.assert_close(scaled.error_bound / scale, plain.error_bound)


@pytest.mark.parametrize("step", [1, 7, 64, 129])
def test_rows_may_come_in_any_pieces(step):
    operator = attention(129)
    dense, request = operator.to_dense(), Request((1, 30, 31, 100, 128), (13, 9))
    solver = WindowedSolver(operator, slice(0, 2), request)
    for start in range(0, 129, step):
        solver.add(dense[:, :, start : start + step], start)
    whole = dense_block_singular_values(dense, request)
    torch.testing.assert_close(solver.spectra().values, whole.values, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("first_row", "first_column"), [(31, 0), (20, 22)])
def test_rows_and_columns_that_a_window_takes_must_come(first_row, first_column):
    operator = attention(129)
    solver = WindowedSolver(operator, slice(0, 2), Request((30,), (13, 9)))
    block = operator.to_dense_block(None, slice(first_row, 60), slice(first_column, 129))
    with pytest.raises(InvalidInputError, match="row 30 and column 21"):
        solver.add(block, first_row, first_column)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_batches_do_not_matter(threads, monkeypatch):
    operator = attention(129)
    request = Request(tuple(range(1, 129)), (6, 6))
    expected = windowed_block_singular_values(operator, request)
    monkeypatch.setattr(route, "CACHED_BYTES", 5 * 6 * 6 * 8)
    monkeypatch.setattr(route, "LEAST_ROWS", 10)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        spectra = windowed_block_singular_values(operator, request)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(spectra.values, expected.values, rtol=0, atol=1e-9)
    assert torch.equal(spectra.sizes, expected.sizes)


@pytest.mark.parametrize("maker", ["softmax", "sliding window", "placed"])
def test_operators_together_agree_with_each_alone(maker, monkeypatch):
    """As on a GPU, where blocks of all operators make one batch."""
    operator, request = OPERATORS[maker](96), Request(tuple(range(1, 96)), (11, 14), "auto", 1e-8)
    expected = windowed_block_singular_values(operator, request)
    monkeypatch.setattr(route, "_operators_at_once", lambda _, count: count)
    together = windowed_block_singular_values(operator, request)
    assert torch.equal(together.sizes, expected.sizes)
    assert torch.equal(together.from_squares, expected.from_squares)
    torch.testing.assert_close(together.error_bound, expected.error_bound, rtol=1e-6, atol=0)
    bound = together.value_errors() + expected.value_errors()
    assert ((together.values - expected.values).abs() <= bound + 1e-13).all()


def test_short_windows_take_this_route_and_long_ones_form_the_matrix():
    operator = RowsOnly(attention(96))
    block_singular_values(operator, 8, window=(24, 96))
    with pytest.raises(AssertionError, match="whole matrix"):
        block_singular_values(operator, 8, window=(25, 3))


class RowsOnly(LinearOperator):
    """Notes which entries are formed, and refuses to form all."""

    def __init__(self, part):
        self._part = part
        self.batch, self.groups, self.length = part.shape[:3]
        self.device = part.device
        self.formed = []

    batch = groups = length = device = None

    def to_dense(self, groups=None):
        raise AssertionError("the whole matrix was formed")

    def block_bytes_per_group(self, rows, columns):
        return self._part.block_bytes_per_group(rows, columns)

    def to_dense_block(self, groups=None, rows=None, columns=None):
        self.formed.append((rows, columns))
        return self._part.to_dense_block(groups, rows, columns)


def test_only_rows_and_columns_of_windows_are_formed_and_each_once():
    operator = RowsOnly(attention(400, heads=1))
    windowed_block_singular_values(operator, Request((50, 200, 204, 399), (8, 5)))
    rows = [row for rows, _ in operator.formed for row in range(rows.start, rows.stop)]
    assert rows == [*range(50, 58), *range(200, 212), 399]
    assert [columns.start for _, columns in operator.formed] == [45, 195, 394]


class Largest(TorchDispatchMode):
    """The most elements of any tensor that torch makes meanwhile, views left out."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                size = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.elements = max(self.elements, size)
        return result


@pytest.fixture
def one_thread():
    """What other threads make is not seen."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("length", [512, 1024, 2048])
def test_memory_is_linear_in_the_length(length, monkeypatch):
    monkeypatch.setattr(route, "STREAMED_BYTES", 2**20)
    operator = attention(length, heads=1)
    request = Request(tuple(range(1, length, 37)), (32, 32))
    with Largest() as largest:
        spectra = windowed_block_singular_values(operator, request)
    assert torch.isfinite(spectra.values).all()
    # A batch of blocks, or the fewest rows that are formed together.
    assert largest.elements <= max(len(request.positions) * 32**2, 16 * length)


def test_a_tight_budget_forms_fewer_rows_with_the_same_result():
    operator = RowsOnly(attention(700))
    request = Request(tuple(range(1, 700, 11)), (16, 16))
    roomy = windowed_block_singular_values(operator, request)
    widest = max(rows.stop - rows.start for rows, _ in operator.formed)
    operator.formed.clear()
    tight = windowed_block_singular_values(operator, request, memory_budget=2**20)
    assert max(rows.stop - rows.start for rows, _ in operator.formed) < widest / 4
    torch.testing.assert_close(tight.values, roomy.values, rtol=0, atol=1e-9)


def enough_for(error):
    return int(error.fix.split("memory_budget to ")[1].split(" bytes")[0])


def test_too_small_a_budget_says_what_is_needed():
    operator, request = attention(700), Request((5, 300), (16, 16))
    with pytest.raises(MemoryBudgetError, match=r"Windows of 16 x 16 .* length 700") as caught:
        windowed_block_singular_values(operator, request, memory_budget=1000)
    needed = enough_for(caught.value)
    windowed_block_singular_values(operator, request, memory_budget=needed)
    with pytest.raises(MemoryBudgetError):
        windowed_block_singular_values(operator, request, memory_budget=needed - 1)
    with pytest.raises(MemoryBudgetError):
        block_singular_values(operator, [5, 300], window=16, memory_budget=needed - 1)


def needed(operator, request):
    with pytest.raises(MemoryBudgetError) as caught:
        windowed_block_singular_values(operator, request, memory_budget=1)
    return enough_for(caught.value)


def test_a_budget_covers_the_band_and_blocks_of_every_thread(monkeypatch):
    operator, window = attention(700, heads=1), (300, 90)
    monkeypatch.setattr(route, "_workers", lambda _: 1)
    one, many = (needed(operator, Request(tuple(range(350, stop)), window)) for stop in (351, 700))
    assert one > 2 * 600 * (600 + 90) * 8
    assert many - one > route.CACHED_BYTES
    monkeypatch.setattr(route, "_workers", lambda _: 4)
    # Three threads more, each with blocks that fill its cache.
    assert needed(operator, Request(tuple(range(350, 700)), window)) - many > 3 * route.CACHED_BYTES


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(bad):
    operator = attention(96)
    operator.query[0, 1, 50] = bad
    with pytest.raises(NonFiniteError, match="1 of 2 operators"):
        windowed_block_singular_values(operator, Request((48,), (6, 6)))


def test_the_windowed_count_is_a_lower_bound():
    operator = attention(129)
    whole = block_singular_values(operator, "all").values
    windows = block_singular_values(operator, "all", window=(16, 16)).values
    for tolerance in (1e-1, 1e-3):
        assert ((windows > tolerance).sum(-1) <= (whole > tolerance).sum(-1)).all()


def test_results_of_inference_mode_are_ordinary_tensors():
    with torch.inference_mode():
        spectra = block_singular_values(attention(96), "all", window=4)
    assert not spectra.values.is_inference()
    assert np.isfinite(spectra.values.numpy()).all()
