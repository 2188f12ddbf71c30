"""masked_fill moves elements of 1, 2, 4, 8 or 16 bytes bit by bit."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array, data, filled, key_from, mask, poison
from tests.support.slow import slow_unless

# dtype, and a value that it holds
VALUES: dict[str, Any] = {
    "?": True, "i1": -128, "u1": 255, "S1": b"x", "V1": np.void(b"\7"),
    "i2": -32768, "u2": 65535, "f2": 0.5, "S2": b"ab", ">i2": 258, ">f2": 1.5,
    "i4": -(2**31), "u4": 2**32 - 1, "f4": math.nan, "S4": b"word", "U1": "\u20ac", ">i4": 67305985,
    ">f4": -0.0, "V4": np.void(b"\1\2\3\4"),
    "i8": -(2**63), "u8": 2**64 - 1, "f8": -0.0, "c8": 1 - 2j, "M8[s]": np.datetime64("2020-02-02"),
    "m8[ms]": np.timedelta64(5, "s"), ">f8": 1.25, "S8": b"8", "U2": "ab", ">u8": 2**63 + 1,
    "c16": complex(math.inf, -0.0), "V16": np.void(bytes(range(16))), "S16": b"sixteen",
    "U4": "four", ">c16": 3j,
}  # fmt: skip


def anything(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> Array:
    """An array of random bytes, which are values of any dtype that masked_fill takes."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if dtype == np.bool_:
        return rng.integers(0, 2, shape, np.uint8).view(dtype)
    if dtype.kind == "U":  # code points
        raw: Array = rng.integers(1, 0xD000, size // 4, np.uint32)
    else:
        raw = rng.integers(0, 256, size, np.uint8)
    result: Array = raw.view(dtype).reshape(shape)
    return result


def expected_bytes(x: Array, p: float, value: Any, key: fd.Key) -> bytes:
    """As `oracle.filled`, on unsigned bytes, so that NumPy converts nothing."""
    rows = np.frombuffer(data(x), np.uint8).reshape(x.size, x.itemsize)
    item = np.frombuffer(np.array(value, x.dtype).tobytes(), np.uint8)
    kept = mask(x.shape, p, key).reshape(-1, 1)
    return np.where(kept, rows, item).tobytes()


@pytest.mark.parametrize(
    ("dtype", "layout"),
    slow_unless(
        lambda dtype, layout: layout != "F" or np.dtype(dtype).itemsize in (4, 8),
        VALUES,
        ["C", "F", "stepped"],
    ),
)
def test_kept_elements_keep_every_bit_and_the_others_become_the_value(
    dtype: str, layout: str, rng: np.random.Generator
) -> None:
    x = anything((50, 31), dtype, rng)
    if layout == "F":
        x = np.asfortranarray(x)
    elif layout == "stepped":
        x = x[::-1, ::3]
    key, value = key_from(rng), VALUES[dtype]
    for p in (0.0, 0.3, 1.0):
        y = fd.masked_fill(x, p, value, rng=key)
        assert y.dtype == x.dtype
        assert y.shape == x.shape
        assert data(y) == expected_bytes(x, p, value, key)


def test_long_doubles_are_moved() -> None:
    if np.dtype(np.longdouble).itemsize != 16:
        pytest.skip("a long double has no 16 bytes here")
    x = np.arange(300, dtype=np.longdouble) / 3
    y = fd.masked_fill(x, 0.4, np.longdouble(1) / 7, rng=3)
    np.testing.assert_array_equal(y, filled(x, 0.4, np.longdouble(1) / 7, fd.Key(3)))


@pytest.mark.parametrize(
    ("bits", "kind"), [(0x7FA00001, np.float32), (0x7FF0DEAD00000001, np.float64)]
)
def test_a_signalling_nan_keeps_its_payload(bits: int, kind: Any) -> None:
    n = 3000
    unsigned = np.uint32 if kind is np.float32 else np.uint64
    x = np.full(n, bits, unsigned).view(kind)
    for view in (x, x[::2], x.reshape(50, 60).T):
        y = fd.masked_fill(view, 0.5, 0.0, rng=9)
        kept = mask(view.shape, 0.5, fd.Key(9))
        assert (y.view(unsigned)[kept] == bits).all()
        assert (y.view(unsigned)[~kept] == 0).all()


def test_it_replaces_exactly_what_dropout_drops(rng: np.random.Generator) -> None:
    x = rng.uniform(1, 2, (60, 50))
    where: dict[str, Any] = {"noise_shape": (None, 1), "offset": (5, 0), "global_shape": (90, 50)}
    for kwargs in ({}, where, {"offset": 12345}):
        key = key_from(rng)
        replaced = fd.masked_fill(x, 0.3, -1.0, rng=key, **kwargs) == -1
        np.testing.assert_array_equal(replaced, fd.dropout(x, 0.3, rng=key, **kwargs) == 0)
        assert replaced.any()


def test_out_is_written_and_may_be_x(rng: np.random.Generator) -> None:
    x = rng.integers(0, 1000, (30, 40))
    key = key_from(rng)
    expected = filled(x, 0.2, -5, key)
    out = poison(np.empty_like(x))
    assert fd.masked_fill(x, 0.2, -5, rng=key, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert fd.masked_fill(x, 0.2, -5, rng=key, out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_lists_go_through_asarray() -> None:
    tokens = fd.masked_fill([1, 2, 3, 4, 5, 6, 7, 8], 0.5, 0, rng=7)
    np.testing.assert_array_equal(tokens, filled(np.arange(1, 9), 0.5, 0, fd.Key(7)))
    assert tokens.dtype == np.asarray([1]).dtype


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("u1", 300), ("u1", -1), ("i1", 128), ("i8", 2**63), ("u8", 2**64), ("i8", 0.5), ("i4", 1.0),
     ("i8", math.nan), ("i8", math.inf), ("i8", "1"), ("f4", "1"), ("i8", np.float64(0.5)),
     ("f8", 1j), ("f4", None), ("i8", np.datetime64("2020-01-01")), ("?", 2), ("?", 0.5),
     ("f4", np.complex64(1)), ("M8[s]", 0.5), ("i4", b"a")],
    ids=repr,
)  # fmt: skip
def test_a_value_that_does_not_fit_is_an_error_and_nothing_is_written(
    dtype: str, value: Any
) -> None:
    x = np.ones(40, dtype)
    out = poison(np.empty_like(x)) if dtype != "?" else np.ones_like(x)
    before = data(out)
    with pytest.raises((TypeError, ValueError, OverflowError)) as caught:
        fd.masked_fill(x, 0.5, value, rng=1, out=out)
    message = str(caught.value)
    assert f"value={value!r}" in message
    assert str(x.dtype) in message
    assert data(out) == before


def test_integers_out_of_range_are_refused_by_any_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy 1.26 warns, and stores 300 as 44."""
    wrapping = np.array

    def numpy_126(value: Any, dtype: Any = None) -> Any:
        return wrapping(value).astype(dtype)

    monkeypatch.setattr(np, "array", numpy_126)
    for value in (300, -1, np.int64(301)):
        with pytest.raises(ValueError, match=re.escape(f"value={value!r}") + " is .*uint8 of x"):
            fd.masked_fill(np.ones(5, np.uint8), 0.9, value, rng=1)


def test_values_of_the_same_kind_are_converted() -> None:
    cases: list[tuple[str, Any, Any]] = [
        ("f4", 3, 3.0),
        ("f4", True, 1.0),
        ("f4", np.float64(0.1), np.float32(0.1)),
        ("f4", np.int64(7), 7.0),
        ("c8", 1.5, 1.5 + 0j),
        ("u1", True, 1),
        ("i8", np.uint8(5), 5),
        ("f8", np.array(2.5), 2.5),
        ("M8[ms]", np.datetime64("2020-01-01"), np.datetime64("2020-01-01T00:00:00.000")),
    ]
    for dtype, value, stored in cases:
        y = fd.masked_fill(np.zeros(5, dtype), 1.0, value, rng=1)
        assert (y == stored).all(), (dtype, value)
        assert y.dtype == np.dtype(dtype)


def test_python_objects_are_refused_with_the_way_out() -> None:
    for x in (np.array([object()] * 4), np.zeros(4, [("a", "O"), ("b", "i8")])):
        with pytest.raises(TypeError, match=r"dtype .*numpy\.where\(dropout_mask"):
            fd.masked_fill(x, 0.5, None, rng=1)


@pytest.mark.parametrize("dtype", ["S3", "V5", "U3", "S17", "c32"])
def test_elements_of_other_sizes_are_refused_with_the_way_out(dtype: str) -> None:
    if dtype == "c32" and not hasattr(np, "complex256"):
        pytest.skip("no complex of 32 bytes here")
    x = np.zeros(4, dtype)
    with pytest.raises(TypeError, match=rf"{x.itemsize} bytes.*numpy\.where\(dropout_mask"):
        fd.masked_fill(x, 0.5, x[0], rng=1)


def test_structured_elements_of_a_right_size_are_moved(rng: np.random.Generator) -> None:
    x = anything((500,), [("a", "<i4"), ("b", "<f4")], rng)
    value = np.array((7, 0.5), x.dtype)
    key = key_from(rng)
    y = fd.masked_fill(x, 0.5, value, rng=key)
    assert y.dtype == x.dtype
    assert data(y) == expected_bytes(x, 0.5, value, key)


def test_p_and_value_are_required() -> None:
    function: Any = fd.masked_fill
    with pytest.raises(TypeError, match="value"):
        function(np.ones(3), 0.5, rng=1)


def test_equal_values_of_other_kinds_are_not_taken_for_each_other() -> None:
    """Values are remembered, and these are equal and yet fill with other bits, or not at all."""
    x = np.ones(3, np.float32)
    for value in (0.0, -0.0, 0, 0.0):
        made = fd.masked_fill(x, 1.0, value, rng=1)
        assert np.signbit(made).all() == (str(value) == "-0.0")
    whole = np.ones(3, np.int32)
    assert fd.masked_fill(whole, 1.0, 2, rng=1).tolist() == [2] * 3
    with pytest.raises(TypeError, match="does not fit"):
        fd.masked_fill(whole, 1.0, 2.0, rng=1)
