"""Kernels equal the reference bit for bit: every size, alignment and layout."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import fastdrop as fd
from tests.support.oracle import (
    POISON,
    Array,
    applied,
    assert_same,
    data,
    dropped,
    filled,
    key_from,
    mask,
    misaligned,
    poison,
    poisoned,
)

SIZES = [0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1023, 2047, 2048,
         2049, 4095, 4096, 4097, 70001]  # fmt: skip
DTYPES = [np.float32, np.float64]


@pytest.fixture(params=DTYPES, ids=lambda dtype: dtype.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def guarded(shape: tuple[int, ...], dtype: Any, by: int) -> tuple[Array, Array]:
    """A poisoned array `by` bytes behind a cache line, and the memory around it."""
    n = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.full(n + 320, POISON, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64 + 128 + by
    return memory[start : start + n].view(dtype).reshape(shape), memory


def assert_guards_untouched(array: Array, memory: Array) -> None:
    start = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    assert (memory[:start] == POISON).all()
    assert (memory[start + array.nbytes :] == POISON).all()


@pytest.mark.parametrize("n", SIZES)
def test_every_size_is_drawn_and_nothing_behind_it_is_written(
    n: int, dtype: Any, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(n).astype(dtype)
    key = key_from(rng)
    kept = mask((n,), 0.3, key)
    out, memory = guarded((n,), dtype, 0)
    fd.dropout(x, 0.3, rng=key, out=out)
    assert_same(out, applied(kept, x, 1 / (1 - 0.3)))
    assert_guards_untouched(out, memory)
    out, memory = guarded((n,), dtype, 0)
    fd.masked_fill(x, 0.3, 7.0, rng=key, out=out)
    assert_same(out, np.where(kept, x, dtype(7)))
    assert_guards_untouched(out, memory)


@pytest.mark.parametrize("n", SIZES)
def test_masks_of_every_size_are_drawn_and_nothing_behind_them_is_written(
    n: int, rng: np.random.Generator
) -> None:
    key = key_from(rng)
    kept = mask((n,), 0.3, key)
    out, memory = guarded((n,), np.bool_, 0)
    fd.dropout_mask(n, 0.3, rng=key, out=out)
    assert data(out) == data(kept)
    assert_guards_untouched(out, memory)
    bits, memory = guarded(((n + 7) // 8,), np.uint8, 0)
    fd.dropout_mask(n, 0.3, rng=key, packed=True, out=bits)
    assert data(bits) == data(np.packbits(kept, bitorder="little"))
    assert_guards_untouched(bits, memory)


@pytest.mark.parametrize("offset", [1, 7, 63, 500, 2047, 2**32 - 3])
def test_every_size_is_drawn_behind_an_offset(offset: int, rng: np.random.Generator) -> None:
    key = key_from(rng)
    kept = mask((4200,), 0.4, key, offset=offset)
    for n in SIZES[:-1]:
        x = rng.standard_normal(n).astype(np.float32)
        out, memory = guarded((n,), np.float32, 0)
        fd.dropout(x, 0.4, rng=key, offset=offset, out=out)
        assert_same(out, applied(kept[:n], x, 1 / (1 - 0.4)))
        assert_guards_untouched(out, memory)
        bits = fd.dropout_mask(n, 0.4, rng=key, offset=offset, packed=True)
        assert data(bits) == data(np.packbits(kept[:n], bitorder="little"))


@pytest.mark.parametrize("x_by", range(64))
def test_misaligned_arrays_are_treated_like_others(
    x_by: int, dtype: Any, rng: np.random.Generator
) -> None:
    n = 600
    x = misaligned(rng.standard_normal(n).astype(dtype), x_by)
    key = key_from(rng)
    expected = dropped(x, 0.3, key)
    for out_by in {0, 1, x_by, 63 - x_by, int(rng.integers(64))}:
        out, memory = guarded((n,), dtype, out_by)
        fd.dropout(x, 0.3, rng=key, out=out)
        assert data(out) == data(expected)
        assert_guards_untouched(out, memory)


@pytest.mark.parametrize("odd", [1, 3, 5, 7])
def test_arrays_over_an_odd_buffer_are_read_and_written(odd: int, dtype: Any) -> None:
    size = np.dtype(dtype).itemsize
    x: Array = np.frombuffer(bytes(range(1, 100)) * 100, dtype, 1000, odd)
    assert not x.flags.aligned
    assert not x.flags.writeable
    key = fd.Key(odd)
    for view in (x, x[::-1], x[::3], x.reshape(40, 25).T):
        out: Array = np.frombuffer(bytearray(size * view.size + 8), dtype, view.size, odd)
        out = poison(out.reshape(view.shape))
        fd.dropout(view, 0.5, rng=key, out=out)
        assert_same(out, dropped(view, 0.5, key))
        fd.dropout(out, 0.5, rng=key, out=out)
        assert_same(out, dropped(dropped(view, 0.5, key), 0.5, key))


def views(a: Array) -> dict[str, Array]:
    """Layouts of an array of three axes."""
    return {
        "C": a,
        "F": np.asfortranarray(a),
        "rotated": a.transpose(1, 2, 0),
        "swapped": a.swapaxes(0, 1),
        "negative": a[::-1, ::-1, ::-1],
        "partly negative": a[:, ::-1],
        "stepped": a[::2, 1::3, ::2],
        "stepped outside": a[1::2],
        "inner slice": a[:, 2:-1, 3:-2],
        "column": a[:, :, 4],
        "steps and order": a.transpose(2, 0, 1)[::-2, :, ::3],
        "broadcast": np.broadcast_to(a[:1, :, :1], (6, a.shape[1], 9)),
        "one element repeated": np.broadcast_to(a[0, 0, 0], (33, 65)),
        "0 stride inside": as_strided(a, (20, 10, 3), (a.itemsize * 7, 0, a.itemsize)),
        "sliding": np.lib.stride_tricks.sliding_window_view(a[0], (3, 4)),
        "line": a.reshape(-1),
        "backwards": a.reshape(-1)[::-1],
        "new axes": a[:, None, :, None],
        "ones": a[:1, :1],
        "empty": a[:, :0],
        "diagonal": np.einsum("iij->ij", a[:17, :17]),
    }


@pytest.mark.parametrize("layout", list(views(np.empty((18, 20, 22)))))
class TestLayouts:
    def test_the_mask_follows_the_logical_order(
        self, layout: str, dtype: Any, rng: np.random.Generator
    ) -> None:
        x = views(rng.standard_normal((18, 20, 22)).astype(dtype))[layout]
        x.flags.writeable = False
        key = key_from(rng)
        assert_same(fd.dropout(x, 0.3, rng=key), dropped(x, 0.3, key))
        assert_same(fd.masked_fill(x, 0.3, 4.0, rng=key), filled(x, 0.3, 4.0, key))

    def test_the_result_has_the_layout_of_x(self, layout: str, dtype: Any) -> None:
        x = views(np.zeros((18, 20, 22), dtype))[layout]
        assert fd.dropout(x, 0.3, rng=1).strides == np.empty_like(x).strides
        assert fd.masked_fill(x, 0.3, 1.0, rng=1).strides == np.empty_like(x).strides

    def test_out_may_have_another_layout(
        self, layout: str, dtype: Any, rng: np.random.Generator
    ) -> None:
        x = views(rng.standard_normal((18, 20, 22)).astype(dtype))[layout]
        key = key_from(rng)
        expected = dropped(x, 0.6, key)
        shape = x.shape
        outs = [
            poisoned(shape, dtype),
            poison(np.empty(shape, dtype, order="F")),
            poisoned(shape[::-1], dtype).T,
            poisoned((*shape, 2), dtype)[..., 1],
            poisoned(tuple(2 * n for n in shape), dtype)[
                tuple(slice(None, None, -2) for _ in shape)
            ],
        ]
        for out in outs:
            assert fd.dropout(x, 0.6, rng=key, out=out) is out
            assert data(out) == data(expected)

    def test_shared_decisions_follow_the_noise_shape(
        self, layout: str, dtype: Any, rng: np.random.Generator
    ) -> None:
        x = views(rng.standard_normal((18, 20, 22)).astype(dtype))[layout]
        for noise in itertools.product((1, None), repeat=x.ndim):
            key = key_from(rng)
            y = fd.dropout(x, 0.4, rng=key, noise_shape=noise)
            assert_same(y, dropped(x, 0.4, key, noise_shape=noise))


def test_elements_between_those_of_a_stepped_out_are_untouched(dtype: Any) -> None:
    memory = poisoned((40, 60), dtype)
    untouched = np.ones(memory.shape, np.bool_)
    untouched[::2, 1::3] = False
    before = data(memory[untouched])
    fd.dropout(np.ones((20, 20), dtype), 0.5, rng=1, out=memory[::2, 1::3])
    assert data(memory[untouched]) == before
    assert_same(memory[::2, 1::3].copy(), dropped(np.ones((20, 20), dtype), 0.5, fd.Key(1)))


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (3, 0, 4), (1,), (1, 1, 1)])
def test_arrays_of_no_axes_no_elements_and_one(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.full(shape, 3, dtype)
    for seed, p in itertools.product(range(4), (0.0, 0.5, 1.0)):
        key = fd.Key(seed)
        assert_same(fd.dropout(x, p, rng=key), dropped(x, p, key))
        assert_same(fd.masked_fill(x, p, 1.0, rng=key), filled(x, p, 1.0, key))
        kept = mask(shape, p, key)
        assert_same(fd.dropout_mask(shape, p, rng=key), kept)
        packed = fd.dropout_mask(shape, p, rng=key, packed=True)
        assert_same(packed, np.packbits(kept.ravel(), bitorder="little"))


@pytest.mark.parametrize("axes", [5, 16, 32, 64])
def test_arrays_of_many_axes_in_any_order(axes: int, rng: np.random.Generator) -> None:
    long = rng.permutation(axes)[:12]
    shape = [1] * axes
    for axis in long:
        shape[axis] = 2
    x = rng.standard_normal(shape).astype(np.float32)
    key = key_from(rng)
    for view in (x, x.transpose(rng.permutation(axes)), x[(slice(None, None, -1),) * axes]):
        assert_same(fd.dropout(view, 0.3, rng=key), dropped(view, 0.3, key))
        noise = tuple(None if flag else 1 for flag in rng.integers(0, 2, axes))
        y = fd.dropout(view, 0.3, rng=key, noise_shape=noise)
        assert_same(y, dropped(view, 0.3, key, noise_shape=noise))
    bits = fd.dropout_mask(x.shape, 0.3, rng=key, packed=True)
    assert data(bits) == data(np.packbits(mask(x.shape, 0.3, key).ravel(), bitorder="little"))


def test_many_axes_that_cannot_be_merged_are_walked() -> None:
    base = np.arange(1.0, 3.0**8 * 2 + 1).reshape((3,) * 8 + (2,))
    x = base[(slice(None, None, 2),) * 8]  # 2 of 3 along every axis: no two continue each other
    assert_same(fd.dropout(x, 0.5, rng=1), dropped(x, 0.5, fd.Key(1)))


@pytest.mark.parametrize("rows", [1, 2, 255, 256, 257])
@pytest.mark.parametrize("columns", [1, 3, 63, 64, 65, 130])
def test_panels_of_every_size(rows: int, columns: int, rng: np.random.Generator) -> None:
    x = np.asfortranarray(rng.standard_normal((rows, columns)).astype(np.float32))
    key = key_from(rng)
    for offset in (0, 3, 2**35 - 40):
        out, memory = guarded((columns, rows), np.float32, 0)
        fd.dropout(x, 0.3, rng=key, offset=offset, out=out.T)
        assert_same(out.T, dropped(x, 0.3, key, offset=offset))
        assert_guards_untouched(out, memory)


@given(choices=st.data())
def test_any_layout_place_and_key(choices: st.DataObject) -> None:
    draw = choices.draw
    axes = draw(st.integers(0, 4))
    base_shape = tuple(draw(st.integers(0 if axes < 3 else 1, 12)) for _ in range(axes))
    kind = draw(st.sampled_from([np.float32, np.float64]))
    base = np.arange(1.0, math.prod(base_shape) + 1).reshape(base_shape).astype(kind)
    view = base.transpose(draw(st.permutations(range(axes)))) if axes else base
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2])) for _ in range(axes)]
    x = view[tuple(slice(None, None, s) for s in steps)]
    where: dict[str, Any] = {}
    full = x.shape
    if draw(st.booleans()):
        before = tuple(draw(st.integers(0, 5)) for _ in range(axes))
        behind = tuple(draw(st.integers(0, 5)) for _ in range(axes))
        full = tuple(a + n + b for a, n, b in zip(before, x.shape, behind, strict=True))
        where.update(offset=before, global_shape=full)
    else:
        edge = draw(st.sampled_from([0, 2**32, 2**35, 2**60, 2**63 - 2**15]))
        where.update(offset=max(0, edge + draw(st.integers(-3000, 3000))))
    if draw(st.booleans()):
        kept_axes = draw(st.integers(0, axes))
        where["noise_shape"] = tuple(
            draw(st.sampled_from([None, n, 1])) for n in full[axes - kept_axes :]
        )
    p = draw(st.floats(0, 1))
    key = fd.Key(draw(st.integers(0, 2**64 - 1)), draw(st.integers(0, 2**64 - 1)))
    kept = mask(x.shape, p, key, **where)
    expected = applied(kept, x, 1.0)
    y = fd.dropout(x, p, rng=key, scale=1.0, **where)
    assert_same(y, expected)
    assert y.strides == np.empty_like(x).strides
    out = poison(np.empty(x.shape[::-1], kind)).T
    fd.masked_fill(x, p, 0.0, rng=key, out=out, **where)
    assert data(out) == data(expected)
    assert_same(fd.dropout_mask(x.shape, p, rng=key, **where), kept)
    bits = fd.dropout_mask(x.shape, p, rng=key, packed=True, **where)
    assert_same(bits, np.packbits(kept.ravel(), bitorder="little"))
