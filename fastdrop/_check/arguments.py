"""Argument checks: each function returns an argument in its normal form, or raises.

The public functions and the layers' settings call these before any output is written. Errors name
the argument, its value, and what to pass instead. Arrays of other libraries are described by
`foreign` and `labels`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from . import detect, foreign, labels
from .integers import as_integer
from .key import Key

Array: TypeAlias = npt.NDArray[Any]


class OnGPU(Protocol):
    """An array on a CUDA device, of CuPy, PyTorch, Numba or another library."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """The array's pointer, shape, strides and dtype."""


ArrayLike: TypeAlias = npt.ArrayLike | OnGPU
Output: TypeAlias = Array | OnGPU | None
Integers: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]]
ShapeLike: TypeAlias = int | Integers
Training: TypeAlias = int | np.bool_  # 0, 1, False or True
NoiseShape: TypeAlias = Sequence[int | None] | npt.NDArray[Any] | None
Offset: TypeAlias = int | Integers
_LARGE = 1 << 63
_FEW = 8  # choices, among which one sees without help what was meant


_DROPPING = "the probability of dropping an element"
_TAKING_ARRAYS = "dropout, dropout_mask, masked_fill, feature_dropout and drop_path"


def probability(
    p: Any, name: str = "p", below_one: bool = False, meaning: str = _DROPPING
) -> float:
    """Return a probability as a float in [0, 1], or in [0, 1).

    `meaning` says in errors what it is the probability of.
    """
    if type(p) is float:
        number: float = p
    else:
        if _is_several(p) and (shape := foreign.shape_of(p)) != ():
            reject_rng(name, p)
            if meaning is not _DROPPING:
                raise TypeError(f"{name} has shape {shape}: give one number, {meaning}")
            raise TypeError(
                f"{name} has shape {shape}, and this takes one number for all elements: give that, "
                f"or call it for each part of x; arrays are taken by {_TAKING_ARRAYS}"
            )
        number = _as_float(name, p, f"one number, {meaning}")
    if not 0.0 <= number <= 1.0 or (below_one and number == 1.0):  # written so that NaN fails
        raise ValueError(
            f"{name}={number!r} is not in [0, 1{')' if below_one else ']'}: {name} is {meaning}"
        )
    return number


def reject_rng(name: str, value: Any) -> None:
    """Raise TypeError for a key or generator given as another argument.

    Without this check, a Key would pass for a tuple of two integers.
    """
    if isinstance(value, Key):
        raise TypeError(f"{name} is a Key: give rng={value!r}")
    if detect.is_rng(value):
        raise TypeError(f"{name} is {detect.a_kind_of(value)}: give it as rng")


def integer(name: str, value: Any) -> int:
    """Return an integer."""
    if type(value) is not int:
        reject_rng(name, value)
    return as_integer(name, value)


def flag(name: str, value: Any) -> bool:
    """Return a truth value as a bool; ``training`` and ``mode`` may also be 0 or 1."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if type(value) is int and value in (0, 1) and name in ("training", "mode"):
        return value == 1
    reject_rng(name, value)
    raise TypeError(f"{detect.described(name, value)}: give True or False")


def in_training(training: Any) -> bool:
    """Return the argument `training` as a bool."""
    return training is True or flag("training", training)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return a string that must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        reject_rng(name, value)
        like = detect.closest(value, choices) if len(choices) > _FEW else None
        meant = f"did you mean {like!r}? " if like else ""
        raise ValueError(
            f"{name}={detect.short(value)}: {meant}give {' or '.join(map(repr, choices))}"
        )
    return value


def whole(name: str, value: Any, least: int) -> int:
    """Return an integer that must be at least `least`."""
    number = integer(name, value)
    if number < least:
        raise ValueError(f"{name}={detect.short(number)} is below {least}: give {least} or more")
    return number


def axis(value: Any, axes: int) -> int:
    """Return an axis of an array with `axes` axes as a non-negative number."""
    number = integer("axis", value)
    if not -axes <= number < axes:
        if abs(number) >= _LARGE:  # which may have more digits than Python shows
            raise np.exceptions.AxisError(
                f"axis {detect.short(number)} is out of bounds for array of dimension {axes}"
            )
        raise np.exceptions.AxisError(number, axes)
    return number % axes


def array(x: Any, name: str = "x") -> Array:
    """Return an array-like as a NumPy array; errors call it `name`."""
    if type(x) is np.ndarray:
        return x
    if not isinstance(x, detect.ON_THE_HOST):
        if labels.has_labels(x):
            return labels.values(x, name)
        foreign.reject(x, name)
    elif x is None:
        raise TypeError(f"{name} is None: give an array")
    reject_rng(name, x)
    if detect.is_masked(x):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost: give {name}.filled() or "
            f"{name}.data"
        )
    try:
        result: Array = np.asarray(x)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{name} is no array: {error} Give rows of one length") from None
    if result.dtype.hasobject and not isinstance(x, np.ndarray):
        foreign.reject_objects(x, result, name)
    return result


def check_state(state: Any, names: Sequence[str]) -> None:
    """Raise unless a state to load is a mapping of just these names."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{detect.described('state', state)}: give what state_dict returned")
    if set(state) != set(names):
        given = sorted(map(str, state))
        raise ValueError(
            f"state has {detect.short(given)}, and a state_dict has {sorted(names)}: give what "
            "state_dict of such an object returned"
        )


