"""masked_fill with an array of values: dropped elements take the value in their own place."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.layouts import LAYOUTS
from tests.support.oracle import Array, assert_same, data, mask, poison
from tests.support.slow import slow_unless

KEY = fd.Key(2**40 + 9, 2**61 + 5)
SHAPE = 37, 83
P = 0.3
# One or more of each size; strings and dates are moved, too.
DTYPES = [
    *("?", "u1", "i2", "f2", "S2", "i4", "f4", "U1"),
    *("i8", "f8", "c8", "M8[s]", "c16", "V16", ml_dtypes.bfloat16),
]
QUICK = ("u1", "i2", "f4", "i8", "c16")
of_dtype = pytest.mark.parametrize("dtype", slow_unless(lambda d: d in QUICK, DTYPES), ids=str)


def anything(dtype: Any, rng: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> Array:
    """An array of random bytes, which are values of any dtype that masked_fill takes."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if kind == np.bool_:
        raw: Array = rng.integers(0, 2, size, np.uint8)
    elif kind.kind == "U":  # code points
        raw = rng.integers(1, 0xD000, size // 4, np.uint32)
    else:
        raw = rng.integers(0, 256, size, np.uint8)
    result: Array = raw.view(kind).reshape(shape)
    return result


def chosen(kept: Array, x: Array, value: Array) -> bytes:
    """The bytes of ``np.where(kept, x, value)``, of which NumPy converts none."""
    rows, others = (
        np.frombuffer(np.ascontiguousarray(np.broadcast_to(a, x.shape)).tobytes(), np.uint8)
        for a in (x, value)
    )
    one = kept.reshape(-1, 1)
    return np.where(one, *(a.reshape(x.size, x.itemsize) for a in (rows, others))).tobytes()


@of_dtype
@pytest.mark.parametrize("name", LAYOUTS)
def test_dropped_elements_are_those_of_the_value(
    name: str, dtype: Any, rng: np.random.Generator
) -> None:
    laid = LAYOUTS[name]
    x, value = anything(dtype, rng), anything(dtype, rng)
    places: list[dict[str, Any]] = [
        {},
        {"offset": 2**35 - 3},
        {"offset": (5, 3), "global_shape": (50, 100)},
        {"noise_shape": (None, 1)},
    ]
    for place in places:
        kept = mask(SHAPE, P, KEY, **place)
        for its in (value, value[:1], value[:, :1], value[0]):
            y = fd.masked_fill(laid(x), P, laid(its) if its.ndim > 1 else its, rng=KEY, **place)
            assert (y.dtype, y.shape) == (x.dtype, x.shape)
            assert data(y) == chosen(kept, x, its)
    out = laid(np.zeros(SHAPE, dtype) if dtype in ("?", "U1") else poison(np.empty_like(x)))
    assert fd.masked_fill(laid(x), P, value, rng=KEY, out=out) is out
    assert data(out) == chosen(mask(SHAPE, P, KEY), x, value)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_degenerate_p(p: float, rng: np.random.Generator) -> None:
    x, value = anything("i4", rng), anything("i4", rng)
    assert_same(fd.masked_fill(x, p, value, rng=KEY), (x, value)[int(p)])


@pytest.mark.parametrize("threads", [1, 2])
def test_large_arrays_on_several_threads(threads: int, rng: np.random.Generator) -> None:
    shape = 300, 9000
    x, value = anything("u1", rng, shape), anything("u1", rng, shape)
    kept = mask(shape, P, KEY)
    with fd.threads(threads):
        assert_same(fd.masked_fill(x, P, value, rng=KEY), np.where(kept, x, value))
        far = fd.masked_fill(x, P, value, rng=KEY, offset=2**62)
        assert_same(far, np.where(mask(shape, P, KEY, offset=2**62), x, value))
        part = fd.masked_fill(
            x[50:80, 10:900], P, value[50:80, 10:900], rng=KEY, offset=(50, 10), global_shape=shape
        )
        assert_same(part, np.where(kept, x, value)[50:80, 10:900])


def test_out_may_be_x_or_the_value_or_overlap_them(rng: np.random.Generator) -> None:
    x, value = anything("i4", rng), anything("i4", rng)
    expected = np.where(mask(SHAPE, P, KEY), x, value)
    for which in (0, 1):
        given = x.copy(), value.copy()
        assert fd.masked_fill(*given[:1], P, given[1], rng=KEY, out=given[which]) is given[which]
        assert_same(given[which], expected)
    board = np.concatenate([value, value[:1]])
    expected = np.where(mask(SHAPE, P, KEY), x, board[:-1])
    fd.masked_fill(x, P, board[:-1], rng=KEY, out=board[1:])
    assert_same(board[1:], expected)
    board = x.copy()  # filled by its own first row
    expected = np.where(mask(SHAPE, P, KEY), x, x[:1])
    assert_same(fd.masked_fill(board, P, board[:1], rng=KEY, out=board), expected)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("u1", [0, 255, 7]),
        ("u1", np.array([0, 255, 7], np.int64)),
        ("i8", np.array([True, False, True])),
        ("f4", [1, 2, 3]),
        ("f4", np.array([0.1, np.inf, np.nan])),
        ("f2", np.array([0.1, 65504.0, -0.0])),
        (ml_dtypes.bfloat16, [0.1, math.inf, 3e38]),
        ("c8", np.array([1.5, 2, 3])),
        (">i4", np.array([1, 2, 3], "<i4")),
        ("M8[ms]", np.array(["2020-01-01", "NaT", "2021-05-05"], "M8[s]")),
        ("S4", [b"ab", b"", b"word"]),
        ("f8", [[1.0], [2.0]]),
    ],
    ids=str,
)
def test_values_of_the_same_kind_are_converted(dtype: Any, value: Any) -> None:
    x = np.zeros((2, 3), dtype)
    with np.errstate(over="ignore"):
        expected = np.broadcast_to(np.asarray(value).astype(dtype), x.shape)
    y = fd.masked_fill(x, 1.0, value, rng=1)
    assert data(y) == data(expected)
    assert y.dtype == x.dtype


