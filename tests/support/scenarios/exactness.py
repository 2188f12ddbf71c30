"""Compares every kind of kernel with the reference, on the processor that Numba compiles for.

``python -m tests.support.scenarios.exactness CPU``: the environment names it, as in NUMBA_CPU_NAME.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numba.core.registry import cpu_target

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cpu.loops.contiguous import CACHED_BYTES
from tests.support import normals, oracle
from tests.support import softmax as exact
from tests.support.normals import uniforms
from tests.support.oracle import Array, poison

# That dropout takes. Each takes ten seconds to compile, and without AVX-512 only float16 may have
# instructions of its own.
DTYPES = {
    "generic": ("float16", ml_dtypes.bfloat16, "float32", "float64"),
    "haswell": ("float16", "float32"),
}
GAUSSIAN = {"float16": "plus", "bfloat16": "times", "float32": "plus", "float64": "times"}
# One that masked_fill takes of each size, or of the least and the largest.
MOVED = {"generic": ("u1", "i2", "f4", "i8", "c16"), "haswell": ("u1", "c16")}
SHAPE = ROWS, COLUMNS = 57, 259
N = ROWS * COLUMNS
P = 0.3
KEY = fd.Key(2**40 + 3, 11)

# Past 2**32 blocks, and across it; no multiple of a group.
PREFETCH = 2**35 - N // 2 + 3
PLACES: list[dict[str, Any]] = [
    {},
    {"offset": 2**32 - N // 2},
    {"offset": PREFETCH},
    {"noise_shape": (None, 1)},
    {"noise_shape": (1, None)},
    {"offset": (3, 100), "global_shape": (ROWS + 9, COLUMNS + 333)},
]


def layouts(x: Array) -> dict[str, Array]:
    """Return arrays that hold the same numbers."""
    return {
        "C order": x,
        "F order": np.asfortranarray(x),
        "misaligned": oracle.misaligned(x, 4 * x.itemsize),
        "other elements": np.stack([x, x], axis=2)[:, :, 1],
    }


def numbers(dtype: Any) -> Array:
    """Return numbers, an infinity, a NaN, and the smallest subnormal."""
    x = (np.arange(N) % 100 - 50).astype(dtype).reshape(SHAPE)
    if x.dtype.kind not in "iuc":
        finfo: Any = ml_dtypes.finfo
        info = finfo(x.dtype)
        x.flat[:5] = [np.inf, np.nan, info.tiny, info.smallest_subnormal, info.max]
    return x


def dropout(x: Array, **where: Any) -> tuple[Array, Array]:
    """Return what dropout gives, and what it must give."""
    out = poison(np.empty_like(x))
    fd.dropout(x, P, rng=KEY, out=out, **where)
    return out, oracle.dropped(x, P, KEY, **where)


def filled(x: Array, **where: Any) -> tuple[Array, Array]:
    """Return what masked_fill gives, and what it must give."""
    out = poison(np.empty_like(x))
    fd.masked_fill(x, P, 7, rng=KEY, out=out, **where)
    return out, oracle.filled(x, P, 7, KEY, **where)


def noisy(what: str, x: Array, **where: Any) -> tuple[Array, Array]:
    """Return what gaussian_dropout ("times") or gaussian_noise gives, and what it must give."""
    out = poison(np.empty_like(x))
    normals.FUNCTIONS[what](x, P, rng=KEY, out=out, **where)
    return out, normals.expected(what, x, P, KEY, **where)


def marked(**where: Any) -> tuple[Array, Array]:
    """Return the mask, and what it must be."""
    out = poison(np.empty(SHAPE, np.uint8)).view(np.bool_)
    fd.dropout_mask(SHAPE, P, rng=KEY, out=out, **where)
    return out, oracle.mask(SHAPE, P, KEY, **where)


def packed(**where: Any) -> tuple[Array, Array]:
    """Return the packed mask, and what it must be."""
    out = poison(np.empty((N + 7) // 8, np.uint8))
    fd.dropout_mask(SHAPE, P, rng=KEY, packed=True, out=out, **where)
    return out, np.packbits(oracle.mask(SHAPE, P, KEY, **where), bitorder="little")


def by_columns(function: str, x: Array, **where: Any) -> tuple[Array, Array]:
    """Return what a function gives by a p of each column, and what each column's p must give."""
    p = np.linspace(0.0, 1.0, COLUMNS)
    out = poison(np.empty_like(x))
    if function == "dropout":
        fd.dropout(x, p, rng=KEY, out=out, **where)
    else:
        fd.masked_fill(x, p, 7, rng=KEY, out=out, **where)
    kept = uniforms(oracle.index_of(x.shape, **where), KEY) >= [contract.threshold(q) for q in p]
    computed = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    if function == "dropout":
        factors = (1 / (1 - p)).astype(computed)
        return out, np.where(kept, (x.astype(computed) * factors).astype(x.dtype), x.dtype.type(0))
    return out, np.where(kept, x, x.dtype.type(7))