def check_like(like: Any) -> None:
    """Raise TypeError for a `like` that names a library, which is to be an array of it."""
    if isinstance(like, str | bytes):
        raise TypeError(
            f"{detect.described('like', like)}: give an array of the library and on the device "
            "that the result is to be of"
        )


def dtype(value: Any, name: str = "dtype") -> np.dtype[Any]:
    """Return a dtype given as such or by name; "bfloat16" needs ml_dtypes."""
    reject_rng(name, value)
    if isinstance(value, str) and value == "bfloat16":
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            raise TypeError("bfloat16 is a dtype of ml_dtypes: pip install ml_dtypes") from None
        value = bfloat16
    try:
        if value is not None:  # which NumPy takes for float64
            result: np.dtype[Any] = np.dtype(value)
            return result
    except (TypeError, ValueError, RuntimeError):  # of fields that are none; of a __repr__
        pass
    raise TypeError(
        f"{name}={detect.short(value)} is not a dtype: give float32, say, or numpy.float32"
    )


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is bfloat16 of ml_dtypes; does not import ml_dtypes."""
    return dtype.name == "bfloat16" and dtype.type.__module__.partition(".")[0] == "ml_dtypes"


def _as_float(name: str, value: Any, wanted: str) -> float:
    if isinstance(value, np.generic):
        fits = value.dtype.kind in "iuf" or is_bfloat16(value.dtype)
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        reject_rng(name, value)
        way = wanted
        if _is_several(value) and foreign.shape_of(value) == ():
            way = f"the number that it holds, float({name})"
        raise TypeError(f"{detect.described(name, value)}: give {way}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f"{name}={detect.short(value)} is too large for a float: give {wanted}"
        ) from None


def _is_several(value: Any) -> bool:
    """Return whether a value is a list, a tuple, or an array of any library."""
    if isinstance(value, np.ndarray | list | tuple):
        return True
    return not isinstance(value, np.generic) and detect.is_array(value)


def real(name: str, value: Any, wanted: str = "a finite number") -> float:
    """Return a finite real number as a float; `wanted` says in errors what to give."""
    number = _as_float(name, value, wanted)
    if not math.isfinite(number):
        raise ValueError(f"{name}={value!r} is not finite: give {wanted}")
    return number


def integers(name: str, value: Any) -> Array:
    """Return a list or an array of integers as an array; an empty one may be of any dtype."""
    reject_rng(name, value)
    if detect.is_masked(value):
        raise TypeError(f"{name} is a masked array: give {name}.filled() or {name}.data")
    try:
        result = np.asarray(value)
    except ValueError:  # rows of several lengths
        raise ValueError(f"{name} has rows of several lengths: give integers") from None
    if result.dtype.hasobject and not isinstance(value, np.ndarray):
        raise TypeError(f"{detect.described(name, value)}: give integers")
    if result.size and result.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {result.dtype}: give integers")
    return result


def lengths(name: str, value: Any) -> tuple[int, ...]:
    """Return a shape or a position as a tuple of integers, none negative."""
    if type(value) is tuple:
        for item in value:
            if type(item) is not int or item < 0:
                break
        else:  # the common case: the checks below take several microseconds
            return value
    reject_rng(name, value)
    items = value if isinstance(value, tuple | list) else None
    if items is None:
        many = isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim)
        items = list(value) if many else [value]
    result = tuple(integer(f"{name}[{axis}]", item) for axis, item in enumerate(items))
    if any(n < 0 for n in result):
        raise ValueError(f"{name}={detect.short(value)} has a negative entry: give 0 or more")
    return result


def shape(value: Any, bits: int = 63) -> tuple[int, ...]:
    """Return the argument `shape`, of fewer than ``2**bits`` elements."""
    result = lengths("shape", value)
    if math.prod([n or 1 for n in result]) >> bits:  # NumPy bounds lengths beside a 0, too
        raise ValueError(
            f"shape={detect.short(result)} has 2**{bits} elements or more: give a smaller one"
        )
    return result


def fitting(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return `out`, which must have the given shape and dtype."""
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, and the result has {dtype}: give one of that")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, and the result has {shape}: give one of that")
    return out