@pytest.mark.parametrize(
    ("dtype", "value", "kind", "match"),
    [
        ("u1", [1, 300, 2], ValueError, r"value has 300.*uint8.*\[0, 255\]"),
        ("u1", np.array([1, -1, 2]), ValueError, r"value has -1.*uint8.*\[0, 255\]"),
        ("i8", np.full(3, 2**63, "u8"), ValueError, "value has 9223372036854775808"),
        ("i4", [1.0, 2.0, 3.0], TypeError, "value has dtype float64, .* int32 of x"),
        ("?", [1, 0, 1], TypeError, "value has dtype int64, .* bool of x"),
        ("f4", [1e300, 0, 0], ValueError, "value has numbers too large for the dtype float32"),
        ("f2", np.full(3, 1e5, "f4"), ValueError, "too large for the dtype float16"),
        (ml_dtypes.bfloat16, [3.4e38] * 3, ValueError, "too large for the dtype bfloat16"),
        (ml_dtypes.bfloat16, [1j] * 3, TypeError, "value has dtype complex128"),
        ("f4", [1j, 0, 0], TypeError, "value has dtype complex128"),
        ("f4", ["a", "b", "c"], TypeError, "value has dtype <U1"),
        ("M8[s]", [1.0, 2.0, 3.0], TypeError, "value has dtype float64"),
        ("S2", [b"word"] * 3, ValueError, "value has elements that change in the dtype"),
        ("f4", [1, 2], ValueError, r"value has shape \(2,\), which does not broadcast"),
        ("f4", np.zeros((2, 4, 3), "f4"), ValueError, r"value has shape \(2, 4, 3\)"),
        ("f4", [[1, 2], [3]], ValueError, "lists of several lengths"),
        ("f4", np.ma.masked_array([1.0, 2, 3]), TypeError, "value is a masked array"),
        ("f4", fd.Key(3), TypeError, "value is a Key: give rng="),
        ("f4", np.array([None] * 3), TypeError, "value has dtype object"),
    ],
    ids=str,
)  # fmt: skip
def test_values_that_do_not_fit_are_refused_and_nothing_is_written(
    dtype: Any, value: Any, kind: type[Exception], match: str
) -> None:
    x = np.ones((4, 3), dtype)
    out, generator = np.zeros_like(x), np.random.default_rng(1)
    before = generator.bit_generator.state
    with pytest.raises(kind, match=match):
        fd.masked_fill(x, 0.5, value, rng=generator, out=out)
    assert generator.bit_generator.state == before
    assert data(out) == data(np.zeros_like(x))


def test_arrays_of_p_and_of_values_are_refused_together() -> None:
    with pytest.raises(TypeError, match=r"p and value are both arrays.*numpy\.where"):
        fd.masked_fill(np.ones(3), np.full(3, 0.5), np.zeros(3), rng=1)
    with pytest.raises(ValueError, match=r"p=1\.5"):
        fd.masked_fill(np.ones(3), 1.5, np.zeros(3), rng=1)
    with pytest.raises(TypeError, match="does not move Python objects"):
        fd.masked_fill(np.array([None] * 3), 0.5, np.zeros(3), rng=1)


def test_in_evaluation_x_is_returned(rng: np.random.Generator) -> None:
    x = anything("f4", rng)
    assert fd.masked_fill(x, P, x[:1], training=False) is x
    with pytest.raises(ValueError, match="does not broadcast"):
        fd.masked_fill(x, P, x[:2], training=False)


def test_gradients(rng: np.random.Generator) -> None:
    """Of x by the backward, and of the value by filling zeros from dy."""
    x, dy, value = rng.standard_normal((3, *SHAPE))
    kept = mask(SHAPE, P, KEY)
    for given in (value, value[:1], value[0]):
        y, backward = fd.masked_fill_vjp(x, P, given, rng=KEY)
        assert_same(y, np.where(kept, x, given))
        assert_same(backward(dy), np.where(kept, dy, 0.0))
    dvalue = fd.masked_fill(np.zeros_like(dy), P, dy, rng=KEY)
    assert_same(dvalue, np.where(kept, 0.0, dy))
    y, backward = fd.masked_fill_vjp(x, p=P, value=value, rng=None)
    assert_same(backward(dy), np.where(y == x, dy, 0.0))


def test_pandas_values_keep_the_labels_of_x() -> None:
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame(np.arange(12.0).reshape(4, 3), columns=list("abc"))
    y: Any = fd.masked_fill(x, 0.5, -x, rng=KEY)
    assert list(y.columns) == list("abc")
    kept = mask((4, 3), 0.5, KEY)
    assert_same(y.to_numpy(), np.where(kept, x.to_numpy(), -x.to_numpy()))
    with pytest.raises(ValueError, match="value"):
        fd.masked_fill(x, 0.5, x.iloc[::-1], rng=KEY)
