"""Device arrays of Numba in, the same out, without CuPy: in Numba's simulator of a GPU.

The environment says NUMBA_ENABLE_CUDASIM=1, which Numba reads when it is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

import fastdrop as fd
from tests.support import oracle

KEY = fd.Key(2**40 + 3, 11)


def new_arrays(x: Any) -> None:
    """Results are arrays of Numba's in x's layout, with the bits of NumPy's."""
    for mine in (x, x.T, x[::2, 3:]):
        on_gpu = cuda.to_device(x)
        theirs = on_gpu if mine is x else (on_gpu.T if mine.shape == x.T.shape else on_gpu[::2, 3:])
        y: Any = fd.dropout(theirs, 0.3, rng=KEY)
        assert type(y) is type(theirs)
        oracle.assert_same(np.ascontiguousarray(y.copy_to_host()), oracle.dropped(mine, 0.3, KEY))
        filled: Any = fd.masked_fill(theirs, 0.3, 7, rng=KEY, noise_shape=(None, 1))
        expected = oracle.filled(mine, 0.3, 7, KEY, noise_shape=(None, 1))
        oracle.assert_same(np.ascontiguousarray(filled.copy_to_host()), expected)


def masks(x: Any) -> None:
    """Masks lie where `like` or `out` lies."""
    kept = oracle.mask(x.shape, 0.3, KEY)
    like = cuda.to_device(x)
    for packed, expected in ((False, kept), (True, np.packbits(kept, bitorder="little"))):
        made: Any = fd.dropout_mask(x.shape, 0.3, rng=KEY, like=like, packed=packed)
        oracle.assert_same(made.copy_to_host(), expected)
        out: Any = cuda.to_device(oracle.poisoned(expected.shape, expected.dtype))
        result: Any = fd.dropout_mask(x.shape, 0.3, rng=KEY, out=out, packed=packed)
        assert result is out
        oracle.assert_same(out.copy_to_host(), expected)


def given_arrays(x: Any) -> None:
    """`out` is written to, x itself too, and what overlaps is as if it did not."""
    expected = oracle.dropped(x, 0.3, KEY)
    on_gpu: Any = cuda.to_device(x)
    out: Any = cuda.to_device(oracle.poisoned(x.shape, x.dtype))
    result: Any = fd.dropout(on_gpu, 0.3, rng=KEY, out=out)
    assert result is out
    oracle.assert_same(out.copy_to_host(), expected)
    fd.dropout(on_gpu, 0.3, rng=KEY, out=on_gpu)
    oracle.assert_same(on_gpu.copy_to_host(), expected)
    flat = x.ravel()
    memory = cuda.to_device(flat)
    fd.dropout(memory[:-7], 0.3, rng=KEY, out=memory[7:])
    moved = flat.copy()
    moved[7:] = oracle.dropped(flat[:-7], 0.3, KEY)
    oracle.assert_same(memory.copy_to_host(), moved)


def layers(x: Any) -> None:
    """A layer goes forward and back; in evaluation it returns x itself."""
    layer, same = fd.Dropout(0.3, rng=5), fd.Dropout(0.3, rng=5)
    on_gpu = cuda.to_device(x)
    y: Any = layer(on_gpu)
    dx: Any = layer.backward(on_gpu)
    oracle.assert_same(y.copy_to_host(), same(x))
    oracle.assert_same(dx.copy_to_host(), same.backward(x))
    assert layer.eval()(on_gpu) is on_gpu


def errors(x: Any) -> None:
    """What does not fit is named, and nothing is written."""
    on_gpu = cuda.to_device(x)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"out": np.ones(x.shape, x.dtype)}, "out is a numpy.ndarray"),
        ({"out": cuda.to_device(x[1:])}, "out has shape"),
        ({"p": 2.0}, "p=2.0"),
        ({"rng": 1.5}, "rng=1.5"),
    ]
    for given, message in wrong:
        try:
            fd.dropout(on_gpu, **given)
        except (TypeError, ValueError) as error:
            assert message in str(error), error
        else:
            raise AssertionError(given)
    out = cuda.to_device(x)
    for function in (fd.alpha_dropout, fd.gaussian_dropout, fd.gaussian_noise):
        try:
            function(on_gpu, 0.3, rng=1, out=out)
        except TypeError as error:
            assert "not among the kernels that Numba compiles" in str(error)
            assert "install CuPy" in str(error)
        else:
            raise AssertionError(function)
        assert function(on_gpu, 0.3, rng=1, training=False) is on_gpu
    p = [0.5] * x.shape[1]
    by_each: list[tuple[str, Callable[[], Any]]] = [
        ("x", lambda: fd.dropout(on_gpu, p, rng=1, out=out)),
        ("x", lambda: fd.masked_fill(on_gpu, p, 0, rng=1, out=out)),
        ("like", lambda: fd.dropout_mask(x.shape, p, rng=1, like=on_gpu)),
        ("out", lambda: fd.dropout_mask(x.shape, p, rng=1, out=out)),
    ]
    for name, call in by_each:
        try:
            call()
        except TypeError as error:
            assert str(error).startswith(f"{name} is a numba."), error
            assert "install CuPy" in str(error)
        else:
            raise AssertionError(name)
    oracle.assert_same(out.copy_to_host(), x)
    oracle.assert_same(on_gpu.copy_to_host(), x)


SCENES: dict[str, Callable[[Any], None]] = {
    scene.__name__: scene for scene in (new_arrays, masks, given_arrays, layers, errors)
}

if __name__ == "__main__":
    numbers = np.random.default_rng().standard_normal((6, 11)).astype(np.float32)
    SCENES[sys.argv[1]](numbers)
    assert "cupy" not in sys.modules
