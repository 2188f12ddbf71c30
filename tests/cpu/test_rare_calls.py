"""Calls that are seldom made: what other tests do not come to, or came to late."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.contract import threshold
from fastdrop_kernels.cpu.host import driver
from fastdrop_kernels.cpu.host.fast_call import DONE, UNFIT
from tests.support.limits import set_limits
from tests.support.oracle import Array, applied, assert_same, data, mask, poison, poisoned
from tests.support.subprocesses import assert_succeeds, run_python

KEY = fd.Key(2**62 + 9, 5)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tail", [(1,), (1, 1), (3, 1)])
def test_packed_masks_of_shards_one_element_wide(p: float, tail: tuple[int, ...]) -> None:
    shape = (300, *tail)
    where: dict[str, Any] = {
        "offset": (5,) + tuple(2 for _ in tail),
        "global_shape": (400,) + tuple(n + 4 for n in tail),
    }
    bits = fd.dropout_mask(shape, p, rng=KEY, packed=True, **where)
    kept = mask(shape, p, KEY, **where)
    assert data(bits) == data(np.packbits(kept, axis=None, bitorder="little"))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("noise_shape", [None, (40, 1, 1), (1, 30, 20), (40, 1, 20), (1, 30, 1)])
def test_masks_are_written_to_outputs_of_any_layout(noise_shape: Any, p: float) -> None:
    shape = (40, 30, 20)
    kept = np.broadcast_to(mask(noise_shape or shape, p, KEY), shape)
    outs = {
        "C": np.empty(shape, np.bool_),
        "F": np.empty(shape, np.bool_, order="F"),
        "turned": np.empty((20, 40, 30), np.bool_).transpose(1, 2, 0),
        "stepped": np.empty((40, 60, 20), np.bool_)[:, ::2],
        "backwards": np.empty(shape, np.bool_)[::-1, :, ::-1],
    }
    for name, out in outs.items():
        poison(out.view(np.uint8))
        assert fd.dropout_mask(shape, p, rng=KEY, noise_shape=noise_shape, out=out) is out
        assert (out == kept).all(), name


@pytest.mark.parametrize("first", [0.0, -0.0])
def test_a_scale_of_minus_zero_is_not_that_of_zero(first: float) -> None:
    x = np.arange(1, 65, dtype=np.float32)
    for scale in (first, -first, first):
        for array in (x, np.repeat(x, 2)[::2]):
            y = fd.dropout(array, 0.5, rng=KEY, scale=scale)
            want = np.where(mask(x.shape, 0.5, KEY), x * np.float32(scale), np.float32(0))
            assert data(np.ascontiguousarray(y)) == data(want)


def fast_call(x: Array, p: float) -> Callable[[Array, Array], int]:
    """Return the compiled fast path of dropout on contiguous arrays, once its kernel is there."""
    factor = np.array(1 / (1 - p), np.float64 if x.dtype == np.float64 else np.float32)
    ready = driver.contiguous_call(driver.dropping(x.dtype), x.dtype, threshold(p), factor)
    assert ready is not None
    ready.large(x, np.empty_like(x), 0, *KEY)
    return lambda x, y: ready.run(id(x), id(y), ready.record_at, 0, *KEY)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_equal_dtypes_are_one_dtype(dtype: Any) -> None:
    """An array that came through pickle has a dtype object of its own."""
    x = np.random.default_rng().standard_normal(100).astype(dtype)
    arrays = [x, pickle.loads(pickle.dumps(x))]
    if dtype is not ml_dtypes.bfloat16:
        arrays.append(x.astype(np.dtype(dtype, metadata={"unit": "m"})))
    want = fd.dropout(x, 0.25, rng=KEY)
    call = fast_call(x, 0.25)
    for a in arrays:
        out = poisoned(x.shape, dtype)
        assert call(a, out) == DONE
        assert data(out) == data(want)
        assert data(fd.dropout(a, 0.25, rng=KEY)) == data(want)
    other = x.astype(np.dtype(dtype).newbyteorder()) if dtype is not ml_dtypes.bfloat16 else None
    if other is not None:
        assert call(other, x) == UNFIT


def test_the_short_way_leaves_alone_what_is_not_plain() -> None:
    x = np.ones((8, 8), np.float32)
    call = fast_call(x, 0.5)
    frozen = np.ones((8, 8), np.float32)
    frozen.flags.writeable = False
    memory = np.ones(100, np.float32)
    a, b = memory[:64].reshape(8, 8), memory[1:65].reshape(8, 8)
    outs: list[Array] = [
        np.ones((8, 9), np.float32),
        np.ones((64,), np.float32),
        np.ones((4, 16), np.float32),
        np.ones((8, 8), np.float64),
        np.ones((8, 8), np.int32),
        np.ones((8, 8), np.float32, order="F"),
        frozen,
    ]
    pairs: list[tuple[Array, Array]] = [(x, out) for out in outs]
    for x_, y in [*pairs, (a, b), (b, a), (x[:, ::2], x[:, 1::2])]:
        before = memory.tobytes(), y.tobytes()
        assert call(x_, y) == UNFIT
        assert (memory.tobytes(), y.tobytes()) == before
    assert call(frozen, x) == DONE  # reading is not writing


def layouts(x: Array) -> dict[str, Array]:
    return {"C": x, "F": np.asfortranarray(x), "rows": np.repeat(x, 2, axis=1)[:, : x.shape[1]]}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "dtype",
    ["bool", *(pytest.param(d, marks=pytest.mark.slow) for d in ("f2", "f4", "f8", "u1", "c16"))],
)
def test_small_arrays_go_the_ways_of_large_ones(
    dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(monkeypatch, PARALLEL_FROM=500, _CHUNK=300, NEAR_BYTES=256)
    before = fd.get_num_threads()
    fd.set_num_threads(threads)
    try:
        for shape in ((33, 97), (64, 64), (5, 1031), (1500, 3)):
            numbers = np.random.default_rng().integers(1, 99, shape)
            for name, x in layouts(numbers.astype(dtype)).items():
                for p in (0.2, 1.0):
                    kept = mask(shape, p, KEY, offset=77)
                    if dtype == "bool":
                        got = fd.dropout_mask(shape, p, rng=KEY, offset=77)
                        assert (got == kept).all()
                        bits = fd.dropout_mask(shape, p, rng=KEY, offset=77, packed=True)
                        assert data(bits) == data(np.packbits(kept, bitorder="little"))
                    elif dtype.startswith("f"):
                        got = fd.dropout(x, p, rng=KEY, offset=77)
                        factor = 1 / (1 - p) if p < 1 else 0.0
                        assert_same(got, applied(kept, x, factor))
                    else:
                        got = fd.masked_fill(x, p, 0, rng=KEY, offset=77)
                        assert (got == np.where(kept, x, 0)).all(), name
    finally:
        fd.set_num_threads(before)


def test_nothing_is_written_where_the_number_of_threads_is_wrong() -> None:
    code = """
import numpy as np, fastdrop as fd
out = np.full(1 << 18, 7, np.uint8)
try:
    fd.dropout_mask(1 << 21, 0.5, rng=1, packed=True, out=out)
except ValueError as error:
    assert "FASTDROP_NUM_THREADS" in str(error)
    assert (out == 7).all()
    print("nothing written")
"""
    done = run_python(code, FASTDROP_NUM_THREADS="abc")
    assert assert_succeeds(done) == "nothing written\n"


def test_a_layer_that_is_changed_between_forward_and_backward() -> None:
    layer = fd.Dropout(0.5, rng=KEY, noise_shape=(None, 1))
    x = np.ones((30, 20))
    y = layer(x)
    layer.noise_shape, layer.key, layer.p = None, fd.Key(1), 0.1
    second = layer(x)
    assert (layer.backward(x) == second).all()
    assert (layer.backward(x) == y).all()


def test_in_evaluation_an_integer_is_no_more_looked_at_than_another_generator() -> None:
    x = np.ones(3)
    for rng in (-1, 5, None):
        assert fd.dropout(x, rng=rng, training=False) is x
