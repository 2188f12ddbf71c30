"""Coefficients: a threshold and the numbers of an operation, of p, a scale and a dtype.

The public functions call these; the result is what kernels read.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from fastdrop_kernels import contract
from fastdrop_kernels.catalogue import FLOAT_TYPES

from .._check import arguments
from .._check.arguments import Array
from .._check.key import AnyRNG, Key

_COMPUTED_IN = {
    np.dtype(name): np.dtype(kind.computed_in)
    for name, kind in FLOAT_TYPES.items()
    if name != "bfloat16"  # which NumPy knows by ml_dtypes only
}


def compute_type(dtype: np.dtype[Any], name: str = "x") -> np.dtype[Any]:
    """Return what elements of a dtype are computed with, or say of `name` that they cannot be."""
    if dtype.isnative:
        if (computed := _COMPUTED_IN.get(dtype)) is not None:
            return computed
        if arguments.is_bfloat16(dtype):
            return np.dtype(FLOAT_TYPES["bfloat16"].computed_in)
    elif dtype.kind == "f":
        raise TypeError(
            f"{name} has dtype {dtype.str!r}, which is not in this machine's byte order: give "
            f"{name}.astype({name}.dtype.newbyteorder('='))"
        )
    if dtype.kind in "biu":
        way = (
            f"give {name}.astype(numpy.float32), or numpy.float32({name}) of a list or a number; "
            "masked_fill takes it as it is"
        )
    elif dtype.kind == "c":
        way = f"give {name}.real and {name}.imag one by one, with the same key"
    elif dtype.kind == "f":
        way = f"give {name}.astype(numpy.float64)"
    elif dtype.kind == "O":
        way = f"give {name}.astype(numpy.float32), if these are numbers"
    else:
        way = "give an array of one of these"
    raise TypeError(
        f"{name} has dtype {dtype}, which is none of float16, bfloat16, float32 and float64: {way}"
    )


SELU_FLOOR = 1.7580993408473766  # what SELU comes to far below 0, times -1


@functools.lru_cache(maxsize=256)
def alpha_coefficients(p: float, dtype: np.dtype[Any]) -> tuple[int, Array]:
    """Return threshold, and a, b and c: ``a * x + b`` where kept, and c where dropped.

    Of elements of mean 0 and variance 1, a p of which become ``-SELU_FLOOR``, a and b bring mean
    and variance back. In float64, each rounded once.
    """
    computed = compute_type(dtype)
    if p == 0.0:
        numbers = 1.0, -0.0, 0.0  # x itself: with +0.0 added, -0.0 would lose its sign
    elif p == 1.0:
        numbers = 0.0, 0.0, 0.0
    else:
        a = alpha_scale(p)
        numbers = a, SELU_FLOOR * a * p, SELU_FLOOR * a * p - SELU_FLOOR * a
    return contract.threshold(p), np.array(numbers, computed)


def alpha_scale(p: float) -> float:
    """Return a of `alpha_coefficients`, which the gradient of kept elements is multiplied by."""
    return 1.0 / math.sqrt((SELU_FLOOR**2 * p + 1.0) * (1.0 - p)) if p < 1.0 else 0.0


_DROPS_NONE, _ANY_KEY = contract.threshold(0.0), Key(0)


@functools.lru_cache(maxsize=256)
def gaussian_coefficients(p: float, dtype: np.dtype[Any]) -> tuple[int, Array]:
    """Return a threshold, and the deviation of the factors of Gaussian dropout, for p below 1.

    It is ``sqrt(p / (1 - p))`` of float64, rounded once to what is computed in.
    """
    return _DROPS_NONE, np.array(math.sqrt(p / (1.0 - p)), compute_type(dtype))


@functools.lru_cache(maxsize=256)
def zoneout_coefficients(p: float, dtype: np.dtype[Any]) -> tuple[int, Array]:
    """Return a threshold, and p and ``1 - p`` of float64, rounded once to what is computed in."""
    return contract.threshold(p), np.array((p, 1.0 - p), compute_type(dtype))


def noise_coefficients(stddev: float, dtype: np.dtype[Any]) -> tuple[int, Array]:
    """Return a threshold, and a standard deviation as kernels read it."""
    return _DROPS_NONE, _fitting("stddev", stddev, dtype)


def coefficients_in(
    training: Any, p: float, dtype: np.dtype[Any], scale: Any, rng: AnyRNG
) -> tuple[int, Array, AnyRNG]:
    """Return those of p, and rng; without training, those that keep all, and a key of no use."""
    threshold, value = coefficients_of(p, dtype, scale)
    if arguments.in_training(training):
        return threshold, value, rng
    return _DROPS_NONE, np.ones_like(value), _ANY_KEY


def coefficients_of(p: float, dtype: np.dtype[Any], scale: Any = None) -> tuple[int, Array]:
    """Return the threshold of p, and the factor of kept elements as kernels read it."""
    threshold, factor = _inverted(p, dtype)
    return threshold, factor if scale is None else _given(scale, dtype)


@functools.lru_cache(maxsize=256)
def _inverted(p: float, dtype: np.dtype[Any]) -> tuple[int, Array]:
    """Return threshold, and 1 / (1 - p) of float64, rounded once to what is computed in."""
    return contract.threshold(p), np.array(contract.scale(p), compute_type(dtype))


def _given(scale: Any, dtype: np.dtype[Any]) -> Array:
    return _fitting("scale", arguments.real("scale", scale), dtype)


def _fitting(name: str, number: float, dtype: np.dtype[Any]) -> Array:
    computed = compute_type(dtype)
    if abs(number) > float(np.finfo(computed).max):
        raise ValueError(
            f"{name}={number!r} does not fit {computed}, whose largest number is "
            f"{np.finfo(computed).max}: give less, or an x of float64"
        )
    return np.array(number, computed)
