"""Shards of few columns: short rows that are far apart in the mask are drawn in tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.layout import STRIDED, TRANSPOSED, c_strides, plan
from tests.support.devices import HostDevice
from tests.support.internals import set_cpu_limits
from tests.support.normals import FUNCTIONS, expected
from tests.support.oracle import assert_same, dropped, mask, poisoned

KEY = fd.Key(2**63 + 19, 2**41 + 3)
P = 0.3
# On both sides of the columns of a tile, and of the limits of the schedule.
WIDTHS = 1, 2, 3, 7, 8, 9, 16, 31, 33, 48, 49, 64, 128, 129
# On both sides of the rows of a tile on any machine, and of the rows of the mask buffer.
ROWS = 1, 11, 12, 31, 33, 100, 1025
WIDE = 1000


def schedule_of(shape: tuple[int, ...], steps: tuple[int, ...], narrow: int) -> Any:
    memory = tuple(4 * step for step in c_strides(shape))
    return plan(shape, memory, memory, steps, narrow=narrow)


@pytest.mark.parametrize(
    ("shape", "steps", "schedule"),
    [
        ((100, 8), (1000, 1), TRANSPOSED),
        ((100, 48), (1000, 1), TRANSPOSED),
        ((100, 49), (1000, 1), STRIDED),
        ((12, 9), (1000, 1), TRANSPOSED),
        ((11, 9), (1000, 1), STRIDED),
        ((4, 8), (1000, 1), TRANSPOSED),
        ((3, 8), (1000, 1), STRIDED),
        # Rows close together in the mask are drawn together; the shortest are faster in tiles.
        ((100, 16), (20, 1), STRIDED),
        ((100, 16), (21, 1), TRANSPOSED),
        ((100, 8), (9, 1), TRANSPOSED),
        ((11, 8), (9, 1), STRIDED),
        ((100, 8), (8, 1), STRIDED),  # contiguous
        # Rows that share a mask are buffered, and other schedules stay as they are.
        ((100, 90, 8), (1000, 0, 1), STRIDED),
        ((90, 100, 8), (0, 1000, 1), TRANSPOSED),
        ((100, 8, 5), (1000, 1, 0), STRIDED),
        ((100, 5, 8), (1000, 0, 1), STRIDED),
    ],
)
def test_the_schedule_of_each_layout(
    shape: tuple[int, ...], steps: tuple[int, ...], schedule: str
) -> None:
    layout = schedule_of(shape, steps, narrow=48)
    assert layout.schedule == schedule
    assert schedule_of(shape, steps, narrow=0).schedule != TRANSPOSED
    assert layout.elements == np.prod(shape)


def test_tile_rows_lie_along_an_axis_that_is_long_enough() -> None:
    for shape, rows in (((4096, 5, 8), 4096), ((4096, 50, 8), 50), ((20, 30, 8), 30)):
        layout = schedule_of(shape, (10**6, 1000, 1), narrow=48)
        assert (layout.schedule, layout.axes[-1][0], layout.axes[-2][0]) == (TRANSPOSED, rows, 8)


@pytest.mark.parametrize("rows", ROWS)
def test_every_size(rows: int, rng: np.random.Generator) -> None:
    for width in WIDTHS:
        x = rng.standard_normal((rows, width)).astype(np.float32)
        for column in (0, 3, WIDE - width):
            where: dict[str, Any] = {"offset": (0, column), "global_shape": (rows, WIDE)}
            out = poisoned(x.shape, x.dtype)
            fd.dropout(x, P, rng=KEY, out=out, **where)
            assert_same(out, dropped(x, P, KEY, **where))


@pytest.mark.parametrize("wide", [2**33 + 5, 2**50 + 8])
def test_far_into_the_mask(wide: int, rng: np.random.Generator) -> None:
    rows = (2**63 - 1) // wide
    for n, width in ((100, 8), (45, 5), (70, 20)):
        x = rng.standard_normal((n, width)).astype(np.float32)
        for row in (0, rows - n):
            for column in (0, 2**32 - 4, wide - width):
                where: dict[str, Any] = {"offset": (row, column), "global_shape": (rows, wide)}
                out = x.copy()
                fd.dropout(out, P, rng=KEY, out=out, **where)  # in place
                assert_same(out, dropped(x, P, KEY, **where))


@pytest.mark.parametrize(
    "dtype",
    [np.float32, *(pytest.param(d, marks=pytest.mark.slow) for d in (np.float16, np.float64))],
)
def test_views_of_wider_arrays(dtype: Any, rng: np.random.Generator) -> None:
    where: dict[str, Any] = {"offset": (5, 0, 7), "global_shape": (80, 40, 90)}
    for shape in ((70, 3, 8), (3, 33, 20), (13, 2, 5)):
        whole = rng.standard_normal((shape[0], shape[1] * 2, shape[2] * 3)).astype(dtype)
        for x in (
            whole[:, : shape[1], : shape[2]],
            whole[::-1, ::2, ::3],
            whole[:, shape[1] :, : -shape[2] - 1 : -1],
            np.broadcast_to(whole[:, :1, : shape[2]], shape),
        ):
            want = dropped(x, P, KEY, **where)
            assert_same(np.ascontiguousarray(fd.dropout(x, P, rng=KEY, **where)), want)
            out = poisoned(whole.shape, dtype)[:, ::-2, 1::3]
            fd.dropout(x, P, rng=KEY, out=out, **where)
            assert_same(np.ascontiguousarray(out), want)
        memory = whole.copy()
        x = memory[:, : shape[1], : shape[2]]
        want = dropped(x, P, KEY, **where)
        fd.dropout(x, P, rng=KEY, out=x, **where)
        assert_same(np.ascontiguousarray(x), want)
        assert_same(memory[:, shape[1] :], whole[:, shape[1] :])
        assert_same(memory[:, :, shape[2] :], whole[:, :, shape[2] :])


@pytest.mark.parametrize("p", [0.0, 2.0**-20, 1.0])
def test_masks_of_degenerate_and_small_p(p: float, rng: np.random.Generator) -> None:
    where: dict[str, Any] = {"offset": (0, 3), "global_shape": (500, WIDE)}
    shape = (300, 11)
    want = mask(shape, p, KEY, **where)
    got = fd.dropout_mask(shape, p, rng=KEY, **where)
    assert_same(got, want)
    packed = fd.dropout_mask(shape, p, rng=KEY, packed=True, **where)
    assert_same(packed, np.packbits(want, bitorder="little"))


def test_normal_numbers(rng: np.random.Generator) -> None:
    for rows, width in ((12, 2), (100, 8), (40, 100), (600, 3)):
        x = rng.standard_normal((rows, width)).astype(np.float32)
        for where in (
            {"offset": (0, 3), "global_shape": (rows, WIDE)},
            {"offset": (7, 2**33 - 3), "global_shape": (2000, 2**50 + 1)},
        ):
            got = fd.gaussian_noise(x, P, rng=KEY, **where)  # type: ignore[arg-type]
            assert_same(got, expected("plus", x, P, KEY, **where))


def test_threads_change_no_bit(
    set_threads: Callable[[int], None], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1 << 12, chunk=1 << 8)
    for shape in ((5000, 2), (3000, 17), (300, 5, 8), (20, 90, 8)):
        x = rng.standard_normal(shape).astype(np.float32)
        where = {"offset": (1,) * x.ndim, "global_shape": (*[n + 2 for n in shape[:-1]], WIDE)}
        want = dropped(x, P, KEY, **where)
        for threads in (1, 2, 5):
            set_threads(threads)
            assert_same(fd.dropout(x, P, rng=KEY, **where), want)  # type: ignore[arg-type]


SPARSE: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((500, 1), (500, 2)),
    ((3, 1), (3, 100)),
    ((5, 1), (2**31, 2**32 - 1)),
    ((100, 4, 1), (110, 7, 9)),
    ((40, 20, 1), (40, 20, 2**50)),
    ((4, 5, 3, 2), (9, 9, 9, 9)),
    ((2, 100, 6), (4, 200, 7)),
]


@pytest.mark.parametrize(("shape", "wide"), SPARSE)
def test_elements_far_apart_in_the_mask(
    shape: tuple[int, ...], wide: tuple[int, ...], rng: np.random.Generator
) -> None:
    x = rng.standard_normal(shape).astype(np.float32)
    last = tuple(w - n for n, w in zip(shape, wide, strict=True))
    for offset in ((0,) * x.ndim, last):
        for laid in (x, np.asfortranarray(x), x[::-1]):
            where: dict[str, Any] = {"offset": offset, "global_shape": wide}
            got = fd.dropout(laid, P, rng=KEY, **where)
            assert_same(np.ascontiguousarray(got), dropped(laid, P, KEY, **where))
            got = fd.gaussian_noise(laid, P, rng=KEY, **where)
            want = expected("plus", laid, P, KEY, **where)
            assert_same(np.ascontiguousarray(got), np.ascontiguousarray(want))


def test_tile_rows_lie_along_the_longer_axis() -> None:
    for shape, rows in (((1000, 4, 1), 1000), ((40, 33, 3, 1), 33), ((2, 11, 3, 1), 11)):
        steps = tuple(7 * step + (step == 1) for step in c_strides((10**5, 50, 40, 9)))[
            -len(shape) :
        ]
        layout = schedule_of(shape, steps, narrow=48)
        assert (layout.schedule, layout.axes[-1][0]) == (TRANSPOSED, rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("rows", [2, 3, 11, 12, 40])
def test_one_element_for_all_rows_of_a_column(rows: int, dtype: Any, host: HostDevice) -> None:
    """The step of x is 0, as that of an axis of one element may be, which is not contiguous."""
    where: dict[str, Any] = {"offset": (5, 3), "global_shape": (rows + 9, 6)}
    memory = np.array([3.25, *[np.nan] * 64], dtype)
    x = np.broadcast_to(memory[:1], (rows, 1))
    for what, number in (("plus", 0.7), ("plus", 0.0), ("times", P)):
        right = expected(what, x, number, KEY, **where)
        out = poisoned(x.shape, dtype)
        assert_same(FUNCTIONS[what](x, number, rng=KEY, **where, out=out), right)
        there = host.cupy.broadcast_to(host.put(memory)[:1], x.shape)
        made = FUNCTIONS[what](there, number, rng=KEY, **where)
        assert_same(host.get(made), right)
    kept = dropped(np.array(x), P, KEY, **where)
    assert_same(fd.dropout(x, P, rng=KEY, **where, out=poisoned(x.shape, dtype)), kept)
