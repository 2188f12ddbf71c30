"""The CUDA C++, compiled for the host and run over every thread: bit for bit the reference.

What is proved here is all but CuPy itself: plans, arguments, and the bodies of the kernels.
"""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdrop as fd
from fastdrop import _arguments as arguments
from fastdrop_kernels import contract, reference
from fastdrop_kernels.cuda import driver, launch, modules, operations
from fastdrop_kernels.plan import c_strides

from .cuda_host import host
from .cuda_host.functors import RESIDUAL, UNIFORM
from .normals import noisy, normals_of
from .oracle import POISON, Array, affine, applied, assert_same, key_from, poison, poisoned
from .test_contract import ANSWERS, VECTORS, arguments_of, check_mask

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
if host.COMPILER is None:
    pytest.skip("g++ is not here to compile the kernels for the host", allow_module_level=True)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)]
MOVED = [np.dtype(name) for name in ("i1", "i2", "f4", "i8", "c16")]
ALWAYS = 1 << 32
ALL = (
    [f"{what} {dtype}" for what in ("drop", "alpha", "times", "plus") for dtype in FLOATS]
    + [f"fill {dtype}" for dtype in MOVED]
    + ["mark"]
)
# All storages, which is what alignment matters to; with the other operations it takes longer.
STORED = [*(f"drop {dtype}" for dtype in FLOATS), "fill int8", "fill complex128", "mark"]
THINNED = [w if w in STORED else pytest.param(w, marks=pytest.mark.slow) for w in ALL]
KEY = fd.Key(2**63 + 12345, 2**40 + 77)


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return host.everything()


@pytest.fixture(scope="module", autouse=True)
def launcher(library: ctypes.CDLL) -> Iterator[host.HostLauncher]:
    before = driver._launcher
    driver._launcher = runner = host.HostLauncher(library)
    yield runner
    driver._launcher = before


@contextmanager
def settings_of_launches(**values: int) -> Iterator[None]:
    """Other limits in `launch`: smaller, so that what they are for happens to small arrays."""
    before = {name: getattr(launch, name) for name in values}
    try:
        for name, value in values.items():
            setattr(launch, name, value)
        launch.pieces.cache_clear()
        yield
    finally:
        for name, value in before.items():
            setattr(launch, name, value)
        launch.pieces.cache_clear()


WIDE = {"NARROW_BELOW": 0}  # count in 64 bits


@pytest.fixture(params=[32, 64], ids=["32 bits", "64 bits"])
def _counting(request: pytest.FixtureRequest) -> Iterator[None]:
    with settings_of_launches(**({} if request.param == 32 else WIDE)):
        yield


class Made(NamedTuple):
    """An array, and all the memory that it lies in."""

    array: Array
    memory: Array


