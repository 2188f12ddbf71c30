"""softmax_dropout: softmax, mask and rounding, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cpu.host import softmax as softmax_driver
from tests.support.gradients import assert_backward_is_the_gradient
from tests.support.internals import set_cpu_limits
from tests.support.layouts import LAYOUTS
from tests.support.oracle import assert_same, mask, poisoned
from tests.support.slow import slow_unless
from tests.support.softmax import (
    KEY,
    assert_close,
    assert_gradient_close,
    backward,
    exact_backward,
    exact_forward,
    forward,
    numbers,
    softmax,
    unit,
)

DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
# Rows of one vector, of fewer and more elements; that end inside a vector; whose masks are drawn
# together, or not; longer than the mask buffer; and one too long for a slab.
SHAPES = [(4, 6, 128), (3, 5, 49), (300, 7), (1000, 1), (3, 257), (4, 1030), (2, 9001), (2, 70_001)]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    slow_unless(
        lambda shape, dtype: dtype == np.float32 or (shape, dtype) == (SHAPES[1], DTYPES[3]),
        SHAPES,
        DTYPES,
    ),
    ids=str,
)
def test_every_element_is_softmax_times_mask_in_every_layout_and_on_threads(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rng: np.random.Generator,
    set_threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1)
    x, dy = numbers(shape, dtype, rng), numbers(shape, dtype, rng)
    for axis in (-1, 0) if x.size < 10_000 else (-1,):
        set_threads(1)
        y = fd.softmax_dropout(x, 0.3, axis=axis, rng=KEY)
        true = forward(x, 0.3, axis)
        np.testing.assert_array_equal(y != 0, true.astype(dtype) != 0)
        assert_close(y, true, x, axis)
        dx = fd.softmax_dropout_backward(dy, x, 0.3, axis=axis, rng=KEY)
        assert_gradient_close(dx, dy, x, 0.3, axis)
        for layout in LAYOUTS.values():
            set_threads(2)
            given, gradient = layout(x), layout(dy)
            assert_same(fd.softmax_dropout(given, 0.3, axis=axis, rng=KEY), y)
            again = fd.softmax_dropout_backward(gradient, given, 0.3, axis=axis, rng=KEY)
            assert_same(again, dx)
            assert_same(np.ascontiguousarray(given), x)
            into = layout(poisoned(shape, dtype))
            assert fd.softmax_dropout(x, 0.3, axis=axis, rng=KEY, out=into) is into
            assert_same(np.ascontiguousarray(into), y)
            assert fd.softmax_dropout(given, 0.3, axis=axis, rng=KEY, out=given) is given
            assert_same(np.ascontiguousarray(given), y)


@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype in DTYPES[2:], DTYPES), ids=str)
def test_sums_are_made_in_the_same_order_on_every_processor(
    dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    """Compared to the bit with NumPy, whose arithmetic is the same everywhere."""
    for n in (1, 7, 31, 32, 33, 64, 331, 1030, 2047, 2048, 2049, 2080, 4099, 9001):
        x, dy = numbers((5, n), dtype, rng), numbers((5, n), dtype, rng)
        x[1], x[2, : n // 2] = -np.inf, -np.inf
        assert_same(fd.softmax_dropout(x, 0.3, rng=KEY), exact_forward(x, 0.3))
        dx = fd.softmax_dropout_backward(dy, x, 0.3, rng=KEY)
        assert_same(dx, exact_backward(dy, x, 0.3))


@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype in DTYPES[2:], DTYPES), ids=str)
def test_where_all_scores_are_minus_infinity_all_is_zero(
    dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    shape, nothing = (6, 37, 49), [1, 4]
    for axis in (-1, 1, 0):
        x, dy = numbers(shape, dtype, rng), numbers(shape, dtype, rng)
        # Whole rows: those of these numbers along another axis.
        other = 0 if axis else 2
        rows: list[Any] = [slice(None)] * 3
        rows[other] = nothing
        x[tuple(rows)], dy[tuple(rows)] = -np.inf, np.nan
        for how in ({"p": 0.4}, {"p": 0.0}, {"p": 0.4, "scale": -2.0}, {"training": False}):
            for layout in LAYOUTS.values():
                given: dict[str, Any] = {"axis": axis, "rng": KEY, **how}
                y = fd.softmax_dropout(layout(x), **given)
                dx = fd.softmax_dropout_backward(layout(dy), layout(x), **given)
                for made in (y, dx):
                    none = np.ascontiguousarray(made[tuple(rows)])
                    assert_same(none, np.zeros_like(none))  # +0.0, and no NaN of dy
                    rest = np.delete(made, nothing, other).astype(np.float64)
                    assert np.isfinite(rest).all() and rest.any()


def test_elements_dropped_are_those_of_dropout_wherever_it_lies(rng: np.random.Generator) -> None:
    x = numbers((4, 6, 33), DTYPES[2], rng)
    where: list[dict[str, Any]] = [
        {},
        {"offset": 2**35 - 100},
        {"offset": (3, 5, 0), "global_shape": (9, 20, 33)},
        {"offset": (0, 1, 0), "global_shape": (4, 7, 33)},
    ]
    for place in where:
        for axis in (2, 1, -3) if "global_shape" not in place else (2,):
            y = fd.softmax_dropout(x, 0.4, axis=axis, rng=KEY, **place)
            kept = fd.dropout_mask(x.shape, 0.4, rng=KEY, **place)
            np.testing.assert_array_equal(y != 0, kept)
            true = forward(x, 0.4, axis, **place)
            assert_close(y, true, x, axis)


def test_shards_are_parts_of_the_whole(rng: np.random.Generator) -> None:
    x, dy = (numbers((6, 8, 40), DTYPES[2], rng) for _ in range(2))
    for axis in (2, 1, 0):
        y = fd.softmax_dropout(x, 0.4, axis=axis, rng=KEY)
        dx = fd.softmax_dropout_backward(dy, x, 0.4, axis=axis, rng=KEY)
        cut = [slice(2, 6), slice(3, 7), slice(8, 40)]
        cut[axis] = slice(0, x.shape[axis])
        here, start = tuple(cut), tuple(part.start for part in cut)
        place: dict[str, Any] = {"axis": axis, "offset": start, "global_shape": x.shape}
        got = fd.softmax_dropout(x[here], 0.4, rng=KEY, **place)
        assert_same(np.ascontiguousarray(got), np.ascontiguousarray(y[here]))
        got = fd.softmax_dropout_backward(dy[here], x[here], 0.4, rng=KEY, **place)
        assert_same(np.ascontiguousarray(got), np.ascontiguousarray(dx[here]))


@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype in DTYPES[2:], DTYPES), ids=str)
@pytest.mark.parametrize("axis", [-1, 0])
def test_scores_of_minus_infinity_get_no_weight(
    dtype: np.dtype[Any], axis: int, rng: np.random.Generator
) -> None:
    x, dy = (numbers((49, 49), dtype, rng) for _ in range(2))
    x[np.triu_indices(49, 1)] = -np.inf  # the future
    if axis == 0:
        x, dy = x.T[::-1], dy.T
    y = fd.softmax_dropout(x, 0.3, axis=axis, rng=KEY)
    with np.errstate(invalid="ignore"):
        true = forward(x, 0.3, axis)
        gradient = backward(dy, x, 0.3, axis)
    assert_close(y, true, np.where(np.isinf(x), dtype.type(0), x), axis)
    assert not np.signbit(y).any()
    dx = fd.softmax_dropout_backward(dy, x, 0.3, axis=axis, rng=KEY).astype(np.float64)
    assert (dx[np.isinf(x)] == 0).all()
    assert (np.abs(dx - gradient) <= 20 * float(unit(np.ones(()), dtype))).all()


@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype == np.float32, DTYPES), ids=str)
def test_nan_stays_in_its_row_and_never_where_it_was_dropped(dtype: np.dtype[Any]) -> None:
    x = np.zeros((4, 37), dtype)
    x[0], x[1, 36], x[2, 5] = -np.inf, np.nan, np.inf
    x[0, 30] = np.nan
    y = fd.softmax_dropout(x, 0.5, rng=KEY).astype(np.float64)
    kept = mask(x.shape, 0.5, KEY)
    for row in range(3):
        assert np.isnan(y[row, kept[row]]).all()
    assert np.isfinite(y[3]).all()
    assert (y[~kept] == 0).all()
    dx = fd.softmax_dropout_backward(np.ones_like(x), x, 0.5, rng=KEY).astype(np.float64)
    assert np.isnan(dx[:3]).all()
    assert np.isfinite(dx[3]).all()
    # What was dropped of a gradient vanishes, whatever it is.
    dy = np.where(kept, 1, np.nan).astype(dtype)
    assert np.isfinite(fd.softmax_dropout_backward(dy, x, 0.5, rng=KEY)[3].astype(float)).all()


def test_far_scores_are_zeros_and_no_subnormal_numbers() -> None:
    for dtype, far in ((np.float32, -87.4), (np.float64, -708.5)):
        x = np.array([0.0, far, far / 2, -np.inf], dtype)
        y = fd.softmax_dropout(x, 0.0, rng=1)
        assert (y[[1, 3]] == 0).all()
        assert y[0] == 1 and y[2] == pytest.approx(math.exp(far / 2), rel=1e-5)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_the_backward_is_the_gradient(axis: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 6, 7))
    how: dict[str, Any] = {"axis": axis, "rng": KEY, "scale": 1.5}
    assert_backward_is_the_gradient(
        lambda x: fd.softmax_dropout(x, 0.2, **how),
        lambda dy: fd.softmax_dropout_backward(dy, x, 0.2, **how),
        x,
        drops=False,
    )
    assert_backward_is_the_gradient(
        lambda x: fd.softmax_dropout(x, 0.4, axis=axis, training=False),
        lambda dy: fd.softmax_dropout_backward(dy, x, 0.4, axis=axis, training=False),
        x,
        drops=False,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_agrees(dtype: Any, rng: np.random.Generator) -> None:
    torch: Any = pytest.importorskip("torch", reason="the oracle is torch")
    shape = 2, 3, 40, 40
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    kept = torch.from_numpy(mask(shape, 0.2, KEY))
    for axis in (1, -1):
        if axis == -1:
            x += np.triu(np.full(shape[-2:], -np.inf, dtype), 1)
        given = torch.from_numpy(x.astype(np.float64)).requires_grad_()
        weights = torch.softmax(given, axis) * kept / 0.8
        weights.backward(torch.from_numpy(dy.astype(np.float64)))
        close: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
        if dtype is np.float64:
            close = {"rtol": 1e-12, "atol": 1e-15}
        y = fd.softmax_dropout(x, 0.2, axis=axis, rng=KEY)
        np.testing.assert_allclose(y, weights.detach().numpy(), **close)
        dx = fd.softmax_dropout_backward(dy, x, 0.2, axis=axis, rng=KEY)
        np.testing.assert_allclose(dx, given.grad.numpy(), **close)


def test_out_may_be_or_overlap_anything(rng: np.random.Generator) -> None:
    x, dy = (numbers((5, 40), DTYPES[3], rng) for _ in range(2))
    dx = fd.softmax_dropout_backward(dy, x, 0.3, rng=KEY)
    into = x.copy()
    assert fd.softmax_dropout_backward(dy, into, 0.3, rng=KEY, out=into) is into
    assert_same(into, dx)
    into = dy.copy()
    fd.softmax_dropout_backward(into, x, 0.3, rng=KEY, out=into)
    assert_same(into, dx)
    y = fd.softmax_dropout(x, 0.3, rng=KEY)
    for first, second in ((x, y), (dy, dx)):
        memory = np.concatenate([first, first])
        given, out = memory[1:6], memory[:5]
        given[...] = first
        if first is x:
            fd.softmax_dropout(given, 0.3, rng=KEY, out=out)
        else:
            fd.softmax_dropout_backward(given, x, 0.3, rng=KEY, out=out)
        assert_same(out, second)


def test_evaluation_is_the_softmax_alone_in_a_new_array(rng: np.random.Generator) -> None:
    x, dy = (numbers((5, 40), DTYPES[2], rng) for _ in range(2))
    y = fd.softmax_dropout(x, 0.3, training=False, scale=7.0)
    assert y is not x
    assert_same(y, fd.softmax_dropout(x, 0.0, rng=1))
    assert_close(y, softmax(x, -1), x, -1)
    out = poisoned(x.shape, x.dtype)
    assert fd.softmax_dropout(x, 0.3, training=False, out=out) is out
    assert_same(out, y)
    dx = fd.softmax_dropout_backward(dy, x, 0.3, training=False)
    assert_same(dx, fd.softmax_dropout_backward(dy, x, 0.0, rng=1))


def test_scale_and_degenerate_p(rng: np.random.Generator) -> None:
    x, dy = (numbers((5, 40), DTYPES[2], rng) for _ in range(2))
    assert_same(fd.softmax_dropout(x, 1.0, rng=KEY), np.zeros_like(x))
    assert not fd.softmax_dropout(x.T, 1.0, axis=0, rng=KEY).any()
    assert not fd.softmax_dropout_backward(dy, x, 1.0, rng=KEY).any()
    y = fd.softmax_dropout(x, 0.3, rng=KEY, scale=1.0)
    plain = fd.softmax_dropout(x, 0.0, rng=KEY)
    assert_same(y, np.where(mask(x.shape, 0.3, KEY), plain, np.float32(0)))
    assert_same(fd.softmax_dropout([[1.0, 2.0]], 0.0, rng=1), fd.softmax_dropout(
        np.array([[1.0, 2.0]]), 0.0, rng=1))  # fmt: skip


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0,), (2, 0, 3)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    for axis in range(x.ndim):
        assert fd.softmax_dropout(x, 0.5, axis=axis, rng=1).shape == shape
        assert fd.softmax_dropout_backward(x, x, 0.5, axis=axis, rng=1).shape == shape


def test_bad_input_is_refused_before_anything_is_written() -> None:
    x, out = np.ones((2, 3)), np.zeros((2, 3))
    error = np.exceptions.AxisError
    bad: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (error, "axis 2 is out of bounds", {"axis": 2}),
        (error, "axis -3 is out of bounds", {"axis": -3}),
        (TypeError, "axis=1.0", {"axis": 1.0}),
        (ValueError, "p=1.5", {"p": 1.5}),
        (ValueError, "scale=inf", {"scale": math.inf}),
        (TypeError, "training=2", {"training": 2}),
        (ValueError, "needs the whole axis", {"global_shape": (2, 6), "offset": (0, 3)}),
        (ValueError, "does not fit", {"global_shape": (2, 3), "offset": (1, 0)}),
        (ValueError, "offset=-1", {"offset": -1}),
        (TypeError, "rng", {"rng": "seed"}),
    ]
    for kind, says, arguments in bad:
        given: dict[str, Any] = {"p": 0.5, "rng": 1, "out": out} | arguments
        with pytest.raises(kind, match=says):
            fd.softmax_dropout(x, **given)
        with pytest.raises(kind, match=says):
            fd.softmax_dropout_backward(x, x, **given)
    with pytest.raises(error, match="axis -1 is out of bounds for array of dimension 0"):
        fd.softmax_dropout(1.0, 0.5, rng=1)
    with pytest.raises(TypeError, match="int64"):
        fd.softmax_dropout([1, 2, 3], 0.5, rng=1)
    with pytest.raises(ValueError, match=r"dy has shape \(3,\), and x has \(2, 3\)"):
        fd.softmax_dropout_backward(np.ones(3), x, 0.5, rng=1, out=out)
    with pytest.raises(TypeError, match="dy has dtype float32, and x has float64"):
        fd.softmax_dropout_backward(x.astype(np.float32), x, 0.5, rng=1, out=out)
    with pytest.raises(ValueError, match="out has shape"):
        fd.softmax_dropout(x, 0.5, rng=1, out=np.zeros(3))
    frozen = np.zeros((2, 3))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        fd.softmax_dropout(x, 0.5, rng=1, out=frozen)
    assert not out.any()


def test_slabs_cover_every_row_once() -> None:
    for shape in ((7, 5, 3, 900), (1, 40_000, 5), (3, 200_000), (9,), (70_000, 2, 1)):
        count, _, places = softmax_driver._slabs(shape)
        seen = np.zeros(shape[:-1], int)
        for number in range(count):
            seen[places(number)] += 1
        assert (seen == 1).all()
