"""Every form of a matrix holds the same values and multiplies alike, within the rounding that is stated."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd.inference import Coded, Looked, Rows, resident
from dsd.inference.kernels import bounds, most_threads
from dsd.inference.matrices import lookup

ROOT = Path(__file__).parents[2]
FORMS = [Rows, Coded, Looked]


def drawn(rows, width, *, kept=0.2, values=20, seed=0):
    random = torch.Generator().manual_seed(seed)
    book = torch.randn(values, generator=random)
    index = torch.randint(0, values, (rows, width), generator=random)
    return book[index] * (torch.rand(rows, width, generator=random) < kept)


def within_rounding(found, weight, x):
    """At most 1e-5 of |W| @ |x| where signs are mixed, and always n 2^-23 of it, which is what the module says."""
    exact, size = weight.double() @ x.double(), weight.double().abs() @ x.double().abs()
    assert found.shape == exact.shape
    most = weight.count_nonzero(1)[:, None] * 2.0**-23
    assert bool(
        ((found - exact).abs() <= (most if bool((exact.abs() == size).all()) else most.clamp(max=1e-5)) * size).all()
    )


@pytest.mark.parametrize("form", FORMS)
@given(
    rows=st.integers(1, 40), width=st.integers(1, 70), batch=st.integers(1, 70), kept=st.sampled_from([0, 0.05, 0.3, 1]),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_products_are_those_of_the_dense_matrix(form, rows, width, batch, kept, seed):
    weight = drawn(rows, width, kept=kept, seed=seed)
    x = torch.randn(width, batch, generator=torch.Generator().manual_seed(seed))
    matrix = form.of(weight)
    assert torch.equal(matrix.dense(), weight)
    within_rounding(matrix.columns(x), weight, x)
    within_rounding(matrix(x.t()).t(), weight, x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_wide_matrix_in_blocks_of_columns(form, batch):
    weight, x = drawn(13, 20_000, kept=0.1), torch.randn(20_000, batch)
    matrix = form.of(weight)
    assert torch.equal(matrix.dense(), weight)
    within_rounding(matrix.columns(x), weight, x)


@pytest.mark.parametrize("form", FORMS)
def test_an_uncontiguous_input(form):
    weight, x = drawn(30, 50), torch.randn(9, 100)[:, ::2]
    within_rounding(form.of(weight)(x).t(), weight, x.t())


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("batch", [1, 7, 200])
def test_any_number_of_threads_gives_the_same_and_stays(count, batch):
    torch.set_num_threads(count)
    weight, x = drawn(50, 90), torch.randn(90, batch)
    within_rounding(Coded.of(weight).columns(x), weight, x)
    assert torch.get_num_threads() == count


def test_indices_are_int32_and_take_the_bytes_that_they_should():
    weight = drawn(300, 500)
    kept = int(weight.count_nonzero())
    rows, coded, looked = Rows.of(weight), Coded.of(weight), Looked.of(weight)
    assert all(part.col_indices().dtype == part.crow_indices().dtype == torch.int32 for part in rows.parts())
    assert resident(rows) == 8 * kept + 4 * 301
    assert resident(coded) == 3 * kept + 4 * 301 + 4 * 20
    assert resident(looked) == 300 * 500 + 4 * 21


def test_more_values_than_a_byte_can_number():
    weight = torch.arange(1.0, 258).reshape(1, 257)
    for form in (Coded, Looked):
        with pytest.raises(ValueError, match="more than 256 different values"):
            form.of(weight)
    assert torch.equal(Coded.of(weight[:, :256]).dense(), weight[:, :256])
    for form in (Coded, Looked):
        with pytest.raises(ValueError, match="or NaN, which a byte cannot number"):
            form.of(torch.tensor([[1.0, 0.0, torch.nan]]))


@pytest.mark.parametrize("form", [Coded, Looked])
def test_a_full_codebook_of_8_bits_and_the_0(form):
    """257 values: what Deep Compression's convolutions have."""
    random = torch.Generator().manual_seed(0)
    book = torch.cat([torch.zeros(256), torch.linspace(-1, 1, 256)])
    weight = torch.cat([book, book[torch.randint(0, 512, (61 * 37 - 512,), generator=random)]]).reshape(61, 37)
    x = torch.randn(37, 5, generator=random)
    matrix = form.of(weight)
    assert len(weight.unique()) == 257
    assert torch.equal(matrix.dense(), weight)
    within_rounding(matrix.columns(x), weight, x)
    again = form.of(weight)
    again.load_state_dict(matrix.state_dict())
    assert torch.equal(again.dense(), weight)
    assert resident(Looked.of(weight)) == 61 * 37 + -(-61 * 37 // 8) + 4 * 256


def test_values_that_only_the_end_of_a_large_tensor_has():
    values = torch.cat([torch.zeros(70_000), torch.tensor([3.0, -2.0])])
    book, index = lookup(values)
    assert book.tolist() == [-2, 0, 3]
    assert torch.equal(book[index.int()], values)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 8))
