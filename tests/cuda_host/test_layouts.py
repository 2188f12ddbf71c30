"""The CUDA C++, compiled for the host and run over every thread: bit for bit the reference.

Arrays of every size, place and layout: plans, arguments, and the bodies of the kernels are run, and
nothing of CuPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdrop._check import placement
from fastdrop_kernels.cuda import driver
from tests.support.cuda_host.cases import (
    ALL,
    ALWAYS,
    FLOATS,
    KEY,
    WIDE,
    Made,
    check,
    dtype_of,
    is_quick,
    kept_at,
    made,
    settings_of_launches,
    tied_threshold,
)
from tests.support.oracle import POISON, assert_same
from tests.support.thinning import thinned

pytestmark = pytest.mark.usefixtures("cuda_on_host")

# All storages, which is what alignment matters to; with the other operations it takes longer.
STORED = [*(f"drop {dtype}" for dtype in FLOATS), "fill int8", "fill complex128", "mark"]
stored_first = pytest.mark.parametrize("what", thinned(lambda what: what in STORED, ALL))


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("what", thinned(is_quick, ALL))
def test_every_size_is_treated(what: str, rng: np.random.Generator) -> None:
    dtype = dtype_of(what)
    for n in (1, 2, 7, 8, 9, 31, 33, 260, 4097):
        for offset in (0, 5):
            by = offset * n % 16
            x = None if what == "mark" else made((n,), dtype, by)
            check(what, made((n,), dtype, 3 * by % 16), x, 0x4CCC8123, rng, offset=offset)


@stored_first
def test_every_alignment_is_treated(what: str, rng: np.random.Generator) -> None:
    # Those that are no multiples of the itemsize too, which CUDA cannot access at once.
    dtype = dtype_of(what)
    for y_by in range(16):
        for x_by in range(16) if what != "mark" else [0]:
            x = None if what == "mark" else made((61,), dtype, x_by)
            check(what, made((61,), dtype, y_by), x, 0x4CCC8123, rng, offset=y_by * x_by)


@stored_first
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


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("what", ["drop bfloat16", "fill c16", "mark"])
def test_arrays_of_many_axes_are_treated(what: str, rng: np.random.Generator) -> None:
    shape = (2,) * 11
    dtype = dtype_of(what)
    for steps in ((2,) * 11, (1, 2) * 5 + (1,)):
        x = None if what == "mark" else made(shape, dtype, order=tuple(range(10, -1, -1)))
        check(what, made(shape, dtype, steps=steps), x, 1 << 31, rng, offset=3)


@st.composite
def cases(draw: Callable[..., Any], operations: list[str]) -> dict[str, Any]:
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
        "what": draw(st.sampled_from(operations)),
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
        index, strides = placement.placement_of(
            shape, place.get("noise_shape"), place.get("offset", 0), place.get("global_shape")
        )
        driver.pack(bits.array, shape, index, strides, *KEY, threshold)
    kept = kept_at(place, shape, threshold)
    assert_same(bits.array, np.packbits(kept.ravel(), bitorder="little"))
    start = bits.array.__array_interface__["data"][0] - bits.memory.__array_interface__["data"][0]
    assert (bits.memory[:start] == POISON).all()
    assert (bits.memory[start + bits.array.size :] == POISON).all()


@settings(max_examples=80)
@given(case=cases([what for what in ALL if is_quick(what)]))
def test_anything_is_treated(case: dict[str, Any]) -> None:
    check_case(case)


@pytest.mark.slow
@settings(max_examples=2000)
@given(case=cases(ALL))
def test_anything_at_all_is_treated(case: dict[str, Any]) -> None:
    check_case(case)