def made(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    by: int = 0,
    order: tuple[int, ...] | None = None,
    steps: tuple[int, ...] | None = None,
) -> Made:
    """A poisoned array `by` bytes behind a multiple of 64; a step of 0 repeats what is there."""
    order = tuple(range(len(shape))) if order is None else order
    steps = (1,) * len(shape) if steps is None else steps
    lengths = [(shape[a] - 1) * abs(steps[a]) + 1 for a in order]
    memory = np.full(math.prod(lengths) * dtype.itemsize + 256, POISON, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64 + 64 + by
    whole = memory[start : start + math.prod(lengths) * dtype.itemsize].view(dtype)
    back = tuple(order.index(a) for a in range(len(shape)))
    array = whole.reshape(lengths).transpose(back)
    every: tuple[Any, ...] = (..., *(slice(None, None, step or 1) for step in steps))
    array = array[every]
    return Made(np.broadcast_to(array, shape) if 0 in steps else array, memory)


def numbers(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """Numbers of all magnitudes, and no NaN: which NaN a NaN is may differ."""
    size = math.prod(shape)
    if dtype.kind in "iu":
        return rng.integers(-100, 100, size).astype(dtype).reshape(shape)
    exponents = {2: 9, 4: 37, 8: 300, 16: 300}[dtype.itemsize]
    values = rng.standard_normal(size) * 10.0 ** rng.integers(-exponents, exponents, size)
    with np.errstate(over="ignore"):
        return values.astype(dtype).reshape(shape)


def kept_at(place: dict[str, Any], shape: tuple[int, ...], threshold: int) -> Array:
    index = reference.mask_index(shape, **place)
    words = np.uint64(KEY.seed), np.uint64(KEY.stream), index, np.uint64(threshold)
    return np.asarray(contract.keep(*words))


def tied_threshold(place: dict[str, Any], shape: tuple[int, ...], nth: int, below: int) -> int:
    """A threshold whose upper half is that of an element, so that it has to be settled."""
    index = reference.mask_index(shape, **place).ravel()
    words = np.uint64(KEY.seed), np.uint64(KEY.stream), index[nth % index.size]
    uniform = contract.uniform32(*words)
    return max(1, int(uniform) - below)


def check(
    what: str,
    out: Made,
    x: Made | None,
    threshold: int,
    rng: np.random.Generator,
    *,
    in_place: bool = False,
    key_pointer: int | None = None,
    **place: Any,
) -> None:
    """Run an operation; y must be what the reference says, and no other byte may change."""
    y = out.array
    kept = kept_at(place, y.shape, threshold)
    index, strides = arguments.place(
        y.shape, place.get("noise_shape"), place.get("offset", 0), place.get("global_shape")
    )
    value, source = np.zeros((), y.dtype), y
    if x is not None:
        data = numbers(x.array.shape, y.dtype, rng)
        if 0 in x.array.strides:
            x.memory[:] = rng.integers(0, 60, x.memory.size)
            data = x.array.copy()
        else:
            x.array[...] = data
        source = x.array
        if in_place:
            y[...] = data
            source = y
    if what == "mark":
        operation, result = driver.marking(), kept
    elif what.startswith("drop"):
        operation, factor = driver.dropping(y.dtype), 1.4375123
        computed = np.dtype(np.float32) if y.itemsize == 2 else y.dtype
        value, result = np.array(factor, computed), applied(kept, data, factor)
    elif what.startswith("alpha"):
        operation = driver.alpha_dropping(y.dtype)
        value = np.array([0.8123, 0.3217, -1.4141], np.float32 if y.itemsize == 2 else y.dtype)
        result = affine(kept, data, *value)
    elif what.startswith(("times", "plus")):
        value = np.array(0.75, np.float32 if y.itemsize == 2 else y.dtype)
        threshold %= ALWAYS  # they have no use for one
        drawn = what.partition(" ")[0]
        operation = (driver.gaussian_dropping if drawn == "times" else driver.gaussian_adding)(
            y.dtype
        )
        z = normals_of(reference.mask_index(y.shape, **place), KEY)
        result = noisy(drawn, z, data, value)
    else:
        operation, value = driver.filling(y.dtype), np.array(-77, y.dtype)
        result = np.where(kept, data, value)
    expected = out.memory.copy()
    start = y.__array_interface__["data"][0] - out.memory.__array_interface__["data"][0]
    view = np.ndarray(y.shape, y.dtype, expected, start, y.strides)
    view[...] = result
    driver.apply(
        operation, source, y, index, strides, *KEY, threshold, value, key_pointer=key_pointer
    )
    np.testing.assert_array_equal(y, result)
    assert out.memory.tobytes() == expected.tobytes()


def dtype_of(what: str) -> np.dtype[Any]:
    if what == "mark":
        return np.dtype(np.bool_)
    name = what.split()[1]
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)


def test_places_of_fields_are_those_of_the_header(library: ctypes.CDLL) -> None:
    class Field(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char_p), ("offset", ctypes.c_size_t)]

    fields: dict[str, int] = {}
    for field in (Field * 64).in_dll(library, "FIELDS"):
        if field.name is None:
            break
        fields[field.name.decode()] = field.offset
    call = launch.KEYED.size + launch.LAW.size
    assert list(fields.values()) == [
        *(0, 32, 40, 48, 56, 64, 96, 100),  # what KEYED and LAW pack
        *(call + at for at in (0, 8, 16, 48, 64, 80, 136, 144)),  # LAYOUT
        *(0, 8, 16, 48, 52, launch.AXIS.size),  # and AXIS
    ]
    assert (launch.KEYED.size, call) == (56, 104)
    assert launch.LAYOUT.size == 144


@pytest.mark.parametrize("answer", [a for a in ANSWERS if a.rounds == 10], ids=str)
def test_philox_gives_the_known_answers(library: ctypes.CDLL, answer: Any) -> None:
    words = (ctypes.c_uint * 6)(*answer.counter, *answer.key)
    out = (ctypes.c_uint * 4)()
    library.philox_on_host(words, out)
    assert list(out) == answer.output