def test_rows_are_split_by_their_weights(counts, parts):
    start = torch.tensor([0, *counts]).cumsum(0).numpy()
    cut = bounds(start, parts)
    assert cut[0] == 0
    assert cut[-1] == len(counts)
    assert (cut[1:] >= cut[:-1]).all()
    loads = start[cut[1:]] - start[cut[:-1]]
    assert loads.max() <= start[-1] / parts + max(counts)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 8])
def test_sums_of_one_sign_stay_within_the_stated_rounding(form, batch):
    weight = 0.3 * (drawn(4, 25_088, kept=0.3, values=1) != 0).float()
    within_rounding(form.of(weight).columns(torch.full((25_088, batch), 0.7)), weight, torch.full((25_088, batch), 0.7))


def test_threads_may_share_a_matrix_from_the_first_product_on():
    x = torch.ones(20_000, 1)
    for seed in range(20):
        weight = drawn(50, 20_000, kept=0.01, seed=seed)
        matrix = Rows.of(weight)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(matrix.columns, [x] * 8):
                within_rounding(found, weight, x)


@pytest.mark.parametrize("form", [Rows, Coded])
def test_another_type_of_number_is_refused_by_name(form):
    matrix, x = form.of(drawn(20, 30)), torch.rand(30, 1)
    for kind in (torch.float64, torch.bfloat16):
        with pytest.raises(ValueError, match=r"multiplies float32 only: leave \.double"):
            matrix.to(kind).columns(x)
    assert matrix.float().columns(x).shape == (20, 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_product_is_of_the_values_that_are_there_now(form):
    matrix, x = form.of(drawn(20, 30)), torch.randn(30, 2)
    matrix.columns(x)
    torch.nn.utils.vector_to_parameters(
        2 * torch.nn.utils.parameters_to_vector(matrix.parameters()), matrix.parameters()
    )
    torch.testing.assert_close(matrix.columns(x), 2 * drawn(20, 30) @ x)
    zeros = {name: torch.zeros_like(value) for name, value in matrix.named_parameters()}
    assert not torch.func.functional_call(matrix, zeros, (x.t(),)).any()
    torch.testing.assert_close(matrix.columns(x), 2 * drawn(20, 30) @ x)


def test_threads_share_the_pool_that_takes_one_at_a_time():
    """numba's own, where there is neither OpenMP nor TBB: it ended the process."""
    code = """
import threading, numba, torch
from tests.inference.test_matrices import Coded, drawn
torch.set_num_threads(2)
weight, x = drawn(3000, 2000), torch.randn(2000, 1)
matrix, exact, wrong = Coded.of(weight), weight @ x, []
def multiply():
    torch.set_num_threads(2)
    for _ in range(20):
        wrong.append(not torch.allclose(matrix.columns(x), exact, atol=1e-3))
threads = [threading.Thread(target=multiply) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(numba.threading_layer(), sum(wrong), len(wrong))
"""
    env = os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["workqueue", "0", "80"], done.stderr


def test_the_kernel_leaves_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(most_threads() + 2)
        Coded.of(drawn(20, 30)).columns(torch.rand(30, 8))
        assert torch.get_num_threads() == most_threads() + 2
    finally:
        torch.set_num_threads(before)
