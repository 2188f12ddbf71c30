"""gaussian_dropout and gaussian_noise: each element gets its own normal number, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdrop as fd
from fastdrop_kernels.cpu.elements import storage
from fastdrop_kernels.cpu.host import catalogue
from fastdrop_kernels.cpu.loops.contiguous import CACHED, PREFETCH
from tests.support.internals import set_cpu_limits
from tests.support.layouts import LAYOUTS
from tests.support.normals import FUNCTIONS, expected
from tests.support.oracle import Array, assert_same, data, misaligned, poison, poisoned
from tests.support.overlaps import OVERLAPS, overlapping
from tests.support.run_kernel import run_kernel
from tests.support.slow import slow_unless

KEY = fd.Key(2**40 + 9, 2**63 + 5)
DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
SHAPE = ROWS, COLUMNS = 37, 83
N = ROWS * COLUMNS
WHERE: list[dict[str, Any]] = [
    {},
    # Past 2**32 elements and blocks, and across them; and as far as indices go.
    *({"offset": o} for o in (5, 2**32 - 700, 2**35 - 700, 2**60 + 1, 2**63 - N)),
    {"noise_shape": (None, 1)},
    {"noise_shape": (1, None)},
    {"noise_shape": ()},
    {"noise_shape": (None, 1), "offset": 2**35 - 17},
    {"offset": (3, 5), "global_shape": (40, 100)},
    {"offset": (2**31, 5), "global_shape": (2**32, COLUMNS + 8)},
    {"offset": (3, 5), "global_shape": (40, 100), "noise_shape": (None, 1)},
    {"offset": (3, 5), "global_shape": (40, 100), "noise_shape": (1, None)},
]

both = pytest.mark.parametrize("what", FUNCTIONS)
one_first = pytest.mark.parametrize("what", slow_unless(lambda what: what == "plus", FUNCTIONS))


def special(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> Array:
    """Numbers, infinities, a NaN, zeros of both signs, and the smallest and largest numbers."""
    x = 3 * rng.standard_normal(math.prod(shape))
    finfo: Any = ml_dtypes.finfo
    about = finfo(dtype)
    smallest = float(about.smallest_subnormal)
    x[:8] = [np.inf, -np.inf, np.nan, 0.0, -0.0, float(about.max), smallest, -3 * smallest]
    return rng.permutation(x).reshape(shape).astype(dtype)


@both
@pytest.mark.parametrize(
    ("layout", "dtype"),
    slow_unless(lambda layout, dtype: dtype == np.float32, LAYOUTS, DTYPES),
    ids=str,
)
def test_every_element_equals_the_reference(
    what: str, layout: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    x = special(SHAPE, dtype, rng)
    given = LAYOUTS[layout](x)
    for where in WHERE:
        got = FUNCTIONS[what](given, 0.3, rng=KEY, **where)
        want = expected(what, x, 0.3, KEY, **where)
        assert_same(np.ascontiguousarray(got), want)
        out = poison(np.empty_like(x))
        assert FUNCTIONS[what](given, 0.3, rng=KEY, out=out, **where) is out
        assert_same(out, want)
    assert_same(np.ascontiguousarray(given), x)
    assert FUNCTIONS[what](given, 0.3, rng=KEY, out=given) is given
    assert_same(np.ascontiguousarray(given), expected(what, x, 0.3, KEY))


@both
@pytest.mark.parametrize("out", LAYOUTS)
def test_x_and_out_may_have_different_layouts(
    what: str, out: str, rng: np.random.Generator
) -> None:
    x = special(SHAPE, np.float32, rng)
    for layout in LAYOUTS.values():
        target = poison(LAYOUTS[out](x))
        FUNCTIONS[what](layout(x), 0.3, rng=KEY, out=target)
        assert_same(np.ascontiguousarray(target), expected(what, x, 0.3, KEY))


@one_first
@pytest.mark.parametrize(
    "noise_shape", [(6, 1, 1), (1, 5000, 1), (1, 1, 3), (6, 1, 3), (1, 5000, 3)]
)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_noise_shapes_in_any_order_of_axes(
    what: str, noise_shape: tuple[int, ...], order: tuple[int, ...], rng: np.random.Generator
) -> None:
    # 5,000 numbers are more than are kept at once.
    shape = (6, 5000, 3)
    x = rng.standard_normal(shape).astype(np.float32)
    laid = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    got = FUNCTIONS[what](laid, 0.3, rng=KEY, noise_shape=noise_shape)
    assert got.strides == laid.strides
    assert_same(np.ascontiguousarray(got), expected(what, x, 0.3, KEY, noise_shape=noise_shape))


@both
def test_inputs_that_are_broadcast_and_of_few_and_many_axes(
    what: str, rng: np.random.Generator
) -> None:
    row = rng.standard_normal(90).astype(np.float32)
    wide = np.broadcast_to(row, (40, 90))
    assert_same(FUNCTIONS[what](wide, 0.3, rng=KEY), expected(what, wide, 0.3, KEY))
    for shape in ((), (1,), (0, 3), (1, 1, 7), (2, 3, 4, 5, 6), (2,) * 12):
        x = rng.standard_normal(shape, np.float32)
        assert_same(FUNCTIONS[what](x, 0.3, rng=KEY), expected(what, x, 0.3, KEY))
        turned = np.ascontiguousarray(FUNCTIONS[what](x.T, 0.3, rng=KEY)).reshape(x.T.shape)
        assert_same(turned, expected(what, x.T, 0.3, KEY))
    numbers = [1.0, 2.0]
    assert_same(FUNCTIONS[what](numbers, 0.3, rng=KEY), expected(what, np.array(numbers), 0.3, KEY))


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], list[int], tuple[int, ...], tuple[int, ...]]:
    """A shape, an order of axes in memory, steps along them, and a noise shape."""
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    shape = (*shape[:-1], shape[-1] * draw(st.sampled_from([1, 1, 30])))
    order = draw(st.permutations(range(len(shape))))
    steps = tuple(draw(st.sampled_from([1, 1, 2, -1])) for _ in shape)
    noise = tuple(draw(st.sampled_from([n, n, 1])) for n in shape)
    return shape, order, steps, noise


@given(case=layouts(), offset=st.integers(0, 2**62), what=st.sampled_from(sorted(FUNCTIONS)))
def test_any_layout_and_placement(case: Any, offset: int, what: str) -> None:
    shape, order, steps, noise = case
    memory = poisoned(tuple(shape[a] * abs(steps[a]) for a in order), np.float32)
    turned = memory.transpose(np.argsort(order))
    x = turned[tuple(slice(None, None, step) for step in steps)]
    x[...] = np.arange(1, math.prod(shape) + 1).reshape(shape)
    around = memory.copy()
    want = expected(what, np.ascontiguousarray(x), 0.3, KEY, noise_shape=noise, offset=offset)
    FUNCTIONS[what](x, 0.3, rng=KEY, noise_shape=noise, offset=offset, out=x)
    assert_same(np.ascontiguousarray(x), want)
    x[...] = np.arange(1, math.prod(shape) + 1).reshape(shape)
    assert data(memory) == data(around)  # nothing else was written


@pytest.mark.parametrize(
    ("dtype", "n"),
    slow_unless(
        lambda dtype, n: dtype == np.float32 or (dtype == ml_dtypes.bfloat16 and n < 1 << 18),
        DTYPES,
        [1, 7, 255, 256, 257, 5001, 1 << 18],
    ),
    ids=str,
)
def test_any_size_and_number_of_threads(
    dtype: np.dtype[Any],
    n: int,
    set_threads: Callable[[int], None],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1 << 17)
    x = rng.standard_normal(n).astype(dtype)
    want = expected("plus", x, 0.3, KEY, offset=n % 19)
    for threads in (1, 2, 3):
        set_threads(threads)
        assert_same(fd.gaussian_noise(x, 0.3, rng=KEY, offset=n % 19), want)


@one_first
def test_threads_share_noncontiguous_arrays(
    what: str,
    set_threads: Callable[[int], None],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1 << 17)
    x = rng.standard_normal((800, 700)).astype(np.float32)
    for noise_shape in (None, (None, 1), (1, None)):
        results = []
        for threads in (1, 2, 5):
            set_threads(threads)
            for laid in (x, np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2]):
                made = FUNCTIONS[what](laid, 0.3, rng=KEY, noise_shape=noise_shape)
                results.append(np.ascontiguousarray(made))
        for result in results:
            assert_same(result, results[0])
        rows = slice(700, 720)
        where = {"offset": (700, 0), "global_shape": x.shape, "noise_shape": noise_shape}
        assert_same(results[0][rows], expected(what, x[rows], 0.3, KEY, **where))


@given(
    cuts=st.tuples(st.integers(0, 20), st.integers(0, 70)), what=st.sampled_from(["times", "plus"])
)
def test_shards_tile_the_whole_array_exactly(cuts: tuple[int, int], what: str) -> None:
    x = np.arange(1.0, 1401.0, dtype=np.float32).reshape(20, 70)
    whole = FUNCTIONS[what](x, 0.3, rng=KEY)
    tiled = poisoned(x.shape, x.dtype)
    for rows in (slice(0, cuts[0]), slice(cuts[0], 20)):
        for columns in (slice(0, cuts[1]), slice(cuts[1], 70)):
            part = rows, columns
            where = {"offset": (rows.start, columns.start), "global_shape": x.shape}
            FUNCTIONS[what](x[part], 0.3, rng=KEY, out=tiled[part], **where)
    assert_same(tiled, whole)


@both
@pytest.mark.parametrize("kind", OVERLAPS)
def test_overlap_of_x_and_out_cannot_be_seen(
    what: str, kind: str, rng: np.random.Generator
) -> None:
    base = rng.standard_normal((80, 80)).astype(np.float32)
    x, out = overlapping(kind, base)
    want = expected(what, np.ascontiguousarray(x), 0.25, KEY)
    assert FUNCTIONS[what](x, 0.25, rng=KEY, out=out) is out
    assert_same(np.ascontiguousarray(out), want)


KINDS = {"float16": storage.FLOAT16, "float32": storage.FLOAT32, "float64": storage.FLOAT64}
SIZES = [0, 1, 63, 64, 65, 255, 256, 257, 511, 513, 4113]


@pytest.mark.parametrize(
    ("name", "n"), slow_unless(lambda name, n: name == "float32", KINDS, SIZES), ids=str
)
def test_cached_and_prefetching_kernels_write_the_same(
    name: str, n: int, rng: np.random.Generator
) -> None:
    operation = catalogue.of_storage("gaussian_add", name, KINDS[name])
    x = rng.standard_normal(n).astype(name)
    value = np.array(0.3, np.float32 if name == "float16" else name)
    for index in (0, 3, 2**35 - 100):
        want = expected("plus", x, 0.3, KEY, offset=index)
        for policy in (CACHED, PREFETCH):
            for by in (0, 4, 60):
                y = poison(misaligned(x, by * x.itemsize // 4))
                run_kernel(operation, x, y, value, 0, KEY, index, policy)
                assert_same(y, want)


@pytest.mark.slow
def test_float16_is_rounded_alike_on_any_machine(rng: np.random.Generator) -> None:
    x = special((5000,), np.float16, rng)
    operation = catalogue.of_storage("gaussian_add", "float16-portable", storage.FLOAT16_PORTABLE)
    y = poisoned(x.shape, x.dtype)
    run_kernel(operation, x, y, np.array(0.3, np.float32), 0, KEY)
    assert_same(y, expected("plus", x, 0.3, KEY))


def test_numbers_are_those_of_the_mask_s_own_uniforms() -> None:
    """What dropout drops at p has the lowest numbers: both count the same U."""
    x = np.zeros(100_000)
    z = fd.gaussian_noise(x, 1.0, rng=KEY)
    kept = fd.dropout_mask(x.shape, 0.25, rng=KEY)
    assert z[~kept].max() < -0.674489 < z[kept].min()


def test_all_dtypes_are_computed_with_the_same_numbers() -> None:
    z = fd.gaussian_noise(np.zeros(5000, np.float32), 1.0, rng=KEY)
    for dtype in DTYPES:
        assert_same(fd.gaussian_noise(np.zeros(5000, dtype), 1.0, rng=KEY), z.astype(dtype))


def test_no_noise_changes_nothing_and_evaluation_returns_x_itself() -> None:
    x = np.array([1.5, -2.0, np.inf, -0.0], np.float32)
    assert_same(fd.gaussian_dropout(x, 0.0, rng=KEY), x)
    assert_same(fd.gaussian_noise(x[:3], 0.0, rng=KEY), x[:3])
    for function in FUNCTIONS.values():
        out = np.ones_like(x)
        assert function(x, 0.5, rng=KEY, training=False) is x
        assert function(x, 0.5, rng=KEY, training=False, out=out) is out
        assert_same(out, x)


def test_the_backward_of_dropout_is_the_same_call(rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 30, 40))
    factor = fd.gaussian_dropout(np.ones_like(x), 0.4, rng=KEY)
    assert_same(fd.gaussian_dropout(x, 0.4, rng=KEY), x * factor)
    assert_same(fd.gaussian_dropout(dy, 0.4, rng=KEY), dy * factor)


def test_factors_have_the_mean_and_deviation_of_dropout_s() -> None:
    n = 1 << 20
    for p in (0.1, 0.5, 0.8):
        factor = fd.gaussian_dropout(np.ones(n, np.float32), p, rng=KEY).astype(np.float64)
        deviation = math.sqrt(p / (1 - p))
        assert abs(factor.mean() - 1) < 5 * deviation / math.sqrt(n)
        assert abs(factor.std() / deviation - 1) < 5 / math.sqrt(2 * n)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"training": 2}, TypeError, "training=2"),
        ({"rng": 1.5}, TypeError, "rng=1.5"),
        ({"noise_shape": (2,)}, ValueError, "noise_shape"),
        ({"offset": -1}, ValueError, "offset=-1"),
        ({"offset": 2**63}, ValueError, "2\\*\\*63"),
        ({"global_shape": (2,)}, ValueError, "does not fit"),
        ({"out": np.zeros(4)}, ValueError, "out has shape"),
        ({"out": np.zeros(3, np.float32)}, TypeError, "out has dtype"),
        ({"out": np.broadcast_to(0.0, 3)}, ValueError, "read-only"),
        ({"out": [0.0] * 3}, TypeError, "out is a list"),
    ],
)
@both
def test_bad_input_is_refused_before_anything_is_written(
    what: str, wrong: dict[str, Any], error: type[Exception], says: str
) -> None:
    out = np.zeros(3)
    with pytest.raises(error, match=says):
        FUNCTIONS[what](np.ones(3), 0.3, **{"rng": 1, "out": out, **wrong})
    assert not out.any()


@pytest.mark.parametrize("training", [True, False])
def test_bad_numbers_are_named(training: bool) -> None:
    x, out = np.ones(3), np.zeros(3)
    for function, number, error, says in (
        (fd.gaussian_dropout, 1.0, ValueError, r"p=1\.0 is not in \[0, 1\)"),
        (fd.gaussian_dropout, -0.1, ValueError, "p=-0.1"),
        (fd.gaussian_dropout, math.nan, ValueError, "p=nan"),
        (fd.gaussian_dropout, "0.1", TypeError, "p='0.1'"),
        (fd.gaussian_dropout, [0.1], TypeError, r"p has shape \(1,\)"),
        (fd.gaussian_noise, -1.0, ValueError, r"stddev=-1\.0.*give 0 or more"),
        (fd.gaussian_noise, math.nan, ValueError, "stddev=nan"),
        (fd.gaussian_noise, math.inf, ValueError, "stddev=inf"),
        (fd.gaussian_noise, None, TypeError, "stddev=None"),
    ):
        call: Any = function
        with pytest.raises(error, match=says):
            call(x, number, rng=1, training=training, out=out)
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32):
        with pytest.raises(ValueError, match="stddev=1e\\+39 does not fit float32"):
            fd.gaussian_noise(x.astype(dtype), 1e39, rng=1, training=training)
    for wrong in ([1, 2, 3], np.ones(3, np.complex64), np.ones(3, ">f4")):
        for function in FUNCTIONS.values():
            with pytest.raises(TypeError, match="x has dtype"):
                function(wrong, 0.3, rng=1, training=training)
    assert not out.any()
