"""Checking of arguments: each function returns the argument in its normal form, or raises.

Errors name the argument, its value, and the way out. Nothing has been written when one is raised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _foreign as foreign
from . import _labels as labels
from . import _libraries as libraries
from ._key import Key, _integer

Array: TypeAlias = npt.NDArray[Any]


class OnGPU(Protocol):
    """An array on a CUDA device: CuPy's, PyTorch's, Numba's."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """Where it lies."""


ArrayLike: TypeAlias = npt.ArrayLike | OnGPU
Output: TypeAlias = Array | OnGPU | None
Integers: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]]
ShapeLike: TypeAlias = int | Integers
Training: TypeAlias = int | np.bool_  # 0, 1, False or True
NoiseShape: TypeAlias = Sequence[int | None] | npt.NDArray[Any] | None
Offset: TypeAlias = int | Integers

INDEX_LIMIT = 1 << 63  # the contract's: indices lie below it
_MOST_SHOWN = 60  # characters of a value in an error


def probability(p: Any, name: str = "p", below_one: bool = False) -> float:
    """Return a drop probability as a float in [0, 1], or in [0, 1)."""
    if type(p) is float:
        number: float = p
    else:
        if _is_several(p) and (shape := foreign.shape_of(p)) != ():
            refuse_rng(name, p)
            raise TypeError(
                f"{name} has shape {shape}, and this takes one number for all elements: give that, "
                "or call it for each part of x; arrays are taken by dropout, dropout_mask, "
                "masked_fill, feature_dropout and drop_path"
            )
        number = _as_float(name, p, "the probability of dropping")
    if not 0.0 <= number <= 1.0 or (below_one and number == 1.0):  # so that NaN is refused too
        raise ValueError(
            f"{name}={number!r} is not in [0, 1{')' if below_one else ']'}: {name} is the "
            "probability of dropping an element"
        )
    return number


def refuse_rng(name: str, value: Any) -> None:
    """Refuse what belongs into `rng`: a Key is a tuple of two numbers to all that takes tuples."""
    if isinstance(value, Key):
        raise TypeError(f"{name} is a Key: give rng={value!r}")
    if libraries.is_rng(value):
        raise TypeError(f"{name} is a {libraries.kind_of(value)}: give it as rng")


def integer(name: str, value: Any) -> int:
    """Return an integer."""
    if type(value) is not int:
        refuse_rng(name, value)
    return _integer(name, value)


def flag(name: str, value: Any) -> bool:
    """Return a truth value; what says whether to train may be 0 or 1 too."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if type(value) is int and value in (0, 1) and name in ("training", "mode"):
        return value == 1
    refuse_rng(name, value)
    raise TypeError(f"{described(name, value)}: give True or False")


def in_training(training: Any) -> bool:
    """Say whether a call is one in training."""
    return training is True or flag("training", training)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return a string that is one of several."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}: give {' or '.join(map(repr, choices))}")
    return value


def whole(name: str, value: Any, least: int) -> int:
    """Return an integer that is not below `least`."""
    number = integer(name, value)
    if number < least:
        raise ValueError(f"{name}={number} is below {least}: give {least} or more")
    return number


def axis(value: Any, axes: int) -> int:
    """Return the number of an axis of an array that has so many, counted from the first."""
    number = integer("axis", value)
    if not -axes <= number < axes:
        raise np.exceptions.AxisError(number, axes)
    return number % axes


def array(x: Any, name: str = "x") -> Array:
    """Return an array-like, called `name` in errors, as an array of NumPy."""
    if type(x) is np.ndarray:
        return x
    if not isinstance(x, libraries.ON_THE_HOST):
        if labels.has_labels(x):
            return labels.values(x, name)
        foreign.refuse(x, name)
    elif x is None:
        raise TypeError(f"{name} is None: give an array")
    refuse_rng(name, x)
    if libraries.is_masked(x):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost: give {name}.filled() or "
            f"{name}.data"
        )
    try:
        result: Array = np.asarray(x)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{name} is no array: {error}") from None
    if result.dtype.hasobject and not isinstance(x, np.ndarray):
        foreign.refuse_objects(x, result, name)
    return result


def described(name: str, value: Any) -> str:
    """Say what kind of object an argument is, and which one if that is said shortly."""
    kind, shape = libraries.kind_of(value), getattr(value, "shape", ())
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = ""
    if 0 < len(text) <= _MOST_SHOWN and "\n" not in text:
        return f"{name}={text} is a {kind}"
    return f"{name} is a {kind}{f' of shape {shape}' if shape else ''}"


def dtype(value: Any) -> np.dtype[Any]:
    """Return a dtype, which may be given by its name; that of bfloat16 is known to ml_dtypes."""
    if isinstance(value, str) and value == "bfloat16":
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            raise TypeError("bfloat16 is a dtype of ml_dtypes: pip install ml_dtypes") from None
        value = bfloat16
    try:
        result: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"{value!r} is not a dtype: give float32, say, or numpy.float32") from None
    return result


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Say whether a dtype is that of ml_dtypes, which does not have to be installed."""
    return dtype.name == "bfloat16" and dtype.type.__module__.partition(".")[0] == "ml_dtypes"


def _as_float(name: str, value: Any, wanted: str) -> float:
    if isinstance(value, np.generic):
        fits = value.dtype.kind in "iuf" or is_bfloat16(value.dtype)
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        refuse_rng(name, value)
        way = f"one number, {wanted}"
        if _is_several(value) and foreign.shape_of(value) == ():
            way = f"the number that it holds, float({name})"
        raise TypeError(f"{described(name, value)}: give {way}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large for a float: give {wanted}") from None


