"""Calls that give for a Dask array, of any chunks, what they give for the NumPy array.

The tests of Dask run them, in this process and, in Dask's array-expr mode, in one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop
from tests.support.oracle import data

fd: Any = fastdrop  # which has no types for Dask's arrays
KEY = fd.Key(0x1234567890ABCDEF, 7)
SHAPE = (7, 24, 5)
CHUNKS: tuple[tuple[int, ...], ...] = ((3, 1, 3), (5, 19), (2, 2, 1))
NO_DASK = "Dask is not installed: pip install -e '.[dask]'"
NO_DISTRIBUTED = "distributed is not installed: pip install distributed"

Lifted = Callable[[Any], Any]  # an operand as it is, or as a Dask array


def calls(*functions: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """Return functions, whose arguments have no types."""
    return functions


def dask_array() -> Any:
    """Return the module, or skip the test."""
    return pytest.importorskip("dask.array", reason=NO_DASK)


def normal(shape: tuple[int, ...] = SHAPE, seed: int = 1, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def each(shape: tuple[int, ...]) -> Any:
    """Return probabilities, of which some are 0 and 1."""
    p = np.random.default_rng(2).random(shape)
    return np.where(p < 0.1, 0.0, np.where(p > 0.9, 1.0, p))


def gradient(x: Any) -> Any:
    """Return a gradient of the kind of x, of other chunks."""
    dy = normal(seed=3)
    return dy if isinstance(x, np.ndarray) else in_blocks(dy)


SHARD: dict[str, Any] = {"offset": (2, 1, 3), "global_shape": (11, 25, 9)}
CALLS: dict[str, Callable[[Any, Lifted], Any]] = {
    "dropout": lambda x, of: fd.dropout(x, 0.3, rng=KEY),
    "p = 0": lambda x, of: fd.dropout(x, 0.0, rng=KEY),
    "p = 1": lambda x, of: fd.dropout(x, 1.0, rng=KEY),
    "scale": lambda x, of: fd.dropout(x, 0.3, rng=KEY, scale=1.0),
    "offset": lambda x, of: fd.dropout(x, 0.3, rng=KEY, offset=7),
    "shard": lambda x, of: fd.dropout(x, 0.3, rng=KEY, **SHARD),
    "noise_shape": lambda x, of: fd.dropout(x, 0.3, rng=KEY, noise_shape=(None, 1, 5)),
    "noise_shape of a shard": lambda x, of: fd.dropout(
        x, 0.3, rng=KEY, noise_shape=(None, 1, None), **SHARD
    ),
    "array of p": lambda x, of: fd.dropout(x, of(each((24, 5))), rng=KEY),
    "array of p and a scale": lambda x, of: fd.dropout(x, of(each(SHAPE)), rng=KEY, scale=2.0),
    "array of p and a noise_shape": lambda x, of: fd.dropout(
        x, of(each((24, 1))), rng=KEY, noise_shape=(None, None, 1)
    ),
    "masked_fill": lambda x, of: fd.masked_fill(x, 0.3, -7, rng=KEY),
    "masked_fill by an array of p": lambda x, of: fd.masked_fill(x, of(each((5,))), 3, rng=KEY),
    "masked_fill from an array": lambda x, of: fd.masked_fill(
        x, 0.3, of(normal((24, 1))), rng=KEY, noise_shape=(None, None, 1)
    ),
    "masked_fill from a list": lambda x, of: fd.masked_fill(x, 0.3, [1, 2, 3, 4, 5], rng=KEY),
    "gaussian_dropout": lambda x, of: fd.gaussian_dropout(x, 0.3, rng=KEY),
    "gaussian_noise": lambda x, of: fd.gaussian_noise(x, 0.3, rng=KEY),
    "alpha_dropout": lambda x, of: fd.alpha_dropout(x, 0.3, rng=KEY),
    "alpha_dropout_backward": lambda x, of: fd.alpha_dropout_backward(x, 0.3, rng=KEY),
    "feature_dropout": lambda x, of: fd.feature_dropout(x, 0.3, rng=KEY),
    "feature_dropout, channels last": lambda x, of: fd.feature_dropout(
        x, 0.3, rng=KEY, data_format="channels_last", **SHARD
    ),
    "feature_alpha_dropout": lambda x, of: fd.feature_alpha_dropout(x, 0.3, rng=KEY),
    "feature_alpha_dropout_backward": lambda x, of: fd.feature_alpha_dropout_backward(
        x, 0.3, rng=KEY
    ),
    "drop_path": lambda x, of: fd.drop_path(x, 0.3, rng=KEY),
    "drop_path of a batch": lambda x, of: fd.drop_path(x, 0.3, rng=KEY, mode="batch"),
    "bias_act_dropout_add": lambda x, of: fd.bias_act_dropout_add(
        x, of(normal((24, 1))), "gelu", 0.3, rng=KEY, residual=of(normal((7, 1, 5), 4)), **SHARD
    ),
    "bias_act_dropout_add of numbers": lambda x, of: fd.bias_act_dropout_add(
        x, 1.5, "silu", 0.3, rng=KEY, residual=[1, 2, 3, 4, 5]
    ),
    "bias_act_dropout_add, evaluation": lambda x, of: fd.bias_act_dropout_add(
        x, of(normal((5,))), "relu", 0.3, training=False
    ),
    "bias_act_dropout_add_backward": lambda x, of: fd.bias_act_dropout_add_backward(
        gradient(x), x, of(normal((24, 1))), "gelu", 0.3, rng=KEY, **SHARD
    )[0],
    "bias_act_dropout_add_backward, identity": lambda x, of: fd.bias_act_dropout_add_backward(
        x, x, None, rng=KEY
    )[0],
    "zoneout": lambda x, of: fd.zoneout(x, of(normal((1, 24, 5))), 0.3, rng=KEY, **SHARD),
    "zoneout, evaluation": lambda x, of: fd.zoneout(x, of(normal()), 0.3, training=False),
    "zoneout_backward, dx": lambda x, of: fd.zoneout_backward(x, 0.3, rng=KEY)[0],
    "zoneout_backward, dh_prev": lambda x, of: fd.zoneout_backward(x, 0.3, rng=KEY)[1],
    "zoneout_backward, evaluation": lambda x, of: fd.zoneout_backward(x, 0.3, training=False)[1],
    "dropout_vjp": lambda x, of: fd.dropout_vjp(x, 0.3, rng=KEY)[1](x),
    "layer": lambda x, of: fd.Dropout(0.3, rng=KEY)(x),
    "backward of a layer": lambda x, of: backward_of(fd.AlphaDropout(0.3, rng=KEY), x),
    "Mask": lambda x, of: fd.Mask(x.shape, 0.3, rng=KEY) * x,
    "Mask that broadcasts": lambda x, of: np.multiply(fd.Mask((24, 1), 0.3, rng=KEY), x),
    "view of a Mask": lambda x, of: fd.Mask((5, 24, 14), 0.3, rng=KEY, scale=1.5)[..., ::-2].T * x,
    "Mask with more axes": lambda x, of: fd.Mask((3, 7, 1, 5), 0.3, rng=KEY)[1:] * x,
    "Mask of integers": lambda x, of: fd.Mask(x.shape, 0.3, rng=KEY) * (x * 4).astype(np.int32),
    "Mask of complex numbers": lambda x, of: (
        fd.Mask(x.shape, 0.3, rng=KEY) * (x * (1 + 2j)).astype(np.complex64)
    ),
    "softmax_dropout": lambda x, of: fd.softmax_dropout(whole(x, -1), 0.3, rng=KEY),
    "softmax_dropout along another axis": lambda x, of: fd.softmax_dropout(
        whole(x, 1), 0.3, axis=1, rng=KEY, offset=(2, 0, 3), global_shape=(11, 24, 9)
    ),
    "softmax_dropout, evaluation": lambda x, of: fd.softmax_dropout(whole(x, -1), training=False),
    "softmax_dropout_backward": lambda x, of: fd.softmax_dropout_backward(
        of(normal(seed=3)), whole(x, -1), 0.3, rng=KEY
    ),
}


def whole(x: Any, axis: int) -> Any:
    """Return x with an axis in one chunk."""
    return x if isinstance(x, np.ndarray) else x.rechunk({axis: -1})


def backward_of(layer: Any, x: Any) -> Any:
    layer(x)
    return layer.backward(x)


def as_it_is(operand: Any) -> Any:
    return operand


def in_blocks(operand: Any) -> Any:
    """Return an operand as a Dask array, of other chunks than x."""
    return dask_array().from_array(operand, chunks=3)


def assert_same(lazy: Any, expected: Any) -> None:
    """A Dask array of the bits, the shape and the dtype of a NumPy array."""
    array = dask_array()
    assert isinstance(lazy, array.Array), type(lazy)
    assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
    computed = np.asarray(lazy.compute(scheduler="synchronous"))
    assert (computed.shape, computed.dtype) == (expected.shape, expected.dtype)
    assert data(computed) == data(expected)


def check_all() -> None:
    """Compare all calls."""
    x = normal()
    lazy = dask_array().from_array(x, chunks=CHUNKS)
    for name, call in CALLS.items():
        expected = call(x, as_it_is)
        for of in (as_it_is, in_blocks):
            result = call(lazy, of)
            try:
                assert_same(result, expected)
            except Exception as error:
                raise AssertionError(name) from error
            assert call(lazy, of).name == result.name, name
