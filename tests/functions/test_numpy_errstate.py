"""NumPy's error state is the caller's: it changes neither what is accepted nor any result."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.thinning import thinned

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
HARD = [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 1e-45, 1e-300, 5e-324, 3e38, 1.7e308, 6e4]
SIGNALLING = np.full(12, 0x7FA00000, np.uint32).view(np.float32).reshape(3, 4)
VALUES = [
    1e-300, 1e-46, 5e-324, np.float64(1e-300), np.float32(1e-45), np.float16(6e-8), 1e300, np.nan,
    -np.inf, np.array(1e-300), np.longdouble("1e-4000"), np.complex128(1e-50 + 1e-50j),
    ml_dtypes.bfloat16(1e-38),
]  # fmt: skip
P = [0.0, 5e-324, 1e-300, 0.5, 1 - 2**-53, 1.0, np.float16(6e-8), np.float32(1e-45)]

Call = Callable[[Any, Any], Any]
BY_VALUE: dict[str, Call] = {
    "masked_fill": lambda x, value: fd.masked_fill(x, 0.5, value, rng=1),
    "masked_fill of each": lambda x, value: fd.masked_fill(x, [0.5], value, rng=1),
    "bias": lambda x, value: fd.bias_act_dropout_add(x, value, "relu", rng=1),
    "biases": lambda x, value: fd.bias_act_dropout_add(x, [value] * 4, "gelu", rng=1),
    "residual": lambda x, value: fd.bias_act_dropout_add(x, residual=value, rng=1),
    "dbias": lambda x, value: fd.bias_act_dropout_add_backward(x, x, [value] * 4, "silu", rng=1),
    "scale": lambda x, value: fd.dropout(x, 0.5, rng=1, scale=value),
    "stddev": lambda x, value: fd.gaussian_noise(x, value, rng=1),
}
BY_P: dict[str, Call] = {
    "dropout": lambda x, p: fd.dropout(x, p, rng=1),
    "each": lambda x, p: fd.dropout(x, np.full(4, p), rng=1),
    "mask": lambda x, p: fd.dropout_mask(x.shape, np.full(x.shape, p), rng=1),
    "packed": lambda x, p: fd.dropout_mask(x.shape, np.full(x.shape, p), rng=1, packed=True),
    "alpha": lambda x, p: fd.alpha_dropout(x, p, rng=1),
    "alpha backward": lambda x, p: fd.alpha_dropout_backward(x, p, rng=1),
    "gaussian": lambda x, p: fd.gaussian_dropout(x, p, rng=1),
    "softmax": lambda x, p: fd.softmax_dropout(x, p, rng=1),
    "softmax backward": lambda x, p: fd.softmax_dropout_backward(x, x, p, rng=1),
    "blocks": lambda x, p: fd.drop_block2d(x.reshape(1, 1, 3, 4), p, 2, rng=1),
    "Monte Carlo": lambda x, p: fd.mc_dropout(lambda x, key: fd.dropout(x, p, rng=key), x, 3,
                                              rng=1)[:2],
}  # fmt: skip


def outcome(call: Call, x: Any, argument: Any) -> Any:
    """Return the bytes of the results, or the error."""
    try:
        results = call(x, argument)
    except Exception as error:
        return type(error), str(error)
    if not isinstance(results, tuple):
        results = (results,)
    return [None if one is None else np.asarray(one).tobytes() for one in results]


def assert_the_same_in_any_state(call: Call, x: Any, argument: Any) -> None:
    with np.errstate(all="ignore"):
        expected = outcome(call, x, argument)
    for state in ("raise", "warn"):
        with np.errstate(all=state), warnings.catch_warnings():
            warnings.simplefilter("error")
            assert outcome(call, x, argument) == expected, (state, argument)


def hard(dtype: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.array(HARD).astype(dtype).reshape(3, 4)


@pytest.mark.parametrize("dtype", thinned(lambda dtype: dtype is np.float32, DTYPES))
@pytest.mark.parametrize("call", BY_VALUE.values(), ids=BY_VALUE)
def test_values_of_any_size(call: Call, dtype: Any) -> None:
    for value in VALUES:
        assert_the_same_in_any_state(call, hard(dtype), value)


@pytest.mark.parametrize("dtype", thinned(lambda dtype: dtype is np.float32, DTYPES))
@pytest.mark.parametrize("call", BY_P.values(), ids=BY_P)
def test_any_p(call: Call, dtype: Any) -> None:
    for p in P:
        assert_the_same_in_any_state(call, hard(dtype), p)


@pytest.mark.parametrize("call", [*BY_P.values()], ids=BY_P)
def test_numbers_that_signal(call: Call) -> None:
    assert_the_same_in_any_state(call, SIGNALLING, 0.5)


def test_a_p_that_signals_is_refused_as_every_nan_is() -> None:
    for kind in (fd.dropout, lambda x, p: fd.Dropout(p, rng=1)(x)):
        assert_the_same_in_any_state(kind, np.ones((3, 4)), SIGNALLING[0])
        assert "p[0]=nan" in outcome(kind, np.ones((3, 4)), SIGNALLING[0])[1]


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.bool_, np.complex64, "M8[s]", "S4"])
def test_fills_of_any_dtype(dtype: Any) -> None:
    x = np.zeros((3, 4), dtype)
    for value in [*VALUES, 0, -1, 300, True, "a", 1e39, 1e300j, np.datetime64("NaT")]:
        assert_the_same_in_any_state(BY_VALUE["masked_fill"], x, value)


def test_the_examples() -> None:
    x = np.ones(3, np.float32)
    with np.errstate(all="raise"):
        assert fd.masked_fill(x, 1.0, np.float64(1e-300), rng=1).tolist() == [0, 0, 0]
        assert fd.bias_act_dropout_add(x, 1e-300, p=0.0, rng=1).tolist() == [1, 1, 1]
        with pytest.raises(ValueError, match="does not fit the dtype float32"):
            fd.masked_fill(x, 1.0, 1e300, rng=1)
