"""float16 and bfloat16: computed in float32 and rounded once, for every value there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cpu.elements import operations, storage
from tests.support.direct import treat
from tests.support.oracle import Array, mask, misaligned, poison, poisoned
from tests.support.thinning import thinned

HALF_TYPES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
KEY = fd.Key(2**60 + 3, 17)
SCALES = (
    1.0,
    1 / 0.9,
    2.0,
    0.0,
    -1.0,
    1e-3,
    1e-8,
    3e38,
    65504.0,
    2.0**-24,
    0.1,
    1 / 3,
    1 - 2.0**-12,
)


def every_value(dtype: np.dtype[Any]) -> Array:
    return np.arange(65536, dtype=np.uint16).view(dtype)


def rounded_once(x: Array, scale: float) -> Array:
    with np.errstate(all="ignore"):
        product: Array = (x.astype(np.float32) * np.float32(scale)).astype(x.dtype)
    return product


def assert_same_halves(got: Array, want: Array) -> None:
    """Equal bit for bit; a NaN for a NaN, whatever its payload."""
    assert got.dtype == want.dtype
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    differ = (got.view(np.uint16) != want.view(np.uint16)) & ~nan
    assert not differ.any(), (got[differ][:5], want[differ][:5])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
def test_every_value_is_rounded_once(dtype: np.dtype[Any], scale: float) -> None:
    x = every_value(dtype)
    p = 2.0**-32  # one element in 2**32 is dropped
    y = fd.dropout(x, p, rng=KEY, scale=scale, out=poisoned(x.shape, dtype))
    want = np.where(mask(x.shape, p, KEY), rounded_once(x, scale), dtype.type(0))
    assert_same_halves(y, want)


@pytest.mark.parametrize("scale", SCALES)
def test_float16_without_its_instructions_rounds_alike(scale: float) -> None:
    x = every_value(HALF_TYPES[0])
    operation = operations.drop("float16-portable", storage.FLOAT16_PORTABLE)
    y, factor = poisoned(x.shape, x.dtype), np.array(scale, np.float32)
    treat(operation, x, y, factor, 1, KEY)
    want = np.where(mask(x.shape, 2.0**-32, KEY), rounded_once(x, scale), np.float16(0))
    assert_same_halves(y, want)


def test_float16_without_its_instructions_rounds_every_tie_and_neighbour() -> None:
    """The float32 half way between two float16, and its neighbours, above and below."""
    x = every_value(HALF_TYPES[0])
    x = x[np.isfinite(x)]
    # (1 + 2**-11) x is half way between x and the next where its significand is a power of two;
    # many factors near it give what lies close to half way for the others.
    for scale in (1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-23, 1 + 2.0**-11 - 2.0**-23, 1 + 3 * 2.0**-11):
        operation = operations.drop("float16-portable", storage.FLOAT16_PORTABLE)
        y, factor = poisoned(x.shape, x.dtype), np.array(scale, np.float32)
        treat(operation, x, y, factor, 1, KEY)
        kept = mask(x.shape, 2.0**-32, KEY)
        assert_same_halves(y, np.where(kept, rounded_once(x, scale), np.float16(0)))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.93, 1.0])
@pytest.mark.parametrize(
    ("dtype", "order"),
    thinned(lambda dtype, order: order == "C", HALF_TYPES, "CF"),
    ids=str,
)
def test_masks_are_those_of_float32(dtype: np.dtype[Any], order: str, p: float) -> None:
    for shape in ((1,), (255,), (4099,), (3, 1001), (33, 500)):
        x = np.random.default_rng().standard_normal(shape).astype(dtype)
        turned = (x, np.repeat(x, 2, axis=-1)[..., ::2], x[..., ::-1])
        for array in turned if order == "C" else (np.asfortranarray(x),):
            y = fd.dropout(array, p, rng=KEY)
            kept = mask(shape, p, KEY)
            scale = contract.scale(p)
            want = np.where(kept, rounded_once(np.ascontiguousarray(array), scale), dtype.type(0))
            assert_same_halves(np.ascontiguousarray(y), want)


def _strided(v: Array) -> Array:
    return np.stack([v, v], axis=-1).reshape(256, 256, 2)[:, :, 1]


Where = dict[str, Any]
LAYOUTS: dict[str, tuple[Callable[[Array], Array], Where]] = {
    "Fortran": (lambda v: np.asfortranarray(v.reshape(256, 256)), {}),
    "strided": (_strided, {}),
    "backwards": (lambda v: v.reshape(256, 256)[::-1, ::-1], {}),
    "misaligned": (lambda v: misaligned(v, 1), {}),
    "tail": (lambda v: v[:65531], {}),
    "offset": (lambda v: v, {"offset": 2**35 - 7}),
    "runs": (lambda v: v.reshape(16, 64, 64), {"noise_shape": (16, 64, 1)}),
    "repeats": (lambda v: v.reshape(16, 64, 64), {"noise_shape": (16, 1, 64)}),
    "one decision": (lambda v: v.reshape(256, 256), {"noise_shape": (1, 1)}),
    "shard": (lambda v: v.reshape(64, 1024), {"offset": (3, 5), "global_shape": (99, 1777)}),
    "short rows": (lambda v: v.reshape(256, 256), {"offset": (3, 5), "global_shape": (300, 262)}),
    "panel of a shard": (
        lambda v: v.reshape(8192, 8),
        {"offset": (0, 5), "global_shape": (8192, 20)},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1 / 0.9, 3e38, 2.0**-24])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
def test_every_value_is_rounded_once_in_every_layout(
    dtype: np.dtype[Any], layout: str, scale: float
) -> None:
    make, where = LAYOUTS[layout]
    x = make(every_value(dtype))
    shape = where.get("noise_shape", x.shape)
    rest = {name: value for name, value in where.items() if name != "noise_shape"}
    for p in (2.0**-32, 0.3):
        kept = np.broadcast_to(mask(shape, p, KEY, **rest), x.shape)
        product = rounded_once(np.ascontiguousarray(x), scale)
        want = np.where(kept, product, dtype.type(0))
        out = poison(np.empty_like(x))
        fd.dropout(x, p, rng=KEY, scale=scale, out=out, **where)
        assert_same_halves(np.ascontiguousarray(out), want)
        in_place = x.copy(order="K")
        fd.dropout(in_place, p, rng=KEY, scale=scale, out=in_place, **where)
        assert_same_halves(np.ascontiguousarray(in_place), want)


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
def test_large_arrays_on_many_threads(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = rng.standard_normal(1_300_003, np.float32).astype(dtype)
    y = fd.dropout(x, 0.25, rng=KEY, offset=2**61 + 7)
    kept = fd.dropout_mask(x.shape, 0.25, rng=KEY, offset=2**61 + 7)
    assert_same_halves(y, np.where(kept, rounded_once(x, 1 / 0.75), dtype.type(0)))


@pytest.mark.parametrize("dtype", thinned(lambda dtype: dtype == np.float16, HALF_TYPES), ids=str)
def test_shared_shards_and_in_place(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = rng.standard_normal((40, 70)).astype(dtype)
    for noise_shape in ((40, 1), (1, 70)):
        y = fd.dropout(x, 0.4, rng=KEY, noise_shape=noise_shape)
        kept = np.broadcast_to(mask(noise_shape, 0.4, KEY), x.shape)
        assert_same_halves(y, np.where(kept, rounded_once(x, 1 / 0.6), dtype.type(0)))
    whole = fd.dropout(x, 0.4, rng=KEY)
    part = fd.dropout(x[10:30, 5:66], 0.4, rng=KEY, offset=(10, 5), global_shape=(40, 70))
    assert_same_halves(part, np.ascontiguousarray(whole[10:30, 5:66]))
    same = x.copy()
    assert fd.dropout(same, 0.4, rng=KEY, out=same) is same
    assert_same_halves(same, whole)


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
def test_layer_and_dropped_nans(dtype: np.dtype[Any]) -> None:
    layer = fd.Dropout(0.5, rng=3)
    x = np.full(1000, np.nan, np.float32).astype(dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert (y[~np.isnan(y)].view(np.uint16) == 0).all()
    assert 300 < np.isnan(y).sum() < 700
    dx = layer.backward(np.ones_like(x))
    assert ((dx != 0) == np.isnan(y)).all()


def test_masked_fill_of_bfloat16() -> None:
    x = every_value(HALF_TYPES[1])
    kept = mask(x.shape, 0.3, KEY)
    for value in (1.5, 2, np.float32(-7), HALF_TYPES[1].type(3), float("-inf"), float("nan")):
        y = fd.masked_fill(x, 0.3, value, rng=KEY)
        want = np.where(kept, x.view(np.uint16), np.array(value, x.dtype).view(np.uint16))
        assert (y.view(np.uint16) == want).all()
    for wrong, error in (("text", TypeError), (1e300, ValueError), (1j, TypeError)):
        with pytest.raises(error, match="does not fit the dtype bfloat16"):
            fd.masked_fill(x, 0.3, wrong, rng=KEY)


def test_another_library_with_a_dtype_of_that_name_is_not_believed() -> None:
    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.int4):
        with pytest.raises(TypeError, match="none of float16, bfloat16, float32 and float64"):
            fd.dropout(np.zeros(3, dtype), 0.5)
