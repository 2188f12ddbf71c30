"""Multi-operand functions in CUDA C++, compiled for the host, compared with NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdrop_kernels.cuda import driver, launch
from tests.support.cuda_host.cases import (
    ALWAYS,
    FLOATS,
    KEY,
    MOVED,
    SPREADS,
    WIDE,
    assert_same_numbers,
    kept_at,
    made,
    settings_of_launches,
    tied_threshold,
    uniforms,
)
from tests.support.cuda_host.host import HostLauncher
from tests.support.cuda_host.operand_cases import check, computed, dtypes_of, operation_of
from tests.support.cuda_host.strategies import placements, thresholds
from tests.support.internals import c_strides
from tests.support.oracle import poisoned
from tests.support.slow import slow_unless

EXACT = [
    *(f"each {dtype}" for dtype in FLOATS),
    *(f"{act} bias residual {dtype}" for act in ("identity", "relu") for dtype in FLOATS),
    *(f"identity{parts} float32" for parts in ("", " bias", " residual")),
    *(f"back relu bias {dtype}" for dtype in FLOATS),
    "back relu float32",
    *(f"zoneout{mean} {dtype}" for mean in ("", " mean") for dtype in FLOATS),
    *(f"from {dtype}" for dtype in MOVED),
]
QUICK = [
    "each float32",
    "zoneout float32",
    "zoneout mean float32",
    "from int8",
    "from float32",
    "identity bias residual float32",
    "back relu bias float32",
]

pytestmark = pytest.mark.usefixtures("cuda_on_host")


@st.composite
def cases(draw: Callable[..., Any], operations: list[str]) -> dict[str, Any]:
    rank = draw(st.integers(0, 4))
    most = {0: 1, 1: 5000, 2: 70, 3: 16, 4: 8}[rank]
    shape = tuple(draw(st.integers(1, most)) for _ in range(rank))
    axes = st.permutations(range(rank)).map(tuple)
    plain = st.tuples(st.just(tuple(range(rank))), st.just((1,) * rank))
    stepped = st.tuples(axes, st.tuples(*(st.sampled_from([1, 1, 1, 2, -1]) for _ in shape)))
    repeated = st.tuples(axes, st.tuples(*(st.sampled_from([0, 0, 1, 1, -1]) for _ in shape)))
    by = st.sampled_from([0, 0, 0, 4, 8, 1, 2, 6, 12])
    return {
        "what": draw(st.sampled_from(operations)),
        "shape": shape,
        "place": draw(placements(shape)),
        "y": (draw(by), *draw(st.one_of(plain, stepped))),
        "inputs": [(draw(by), *draw(st.one_of(plain, stepped, repeated))) for _ in range(3)],
        "threshold": draw(thresholds),
        "tie": draw(st.sampled_from([None, 0, 1])),
        "seed": draw(st.integers(0, 10**6)),
        "wide": draw(st.booleans()),
        "few_blocks": draw(st.booleans()),
    }


def check_case(case: dict[str, Any]) -> None:
    shape, place, what, threshold = (case[k] for k in ("shape", "place", "what", "threshold"))
    rng = np.random.default_rng(case["seed"])
    if case["tie"] is not None:
        threshold = tied_threshold(place, shape, case["seed"], case["tie"])
    dtypes = dtypes_of(what)
    out = made(shape, dtypes[0], *case["y"])
    inputs = [made(shape, d, *how) for d, how in zip(dtypes, case["inputs"], strict=False)]
    with settings_of_launches(
        **(WIDE if case["wide"] else {}), **({"MAX_BLOCKS": 2} if case["few_blocks"] else {})
    ):
        check(what, out, inputs, threshold, rng, **place)


@settings(max_examples=80)
@given(case=cases(QUICK))
def test_any_layout_and_placement(case: dict[str, Any]) -> None:
    check_case(case)


@pytest.mark.slow
@settings(max_examples=1000)
@given(case=cases(EXACT))
def test_many_layouts_and_placements(case: dict[str, Any]) -> None:
    check_case(case)


@pytest.mark.parametrize("what", slow_unless(lambda what: what in QUICK, EXACT))
def test_operands_of_every_alignment(what: str, rng: np.random.Generator) -> None:
    dtypes = dtypes_of(what)
    for by in range(0, 16, 3):
        out = made((4200,), dtypes[0], by)
        inputs = [made((4200,), d, (by * k + k) % 16) for k, d in enumerate(dtypes)]
        check(what, out, inputs, 0x4CCC8123, rng, offset=by)


@pytest.mark.parametrize(
    ("what", "spread"),
    slow_unless(
        lambda what, spread: what in QUICK,
        ["each float32", "each bfloat16", "each float64", "relu bias residual float16"],
        SPREADS,
    ),
)
def test_dense_operands_take_the_flat_kernel_and_broadcast_ones_that_of_rows(
    what: str, spread: str, cuda_on_host: HostLauncher, rng: np.random.Generator
) -> None:
    shape, steps = (6, 8, 16), SPREADS[spread]
    first, *others = dtypes_of(what)
    inputs = [made(shape, first), *(made(shape, d, 0, None, steps) for d in others)]
    check(what, made(shape, first), inputs, 0x4CCC8123, rng)
    form = "contiguous" if spread == "dense" else "strided"
    assert cuda_on_host.names[-1] == f"{operation_of(what).name}_{form}_32"


@pytest.mark.parametrize(
    ("what", "widths"),
    [
        # Of a group of 8 elements: 16 bytes, and 32 in two accesses.
        ("each float16", (16, 16, 16)),
        # Of one of 2 elements, thresholds are 8 bytes.
        ("each float64", (16, 8, 16)),
        ("identity bias residual float32", (16, 16, 16)),
    ],
)
def test_rows_are_loaded_as_wide_as_their_alignment_allows(
    what: str, widths: tuple[int, ...]
) -> None:
    operation = operation_of(what)
    sizes = [operation.storage.itemsize, *(storage.itemsize for storage in operation.operands)]
    for repeated, moved in ((False, 0), (True, 0), (False, 4)):
        strides = [(32 * size, size) for size in sizes]
        if repeated:
            strides[2:] = [(0, size) for size in sizes[2:]]
        phases = (0, 0, *[moved] * (len(sizes) - 2))
        (piece,) = launch.pieces(
            operation, (50, 32), tuple(strides), c_strides((50, 32)), phases, 0
        )
        assert ("contiguous" in piece.kernel) is not repeated
        *_, y, x, a, b = launch.LAYOUT.unpack(piece.layout[: launch.LAYOUT.size])[6:14]
        assert y == 0
        assert (x, a, b) == (widths if not moved else (16, *(min(4, w) for w in widths[1:])))


def test_ties_of_per_element_thresholds_are_resolved(rng: np.random.Generator) -> None:
    n, dtype = 5003, np.dtype(np.float32)
    u = uniforms({}, (n,)).astype(np.int64)
    x, one = np.ones(n, dtype), np.broadcast_to(np.float32(1), (n,))
    for by, kept in ((0, True), (1, False), (-1, True)):
        t = np.clip(u + by, 0, 2**32 - 1).astype(np.uint32)
        y = poisoned((n,), dtype)
        driver.apply(
            driver.per_element("drop", dtype),
            x,
            y,
            0,
            None,
            *KEY,
            1,
            np.zeros(()),
            operands=(t, one),
        )
        assert (y == np.float32(kept)).all()


@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype == np.float32, FLOATS), ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_nan_and_infinity_vanish_where_dropped(dtype: np.dtype[Any], order: Any) -> None:
    shape = (40, 41)
    t = np.full(shape, 1 << 31, np.uint32)
    factor = np.full(shape, 2, computed(dtype))
    factor[::3], t[::3] = np.inf, 0  # all of it dropped
    kept = kept_at({}, shape, 1 << 31)
    kept[::3] = False
    for bad in (np.nan, np.inf, -np.inf, -1.0):
        x, y = np.full(shape, bad, dtype, order=order), poisoned(shape, dtype)
        operation = driver.per_element("drop", dtype)
        driver.apply(operation, x, y, 0, None, *KEY, 1, np.zeros(()), operands=(t, factor))
        assert_same_numbers(y, np.where(kept, x * dtype.type(2), dtype.type(0)))
        assert not np.signbit(y[~kept]).any()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_relu_of_zeros_and_nan(dtype: np.dtype[Any]) -> None:
    info = np.finfo(np.float32) if dtype.name == "bfloat16" else np.finfo(dtype)
    t = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, info.tiny, -info.tiny], dtype)
    least = np.array([1], f"u{dtype.itemsize}").view(dtype)
    t = np.concatenate([t, least, -least])
    zeros = np.zeros_like(t)
    with np.errstate(invalid="ignore"):  # of which bfloat16's comparison warns
        positive = np.where(t <= 0, zeros, t)
    one = np.ones((), computed(dtype))
    y, dx = poisoned(t.shape, dtype), poisoned(t.shape, dtype)
    relu = driver.operation("bias_act_drop", dtype, "relu", True, True)
    driver.apply(relu, t, y, 0, None, *KEY, 0, one, operands=(zeros, zeros))
    assert_same_numbers(y, positive)
    back = driver.operation("bias_act_drop_backward", dtype, "relu", True)
    driver.apply(back, t, dx, 0, None, *KEY, 0, one, operands=(t, zeros))
    assert_same_numbers(dx, positive)


def test_degenerate_p_draws_nothing(cuda_on_host: HostLauncher, rng: np.random.Generator) -> None:
    shape, dtype = (40, 50), np.dtype(np.float32)
    for threshold in (0, ALWAYS):
        inputs = [made(shape, dtype), made(shape, dtype, 0, None, (0, 1)), made(shape, dtype)]
        check("identity bias residual float32", made(shape, dtype), inputs, threshold, rng)
        assert cuda_on_host.names[-1] == "identity_bias_residual_bias_act_drop_float32_runs_32"
    with pytest.raises(KeyError):
        driver.per_element("drop", np.dtype(np.int32))