def test_functions_of_the_contract_equal_the_reference(
    library: ctypes.CDLL, rng: np.random.Generator
) -> None:
    u64 = ctypes.c_uint64
    library.uniform_on_host.restype = ctypes.c_uint
    library.keep_on_host.restype = ctypes.c_bool
    for seed, stream, index in rng.integers(0, 2**63, (300, 3), np.uint64):
        words = u64(int(seed)), u64(int(stream)), u64(int(index))
        uniform = int(contract.uniform32(seed, stream, index))
        assert library.uniform_on_host(*words) == uniform
        for threshold in (0, uniform, uniform + 1, ALWAYS):
            assert library.keep_on_host(*words, u64(threshold)) == (uniform >= threshold)


@pytest.mark.parametrize("v", VECTORS["masks"], ids=lambda v: f"{v['shape']}-{v['p_decimal']}")
def test_mask_vectors_are_drawn(v: dict[str, Any]) -> None:
    shape, p, key, where = arguments_of(v)
    place = arguments.place(
        shape, where.get("noise_shape"), where.get("offset", 0), where.get("global_shape")
    )
    threshold = contract.threshold(p)
    out = poisoned(shape, np.uint8).view(np.bool_)
    driver.apply(driver.marking(), out, out, *place, *key, threshold, np.zeros(()))
    assert out.view(np.uint8).max() <= 1
    check_mask(out, v)
    bits = poisoned(((math.prod(shape) + 7) // 8,), np.uint8)
    driver.pack(bits, shape, *place, *key, threshold)
    unpacked = np.unpackbits(bits, count=math.prod(shape), bitorder="little")
    check_mask(unpacked.astype(bool).reshape(shape), v)
    assert bits.tobytes() == np.packbits(out.ravel(), bitorder="little").tobytes()


@pytest.mark.parametrize("v", VECTORS["ties"], ids=lambda v: v["index"])
@pytest.mark.parametrize("shape", [(1,), (300,), (20, 20)])
def test_tie_vectors_are_settled(v: dict[str, Any], shape: tuple[int, ...]) -> None:
    key, index = (int(v["seed"]), int(v["stream"])), int(v["index"])
    for name, kept in (("kept_at_p", True), ("dropped_at_p", False)):
        threshold = contract.threshold(float.fromhex(v[name]))
        out = poisoned(shape, np.bool_)
        driver.apply(driver.marking(), out, out, index, None, *key, threshold, np.zeros(()))
        assert bool(out.flat[0]) is kept


@pytest.mark.usefixtures("_counting")
@pytest.mark.parametrize("what", ALL)
def test_every_size_is_treated(what: str, rng: np.random.Generator) -> None:
    dtype = dtype_of(what)
    for n in (1, 2, 7, 8, 9, 31, 33, 260, 4097):
        for offset in (0, 5):
            by = offset * n % 16
            x = None if what == "mark" else made((n,), dtype, by)
            check(what, made((n,), dtype, 3 * by % 16), x, 0x4CCC8123, rng, offset=offset)


@pytest.mark.parametrize("what", THINNED)
def test_every_alignment_is_treated(what: str, rng: np.random.Generator) -> None:
    # Those that are no multiples of the itemsize too, which CUDA cannot access at once.
    dtype = dtype_of(what)
    for y_by in range(16):
        for x_by in range(16) if what != "mark" else [0]:
            x = None if what == "mark" else made((61,), dtype, x_by)
            check(what, made((61,), dtype, y_by), x, 0x4CCC8123, rng, offset=y_by * x_by)


@pytest.mark.parametrize("what", THINNED)
def test_rows_of_every_alignment_are_treated(what: str, rng: np.random.Generator) -> None:
    dtype = dtype_of(what)
    for width in (*range(1, 20), 64):
        for more in (0, 1, 3, 16):
            for steps in ((1, 1), (2, 1)):
                x = made((5, width + more), dtype, dtype.itemsize * more % 16)
                y = made((5, width), dtype, dtype.itemsize * (width % 4), steps=steps)
                x = Made(x.array[:, more:], x.memory)
                check(what, y, None if what == "mark" else x, 0x80000001, rng, offset=width)


@pytest.mark.parametrize("what", ["drop float32", "drop bfloat16", "drop float64", "mark"])
@pytest.mark.parametrize(
    "offset", [1, 7, 2**32 - 3, 2**35 - 100, 2**35 + 9, 2**60 + 1, 2**63 - 700]
)
@pytest.mark.parametrize("shape", [(700,), (20, 35), (350, 2)])
def test_every_offset_is_counted_from(
    what: str, offset: int, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    dtype = dtype_of(what)
    for order in (None, tuple(reversed(range(len(shape))))):
        x = None if what == "mark" else made(shape, dtype)
        for threshold in (1 << 31, 0x4CCC8123):
            check(what, made(shape, dtype, order=order), x, threshold, rng, offset=offset)


@st.composite
def cases(draw: Callable[..., Any]) -> dict[str, Any]:
    rank = draw(st.integers(0, 4))
    most = {0: 1, 1: 3000, 2: 60, 3: 14, 4: 7}[rank]
    shape = tuple(draw(st.integers(1, most)) for _ in range(rank))
    axes = st.permutations(range(rank)).map(tuple)
    contiguous = st.just((1,) * rank)
    step = st.sampled_from([1, 1, 1, 2, 3, -1, -2])
    stepped = st.tuples(*(step for _ in shape))
    repeated = st.tuples(*(st.sampled_from([0, 1, 1, -1]) for _ in shape))
    where = draw(st.sampled_from(["whole", "offset", "shard"]))
    place: dict[str, Any] = {}
    full = shape
    if where == "offset":
        place["offset"] = draw(st.integers(0, 2**62))
    elif where == "shard":
        start = tuple(draw(st.integers(0, 9)) for _ in shape)
        full = tuple(s + n + draw(st.integers(0, 9)) for s, n in zip(start, shape, strict=True))
        place |= {"offset": start, "global_shape": full}
    if draw(st.booleans()):
        place["noise_shape"] = tuple(draw(st.sampled_from([1, n])) for n in full)
    return {
        "shape": shape,
        "place": place,
        "what": draw(st.sampled_from(ALL)),
        "y": (draw(st.integers(0, 15)), draw(axes), draw(st.one_of(contiguous, stepped))),
        "x": (draw(st.integers(0, 15)), draw(axes), draw(st.one_of(contiguous, stepped, repeated))),
        "in_place": draw(st.booleans()),
        "threshold": draw(
            st.one_of(st.sampled_from([0, 1, 1 << 31, ALWAYS - 1, ALWAYS]), st.integers(0, ALWAYS))
        ),
        "tie": draw(st.sampled_from([None, 0, 1])),
        "nth": draw(st.integers(0, 10**6)),
        "wide": draw(st.booleans()),
        "few_blocks": draw(st.booleans()),
    }


def check_case(case: dict[str, Any]) -> None:
    shape, place, what = case["shape"], case["place"], case["what"]
    rng = np.random.default_rng(case["nth"])
    threshold = case["threshold"]
    if case["tie"] is not None:
        threshold = tied_threshold(place, shape, case["nth"], case["tie"])
    dtype = dtype_of(what)
    y = made(shape, dtype, *case["y"])
    x = None if what == "mark" else made(shape, dtype, *case["x"])
    with settings_of_launches(
        **(WIDE if case["wide"] else {}), **({"MAX_BLOCKS": 2} if case["few_blocks"] else {})
    ):
        check(what, y, x, threshold, rng, in_place=case["in_place"], **place)
        bits = made(((math.prod(shape) + 7) // 8,), np.dtype(np.uint8), case["y"][0])
        index, strides = arguments.place(
            shape, place.get("noise_shape"), place.get("offset", 0), place.get("global_shape")
        )
        driver.pack(bits.array, shape, index, strides, *KEY, threshold)
    kept = kept_at(place, shape, threshold)
    assert_same(bits.array, np.packbits(kept.ravel(), bitorder="little"))
    start = bits.array.__array_interface__["data"][0] - bits.memory.__array_interface__["data"][0]
    assert (bits.memory[:start] == POISON).all()
    assert (bits.memory[start + bits.array.size :] == POISON).all()


@settings(max_examples=150)
@given(case=cases())
def test_anything_is_treated(case: dict[str, Any]) -> None:
    check_case(case)


@pytest.mark.slow
@settings(max_examples=2000)
@given(case=cases())
def test_anything_at_all_is_treated(case: dict[str, Any]) -> None:
    check_case(case)


@pytest.mark.parametrize(
    ("what", "shape", "order", "steps", "place", "form"),
    [
        ("drop float32", (3000,), (0,), (1,), {}, "flat"),
        ("drop float32", (30, 100), (0, 1), (1, 1), {"noise_shape": (1, 100)}, "line"),
        ("drop float32", (30, 100), (0, 1), (1, 1), {"noise_shape": (30, 1)}, "runs"),
        ("drop float32", (30, 100), (1, 0), (1, 1), {}, "panel"),
        ("drop float32", (30, 100), (0, 1), (1, 2), {}, "any"),
        ("drop float32", (30, 100), (1, 0), (-1, -2), {}, "panel"),
    ],
)
def test_layouts_take_the_form_that_is_for_them(
    what: str,
    shape: tuple[int, ...],
    order: tuple[int, ...],
    steps: tuple[int, ...],
    place: dict[str, Any],
    form: str,
    launcher: host.HostLauncher,
    rng: np.random.Generator,
) -> None:
    dtype = dtype_of(what)
    check(what, made(shape, dtype, 0, order, steps), made(shape, dtype), 1 << 31, rng, **place)
    assert launcher.names[-1] == f"drop_float32_{form}_32"


@pytest.mark.parametrize("p_is_one", [False, True])
def test_nothing_is_drawn_and_nothing_dropped_is_read_where_all_is_certain(p_is_one: bool) -> None:
    y = poisoned((40, 50), np.float32)
    x = np.full((40, 50), np.nan, np.float32)
    threshold, one = (ALWAYS if p_is_one else 0), np.float32(1).tobytes()
    # Of what is all dropped the address may be anyone's: reading there would crash.
    at = 16 if p_is_one else x.ctypes.data
    made_launches = list(
        launch.launches(
            operations.DROPS["float32"], [y.ctypes.data, at], y.shape, (y.strides, x.strides), 3,
            c_strides(y.shape), *KEY, threshold, one,
        )
    )  # fmt: skip
    assert [m.kernel for m in made_launches] == ["drop_float32_runs_32"]
    assert driver._launcher is not None
    driver._launcher.launch(made_launches[0])
    assert y.tobytes() == bytes(y.nbytes) if p_is_one else np.isnan(y).all()


@pytest.mark.usefixtures("_counting")
@pytest.mark.parametrize("what", ["drop bfloat16", "fill c16", "mark"])
def test_arrays_of_many_axes_are_treated(what: str, rng: np.random.Generator) -> None:
    shape = (2,) * 11
    dtype = dtype_of(what)
    for steps in ((2,) * 11, (1, 2) * 5 + (1,)):
        x = None if what == "mark" else made(shape, dtype, order=tuple(range(10, -1, -1)))
        check(what, made(shape, dtype, steps=steps), x, 1 << 31, rng, offset=3)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_what_is_too_much_for_a_launch_is_cut(
    blocks: int, launcher: host.HostLauncher, rng: np.random.Generator
) -> None:
    dtype = np.dtype(np.float32)
    shape = (5, 6001)
    for order in ((0, 1), (1, 0)):
        before = len(launcher.names)
        with settings_of_launches(MAX_BLOCKS=blocks):
            y, x = made(shape, dtype, 4, order), made(shape, dtype, 8, order)
            check("drop float32", y, x, 0x80000001, rng, offset=7)
        assert len(launcher.names) - before > 1


def test_a_key_in_memory_is_read_there_and_advanced(rng: np.random.Generator) -> None:
    key = np.array([KEY.seed, KEY.stream - 1], np.uint64)
    driver.advance(key.ctypes.data)
    assert key.tolist() == list(KEY)
    dtype = np.dtype(np.float32)
    for order in ((0, 1), (1, 0)):
        x = made((30, 70), dtype)
        out = made((30, 70), dtype, order=order)
        y = np.ones((30, 70), np.float32)
        driver.apply(
            driver.dropping(dtype), y, out.array, 0, None, 1, 2, 1 << 31, np.float32(1)[...],
            key_pointer=key.ctypes.data,
        )  # fmt: skip
        kept = kept_at({}, (30, 70), 1 << 31)
        np.testing.assert_array_equal(out.array, kept.astype(np.float32))
        check("drop float32", made((30, 70), dtype, order=order), x, 1 << 31, rng)
    bits = poisoned((263,), np.uint8)
    driver.pack(bits, (30, 70), 0, None, 1, 2, 1 << 31, key_pointer=key.ctypes.data)
    assert_same(bits, np.packbits(kept.ravel(), bitorder="little"))
    key[1] = 2**64 - 1
    driver.advance(key.ctypes.data)
    assert key.tolist() == [KEY.seed, 0]


def assert_same_numbers(actual: Array, expected: Array) -> None:
    """The same bits, but that any NaN is a NaN: neither payload nor sign is promised."""
    numbers = [np.where(np.isnan(a), a.dtype.type(0), a) for a in (actual, expected)]
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    assert_same(*numbers)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=str)
def test_all_half_numbers_are_computed_with_and_rounded_once(dtype: np.dtype[Any]) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    for factor in (1.0, 1.1, 3.0, 1e-3, 65504.0, -0.7):
        y = poisoned(every.shape, dtype)
        value = np.array(factor, np.float32)
        driver.apply(driver.dropping(dtype), every, y, 0, None, *KEY, 0, value)
        expected = applied(np.ones(every.shape, bool), every, factor)
        assert_same_numbers(y, expected)


def test_float16_is_rounded_to_nearest_even(library: ctypes.CDLL) -> None:
    library.float16_rounded.argtypes = library.bfloat16_rounded.argtypes = [ctypes.c_float]
    library.float16_rounded.restype = library.bfloat16_rounded.restype = ctypes.c_uint
    # Around all float16 numbers and the middles between them.
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)[::7]
    near = halves[np.isfinite(halves)].astype(np.float32)
    middles = (near[:-1] + near[1:]) / 2
    with np.errstate(over="ignore"):
        for x in (near, middles, np.nextafter(middles, np.float32(np.inf))):
            expected = x.astype(np.float16).view(np.uint16)
            assert [library.float16_rounded(v) for v in x.tolist()] == expected.tolist()
            bf16 = x.astype(BFLOAT16).view(np.uint16)
            assert [library.bfloat16_rounded(v) for v in x.tolist()] == bf16.tolist()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_and_infinity_vanish_where_dropped_and_stay_where_kept(dtype: np.dtype[Any]) -> None:
    for bad in (np.nan, np.inf, -np.inf, -0.0):
        for order in ("C", "F"):
            x = np.full((40, 41), bad, dtype, order=order)
            y = poison(np.empty_like(x))
            value = np.array(2, np.float64 if dtype == np.float64 else np.float32)
            driver.apply(driver.dropping(dtype), x, y, 0, None, *KEY, 1 << 31, value)
            expected = applied(kept_at({}, x.shape, 1 << 31), x, 2.0)
            assert_same_numbers(y, expected)


@pytest.mark.usefixtures("_counting")
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_operation_of_three_operands_is_one_functor(
    order: Any, rng: np.random.Generator
) -> None:
    # dropout(x + bias) * scale + residual, the bias broadcast along rows.
    shape = (33, 70)
    x, residual = (
        np.asarray(rng.standard_normal(shape).astype(np.float32), order=order) for _ in "ab"
    )
    bias = np.broadcast_to(rng.standard_normal(70).astype(np.float32), shape)
    for by in (0, 4, 8):
        y = made(shape, np.dtype(np.float32), by, (0, 1) if order == "C" else (1, 0)).array
        arrays = (y, x, bias, residual)
        assert driver._launcher is not None
        for one in launch.launches(
            RESIDUAL, [a.ctypes.data for a in arrays], shape, tuple(a.strides for a in arrays), 5,
            c_strides(shape), *KEY, 1 << 30, np.float32(1.25).tobytes(),
        ):  # fmt: skip
            driver._launcher.launch(one)
        kept = kept_at({"offset": 5}, shape, 1 << 30)
        expected = np.where(kept, (x + bias) * np.float32(1.25), np.float32(0)) + residual
        assert_same(np.ascontiguousarray(y), expected)


@pytest.mark.usefixtures("_counting")
@pytest.mark.parametrize(
    ("order", "steps"), [((0, 1), (1, 1)), ((1, 0), (1, 1)), ((0, 1), (1, 3)), ((0, 1), (2, 1))]
)
def test_an_operation_can_have_the_exact_uniforms(
    order: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    shape = (30, 45)
    y = made(shape, np.dtype(np.uint32), 4, order, steps).array
    assert driver._launcher is not None
    for index_strides in (c_strides(shape), (0, 1), (1, 0), (0, 0)):
        for one in launch.launches(
            UNIFORM, [y.ctypes.data], shape, (y.strides,), 11, index_strides, *KEY, 0
        ):
            driver._launcher.launch(one)
        rows, columns = np.indices(shape, np.uint64)
        index = 11 + rows * np.uint64(index_strides[0]) + columns * np.uint64(index_strides[1])
        uniform = contract.uniform32(np.uint64(KEY.seed), np.uint64(KEY.stream), index)
        np.testing.assert_array_equal(y, uniform)


def test_magic_numbers_divide_all_that_is_counted(rng: np.random.Generator) -> None:
    numerators = [0, 1, 2**31 - 1, *rng.integers(0, 2**31, 200).tolist()]
    for length in [1, 2, 3, 5, 7, 8, 641, 2**16, 2**16 + 1, 2**30, 2**31 - 1,
                   *rng.integers(1, 2**31, 200).tolist()]:  # fmt: skip
        *_, magic, shift = launch.AXIS.unpack(launch.packed_axis((length, 0)))
        for n in (*numerators, length - 1, length, min(2 * length, 2**31 - 1)):
            assert ((n * magic >> 32) + n) >> shift == n // length


def test_modules_name_their_kernels_after_the_operation() -> None:
    module = operations.DROPS["bfloat16"].module
    entry = "FASTDROP_FORM(drop_bfloat16_line, LINE, (FASTDROP_IN_FLIGHT + 0) / 1, "
    assert f"{entry}fastdrop::Drop<fastdrop::Bfloat16>)" in modules.source(module)
    assert "#include" not in modules.source(module)


def test_keys_differ_from_call_to_call(rng: np.random.Generator) -> None:
    x = np.ones(100, np.float32)
    results = set()
    for _ in range(3):
        y = poisoned((100,), np.float32)
        driver.apply(
            driver.dropping(x.dtype), x, y, 0, None, *key_from(rng), 1 << 31, np.float32(1)[...]
        )
        results.add(y.tobytes())
    assert len(results) == 3


def test_the_launcher_gives_cupy_one_argument_by_value(
    launcher: host.HostLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What stands in for CuPy reads the argument as CuPy does: of a NumPy array of one element, the
    # memory. Whether CuPy itself agrees is for a machine that has it.
    made_modules = []

    class RawModule:
        def __init__(self, *, code: str, options: tuple[str, ...], backend: str) -> None:
            assert (options, backend) == (modules.OPTIONS, "nvrtc")
            made_modules.append(code)

        def get_function(self, name: str) -> Callable[..., None]:
            def kernel(grid: tuple[int], block: tuple[int], args: tuple[Array]) -> None:
                (argument,) = args
                assert argument.size == 1
                at = argument.__array_interface__["data"][0]
                data = ctypes.string_at(at, argument.nbytes)
                module = operations.MARK.module
                launcher.launch(launch.Launch(module, name, *grid, *block, data))

            return kernel

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=RawModule))
    monkeypatch.delitem(sys.modules, "fastdrop_kernels.cuda.cupy_launcher", raising=False)
    from fastdrop_kernels.cuda.cupy_launcher import CupyLauncher

    monkeypatch.delitem(sys.modules, "fastdrop_kernels.cuda.cupy_launcher")
    runner = CupyLauncher()
    for shape in ((1000,), (20, 50)):
        out = poisoned(shape, np.bool_)
        for one in launch.launches(
            operations.MARK, [out.ctypes.data], shape, (out.strides,), 0, c_strides(shape), *KEY,
            1 << 31,
        ):  # fmt: skip
            runner.launch(one)
        np.testing.assert_array_equal(out, kept_at({}, shape, 1 << 31))
    assert made_modules == [modules.source(operations.MARK.module)]


@pytest.mark.slow
def test_no_kernel_reads_or_writes_what_is_not_its_own() -> None:
    """The same tests under the address and the undefined-behaviour sanitizer."""
    if os.environ.get(host.SANITIZED):
        pytest.skip("this is that run")
    assert host.COMPILER
    asan, ubsan = (
        subprocess.run(
            [host.COMPILER, f"-print-file-name=lib{name}.so"], capture_output=True, text=True
        ).stdout.strip()
        for name in ("asan", "ubsan")
    )
    if not os.path.isabs(asan):
        pytest.skip("the sanitizers' libraries are not here")
    environment = dict(os.environ)
    environment |= {host.SANITIZED: "1", "LD_PRELOAD": f"{asan} {ubsan}"}
    environment["ASAN_OPTIONS"] = "detect_leaks=0"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__),
            *("-m", "not slow"),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
