"""The compiled fast path of small calls, and small arrays in the schedules of large ones."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.internals import DONE, UNFIT, fast_call, set_cpu_limits
from tests.support.oracle import Array, applied, assert_same, data, mask, poisoned

KEY = fd.Key(2**62 + 9, 5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_equal_dtypes_share_a_fast_path(dtype: Any) -> None:
    """An array that came through pickle has a dtype object of its own."""
    x = np.random.default_rng().standard_normal(100).astype(dtype)
    arrays = [x, pickle.loads(pickle.dumps(x))]
    if dtype is not ml_dtypes.bfloat16:
        arrays.append(x.astype(np.dtype(dtype, metadata={"unit": "m"})))
    want = fd.dropout(x, 0.25, rng=KEY)
    call = fast_call(x, 0.25, KEY)
    for a in arrays:
        out = poisoned(x.shape, dtype)
        assert call(a, out) == DONE
        assert data(out) == data(want)
        assert data(fd.dropout(a, 0.25, rng=KEY)) == data(want)
    other = x.astype(np.dtype(dtype).newbyteorder()) if dtype is not ml_dtypes.bfloat16 else None
    if other is not None:
        assert call(other, x) == UNFIT


def test_the_fast_path_refuses_what_it_cannot_compute() -> None:
    x = np.ones((8, 8), np.float32)
    call = fast_call(x, 0.5, KEY)
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
def test_small_arrays_in_the_schedules_of_large_ones(
    dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]
) -> None:
    set_cpu_limits(monkeypatch, parallel_from=500, chunk=300, cached_bytes=256)
    set_threads(threads)
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