def softmaxes(dtype: str) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Yield softmax with dropout and its gradient, of rows that end inside a vector."""
    for n in (7, 331, 4099):
        bits = np.arange(6 * n, dtype=np.uint64).reshape(6, n) * np.uint64(0x9E3779B97F4A7C15)
        x = ((bits >> np.uint64(52)).astype(np.int64) - 2048).astype(np.float64) / 512
        x, dy = x.astype(dtype), x[::-1].astype(dtype)
        x[1], x[2, : n // 2] = -np.inf, -np.inf
        made = fd.softmax_dropout(x, P, rng=exact.KEY), exact.exact_forward(x, P)
        yield f"softmax of {dtype}, rows of {n}", made
        back = fd.softmax_dropout_backward(dy, x, P, rng=exact.KEY)
        yield f"gradient of softmax of {dtype}, rows of {n}", (back, exact.exact_backward(dy, x, P))


def results(cpu: str) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Call everything, and yield what was called, its result, and what it must be."""
    for where in PLACES:
        if where.get("noise_shape") != (None, 1):  # shared elements must share p
            # Streams are read the same way for all dtypes, and each takes seconds to compile.
            for function, dtypes in (("dropout", ("float16", "float64")), ("fill", MOVED[cpu][:1])):
                for dtype in dtypes:
                    got = by_columns(function, numbers(dtype), **where)
                    yield f"{function} of {dtype} by columns, {where}", got
        for dtype in DTYPES[cpu]:
            for layout, x in layouts(numbers(dtype)).items():
                kind = f"of {x.dtype} in {layout}, {where}"
                yield f"dropout {kind}", dropout(x, **where)
                # One each, because each takes seconds to compile.
                what = GAUSSIAN[x.dtype.name]
                yield f"Gaussian {what} {kind}", noisy(what, x, **where)
        for dtype in MOVED[cpu]:
            yield f"masked_fill of {dtype}, {where}", filled(numbers(dtype), **where)
        yield f"dropout_mask, {where}", marked(**where)
        yield f"packed dropout_mask, {where}", packed(**where)
    for dtype in DTYPES[cpu]:
        yield from softmaxes(dtype)
    # Past the second-level cache other kernels go, which copy their input before they need it.
    large = np.tile(numbers("float32"), (9, 3))
    small = large.view("u1")
    assert min(large.nbytes, small.nbytes) > CACHED_BYTES
    for layout, x in {"C order": large, "F order": np.asfortranarray(large)}.items():
        yield f"dropout of many in {layout}", dropout(x)
    yield "dropout of many across 2**32 blocks", dropout(large, offset=2**35 - large.size // 2 + 3)
    for layout, x in {"C order": small, "F order": np.asfortranarray(small)}.items():
        yield f"masked_fill of many in {layout}", filled(x)


def main(cpu: str) -> None:
    """Run all comparisons; the first difference raises."""
    name = cpu_target.target_context.codegen().magic_tuple()[1]
    assert name == cpu, f"Numba compiles for {name}, and not for {cpu}"
    count = 0
    for what, (actual, expected) in results(cpu):
        try:
            oracle.assert_same(actual, expected)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None
        count += 1
    print(f"{count} results are right")


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main(sys.argv[1])