def _is_several(value: Any) -> bool:
    """Say whether a value is an array of any library, or a list."""
    if isinstance(value, np.ndarray | list | tuple):
        return True
    return not isinstance(value, np.generic) and libraries.is_array(value)


def real(name: str, value: Any) -> float:
    """Return a finite real number as a float."""
    number = _as_float(name, value, "a real one")
    if not math.isfinite(number):
        raise ValueError(f"{name}={value!r} is not finite: give a finite number")
    return number


def lengths(name: str, value: Any) -> tuple[int, ...]:
    """Return a shape or a position as a tuple of integers, none negative."""
    if type(value) is tuple:
        for item in value:
            if type(item) is not int or item < 0:
                break
        else:  # as most are: the rest of this takes several microseconds
            return value
    refuse_rng(name, value)
    items = value if isinstance(value, tuple | list) else None
    if items is None:
        many = isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim)
        items = list(value) if many else [value]
    result = tuple(integer(f"{name}[{axis}]", item) for axis, item in enumerate(items))
    if any(n < 0 for n in result):
        raise ValueError(f"{name}={value!r} has a negative entry: give 0 or more")
    return result


class Place(NamedTuple):
    """Where an array lies in its mask: its first index, and the steps along its axes.

    `strides` is None where they are those of the array in C order.
    """

    first: int
    strides: tuple[int, ...] | None


_WHOLE = Place(0, None)


def place(
    shape: tuple[int, ...],
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    name: str = "x",
) -> Place:
    """Return where an array of `shape`, so called in errors, lies in its mask."""
    if noise_shape is None and global_shape is None and type(offset) is int and offset == 0:
        return _WHOLE
    start, full = _shard(shape, offset, global_shape, name)
    noise = full if noise_shape is None else _noise(noise_shape, full)
    strides, index, step = [], 0, 1
    for length, first in zip(reversed(noise), reversed(start), strict=True):
        # A length of 1 shares its one decision, unless it is a real axis of that length, where it
        # makes no difference.
        strides.append(0 if length == 1 else step)
        index += strides[-1] * first
        step *= length
    if global_shape is None:
        index = integer("offset", offset)
        if index < 0:
            raise ValueError(f"offset={index} is negative: it is added to the mask index")
        step += index
    if step > INDEX_LIMIT:
        raise ValueError(
            f"the mask index reaches {step - 1}, and must stay below 2**63: give a smaller offset "
            "or global_shape"
        )
    if noise_shape is None and global_shape is None:
        return Place(index, None)
    return Place(index, tuple(reversed(strides)))


def _shard(
    shape: tuple[int, ...], offset: Offset, global_shape: ShapeLike | None, name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if global_shape is None:
        if not isinstance(offset, int | np.integer):
            refuse_rng("offset", offset)
            raise TypeError(
                f"offset={offset!r} is not an integer: starts along the axes need global_shape too"
            )
        return (0,) * len(shape), shape
    full = lengths("global_shape", global_shape)
    if len(full) != len(shape):
        raise ValueError(
            f"global_shape={full} has {len(full)} axes, and {name} has {len(shape)}: give it as "
            "many"
        )
    at_origin = (
        isinstance(offset, int | np.integer) and not isinstance(offset, bool) and offset == 0
    )
    start = (0,) * len(full) if at_origin else lengths("offset", offset)
    if len(start) != len(full):
        raise ValueError(
            f"offset={offset!r} does not say where {name} begins along each axis of "
            f"global_shape={full}: give {len(full)} integers"
        )
    for axis, (first, n, whole) in enumerate(zip(start, shape, full, strict=True)):
        if first + n > whole:
            raise ValueError(
                f"{name} does not fit: along axis {axis} it goes from {first} to {first + n}, and "
                f"global_shape={full} ends at {whole}"
            )
    return start, full


def noise_shape(value: Any) -> tuple[int | None, ...] | None:
    """Return a noise shape as a tuple, for an array whose shape is not known yet."""
    entries = None if value is None else _entries(value)
    for axis, n in enumerate(entries or ()):
        if n is not None and n < 1:
            raise ValueError(
                f"noise_shape[{axis}]={n} is below 1: give the axis's length or None to draw along "
                "the axis, or 1 to share the decision"
            )
    return entries


def _entries(value: Any) -> tuple[int | None, ...]:
    refuse_rng("noise_shape", value)
    given = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(given, tuple | list):
        raise TypeError(described("noise_shape", value) + ": give a tuple of integers and None")
    return tuple(
        [n if n is None else integer(f"noise_shape[{axis}]", n) for axis, n in enumerate(given)]
    )


def _noise(given: Any, full: tuple[int, ...]) -> tuple[int, ...]:
    entries = _entries(given)
    if len(entries) > len(full):
        raise ValueError(f"noise_shape={entries} has more axes than the array's {full}")
    short = len(full) - len(entries)
    noise = [1] * short
    for axis, item in enumerate(entries):
        length = full[short + axis]
        n = length if item is None else item
        if n not in (1, length):
            raise ValueError(
                f"noise_shape[{axis}]={n} fits no axis of length {length} of {full}: give {length} "
                "or None to draw along the axis, or 1 to share the decision"
            )
        noise.append(n)
    return tuple(noise)


def fitting(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return `out`, which must have that shape and dtype."""
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, and the result has {dtype}: give one of that")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, and the result has {shape}: give one of that")
    return out
