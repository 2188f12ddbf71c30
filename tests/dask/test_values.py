"""A Dask array gives the bits of the NumPy array, whatever its chunks, in every function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.dask_cases import (
    CALLS,
    CHUNKS,
    KEY,
    SHAPE,
    as_it_is,
    assert_same,
    calls,
    dask_array,
    each,
    fd,
    in_blocks,
    normal,
)
from tests.support.slow import slow_unless
from tests.support.subprocesses import assert_succeeds, run_python

da = dask_array()


@pytest.mark.parametrize("name", CALLS)
def test_blocks_have_the_bits_of_the_whole_array(name: str) -> None:
    call, x = CALLS[name], normal()
    expected = call(x, as_it_is)
    for chunks in (CHUNKS, -1, (1, 7, 3)):
        for of in (as_it_is, in_blocks):
            assert_same(call(da.from_array(x, chunks=chunks), of), expected)


def test_all_is_the_same_in_the_array_expr_mode() -> None:
    code = """
import dask
dask.config.set({"array.query-planning": True})
import dask.array
if not getattr(dask.array, "ARRAY_EXPR_ENABLED", False):
    print("this Dask has no array-expr mode")
else:
    from tests.support.dask_cases import check_all
    check_all()
    print("the same")
"""
    printed = assert_succeeds(run_python(code)).strip()
    if printed != "the same":
        pytest.skip(printed)


@pytest.mark.parametrize(
    "dtype",
    slow_unless(
        lambda dtype: dtype in ("float16", "float32"),
        ("float16", "bfloat16", "float32", "float64"),
    ),
)
def test_dtypes(dtype: str) -> None:
    if dtype == "bfloat16":
        kind: Any = pytest.importorskip("ml_dtypes").bfloat16
    else:
        kind = np.dtype(dtype)
    x = normal(dtype=kind)
    lazy, bias = da.from_array(x, chunks=CHUNKS), normal((5,), 2, kind)
    for call in calls(
        lambda x: fd.dropout(x, 0.3, rng=KEY),
        lambda x: fd.bias_act_dropout_add(x, bias, "relu", 0.3, rng=KEY),
        lambda x: fd.masked_fill(x, 0.3, 1, rng=KEY),
    ):
        assert_same(call(lazy), call(x))


@pytest.mark.parametrize(
    "dtype",
    slow_unless(
        lambda dtype: dtype == "int8",
        ("int8", "bool", "complex128", "datetime64[s]", "S4", ">i4"),
    ),
)
def test_any_dtype_is_filled(dtype: str) -> None:
    x = np.arange(60).reshape(5, 12).astype(dtype)
    value = x[1, 1]
    lazy = fd.masked_fill(da.from_array(x, chunks=(2, 5)), 0.5, value, rng=KEY)
    assert_same(lazy, fd.masked_fill(x, 0.5, value, rng=KEY))


@st.composite
def chunked(draw: Any) -> tuple[tuple[int, ...], ...]:
    """Chunks of an array of up to four axes, also without elements."""
    chunks = st.lists(st.integers(0, 5), min_size=1, max_size=5).map(tuple)
    drawn: tuple[tuple[int, ...], ...] = tuple(draw(st.lists(chunks, max_size=4)))
    return drawn


@given(chunked(), st.data())
def test_random_chunks(chunks: tuple[tuple[int, ...], ...], more: st.DataObject) -> None:
    shape = tuple(map(sum, chunks))
    x, start = normal(shape), more.draw(st.tuples(*[st.integers(0, 3)] * len(shape)))
    lazy = da.from_array(x, chunks=chunks)
    shared = more.draw(st.tuples(*[st.sampled_from([1, None])] * len(shape)))
    keywords: dict[str, Any] = {"rng": KEY, "noise_shape": shared}
    if more.draw(st.booleans()):
        keywords["offset"] = more.draw(st.integers(0, 99))
    else:
        keywords["offset"] = start
        keywords["global_shape"] = tuple([n + 2 * m for n, m in zip(shape, start, strict=True)])
    result = fd.dropout(lazy, 0.4, **keywords)
    assert result.chunks == lazy.chunks
    assert_same(result, fd.dropout(x, 0.4, **keywords))
    bias = normal(shape[-1:])
    assert_same(
        fd.bias_act_dropout_add(lazy, bias, "relu", 0.4, rng=KEY),
        fd.bias_act_dropout_add(x, bias, "relu", 0.4, rng=KEY),
    )


@pytest.mark.parametrize(
    "chunks",
    [((1,) * 6, (4,)), ((6,), (1,) * 4), ((1,) * 6, (1,) * 4), ((5, 1), (1, 3)), ((0, 6), (4, 0))],
)
def test_unusual_chunks(chunks: Any) -> None:
    x = normal((6, 4))
    lazy = da.from_array(x, chunks=chunks)
    assert_same(fd.dropout(lazy, 0.5, rng=KEY), fd.dropout(x, 0.5, rng=KEY))
    p = each((6, 4))
    assert_same(fd.dropout(lazy, p, rng=KEY), fd.dropout(x, p, rng=KEY))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 4, 2), (1, 1)])
def test_arrays_of_no_axes_and_of_no_elements(shape: tuple[int, ...]) -> None:
    x = normal(shape) if shape else np.array(3.0, np.float32)
    lazy = da.from_array(x, chunks=-1)
    for call in calls(
        lambda x: fd.dropout(x, 0.5, rng=KEY),
        lambda x: fd.dropout(x, each(shape), rng=KEY),
        lambda x: fd.bias_act_dropout_add(x, x, "relu", 0.5, rng=KEY, residual=x),
        lambda x: fd.Mask(shape, 0.5, rng=KEY) * x,
    ):
        expected = np.asarray(call(x))
        assert_same(call(lazy), expected)


def test_a_number_that_is_computed_is_dropped_too() -> None:
    x = normal((40,))
    total = da.from_array(x, chunks=7).max()  # whose block is a scalar of NumPy's
    assert_same(fd.dropout(total, 0.0, rng=KEY), fd.dropout(x.max(), 0.0, rng=KEY))


def test_rechunking_before_and_after_changes_nothing() -> None:
    x = normal()
    lazy, expected = da.from_array(x, chunks=CHUNKS), fd.dropout(x, 0.3, rng=KEY)
    for chunks in (-1, 1, (7, 5, 5), "auto"):
        assert_same(fd.dropout(lazy.rechunk(chunks), 0.3, rng=KEY), expected)
        assert_same(fd.dropout(lazy, 0.3, rng=KEY).rechunk(chunks), expected)
    assert_same(fd.dropout(lazy, 0.3, rng=KEY)[2:5, ::3], expected[2:5, ::3])


def test_blocks_keep_their_memory_layout() -> None:
    # Dask itself copies arrays to C order when it cuts them.
    lazy = da.from_array(normal((60, 50)), chunks=(60, 20)).map_blocks(np.asfortranarray)
    (block, *_) = fd.dropout(lazy, 0.3, rng=KEY).to_delayed().ravel()
    assert block.compute(scheduler="synchronous").flags.f_contiguous


def bias_gradients(bias: Any, dtype: Any) -> tuple[Any, Any]:
    x, dy = normal(dtype=dtype), normal(seed=3, dtype=dtype)
    lazy = da.from_array(x, chunks=CHUNKS), da.from_array(dy, chunks=4)
    arguments: Any = (bias, "gelu", 0.3)
    got = fd.bias_act_dropout_add_backward(lazy[1], lazy[0], *arguments, rng=KEY)[1]
    return got, fd.bias_act_dropout_add_backward(dy, x, *arguments, rng=KEY)[1]


@pytest.mark.parametrize("shape", [(5,), (24, 1), (7, 1, 5), (), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_a_bias_are_lazy_sums(shape: tuple[int, ...], dtype: Any) -> None:
    got, expected = bias_gradients(normal(shape, 5, dtype) if shape else np.ones((), dtype), dtype)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    first = got.compute(scheduler="synchronous")
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(first, expected, rtol=4 * eps, atol=200 * eps)
    for _ in range(3):  # the order of the additions is that of the blocks
        np.testing.assert_array_equal(got.compute(scheduler="threads"), first)


def test_a_gradient_of_a_bias_that_is_not_summed_has_the_same_bits() -> None:
    assert_same(*bias_gradients(normal(), np.float32))


def test_sums_that_float64_holds_exactly_have_the_bits_of_numpys() -> None:
    x = np.random.default_rng(0).integers(-99, 99, (300, 20)).astype(np.float32)
    lazy = da.from_array(x, chunks=(23, 7))
    of: Any = ("bias", "relu", 0.5)
    bias = np.zeros(20, np.float32)
    expected = fd.bias_act_dropout_add_backward(x, x, bias, *of[1:], rng=KEY)[1]
    assert_same(fd.bias_act_dropout_add_backward(lazy, lazy, bias, *of[1:], rng=KEY)[1], expected)


def test_gradients_by_closures() -> None:
    x, dy, residual = normal(), normal(seed=3), normal((24, 1))
    lazy, lazy_dy = da.from_array(x, chunks=CHUNKS), da.from_array(dy, chunks=CHUNKS)
    y, backward = fd.bias_act_dropout_add_vjp(lazy, None, "relu", 0.3, rng=1, residual=residual)
    expected, expected_backward = fd.bias_act_dropout_add_vjp(
        x, None, "relu", 0.3, rng=1, residual=residual
    )
    assert_same(y, expected)
    (dx, _, dresidual), (of_x, _, of_residual) = backward(lazy_dy), expected_backward(dy)
    assert_same(dx, of_x)
    np.testing.assert_allclose(dresidual.compute(), of_residual, rtol=1e-6)
    with pytest.raises(ValueError, match="dy has shape"):
        backward(lazy_dy[1:])


def test_evaluation_returns_x_itself() -> None:
    lazy = da.from_array(normal(), chunks=CHUNKS)
    assert fd.dropout(lazy, 0.3, training=False) is lazy
    assert fd.Dropout(0.3).eval()(lazy) is lazy
    assert SHAPE == lazy.shape
