"""Calls like earlier ones: training loops come with arrays of the same few layouts again and again.

What a call needs beside the arrays and the key does not depend on them. It is prepared once, by
whose arrays they are, and kept under all that it does depend on. A call that succeeded had no
argument that is refused, so that of equal ones nothing is checked again but what may differ.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .._arrays.adapter import BOOL, BYTE, DOUBLE, FLOAT, Again
from .._arrays.dispatch import plain_arrays
from .._check.arguments import Array

Asked = tuple[Any, ...]
Calls = dict[Asked, Again]

calls: Calls = {}  # another one after `forget`
_seen: set[int] = set()  # hashes of calls: one that is another's only prepares too early
_MOST_CALLS = 512

# Of these types, numbers of one type and value are the same argument.
_NUMBERS = frozenset(
    {
        type(None), float, int, bool, np.bool_, np.float16, np.float32, np.float64,
        *(np.dtype(f"{sign}{size}").type for sign in "iu" for size in (1, 2, 4, 8)),
    }
)  # fmt: skip
_MASK = "mask"
_nothing = type(None)
_bytes_of = struct.Struct("d").pack


def asked(
    function: Any,
    x: Any,
    p: Any,
    parameter: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
) -> Asked | None:
    """Return what a call is remembered by, of a function of elements; None if it is not."""
    kind, chance, more = type(x), type(p), type(parameter)
    if kind not in plain_arrays or chance not in _NUMBERS or more not in _NUMBERS:
        return None
    dtype, shape = x.dtype, x.shape
    if out is None:
        strides = None
    elif type(out) is not kind or out.dtype is not dtype or out.shape != shape:
        return None
    else:
        strides = out.strides
    if not (
        (noise_shape is None or _is_plain(noise_shape))
        and (type(offset) is int or _is_plain(offset))
        and (global_shape is None or _is_plain(global_shape))
    ):
        return None
    # Zeros of both signs are equal, and a NaN is no number's equal.
    if not (p and p == p):
        p = _exactly(p)
    if parameter is not None and not (parameter and parameter == parameter):
        parameter = _exactly(parameter)
    # What is prepared for NumPy's arrays serves any offset, see `_moving`.
    where = type(offset) if kind is np.ndarray else offset
    return (
        function, kind, shape, dtype, x.strides, strides, chance, p, more, parameter, where,
        noise_shape, global_shape,
    )  # fmt: skip


def asked_by_p(
    function: Any,
    x: Any,
    p: Array,
    parameter: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
) -> Asked | None:
    """Return what a call by a p of each element is remembered by; None if it is not."""
    dtype = p.dtype
    if type(x) is not np.ndarray or not p.size or (dtype is not DOUBLE and dtype is not FLOAT):
        return None
    what = asked(function, x, 0.5, parameter, noise_shape, offset, global_shape, out)
    return what and (what, dtype, p.shape, p.strides)


def asked_mask(
    shape: Any,
    p: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    packed: Any,
    out: Any,
    like: Any,
) -> Asked | None:
    """Return what a call of `dropout_mask` is remembered by; None if it is not."""
    chance = type(p)
    if chance not in _NUMBERS or type(packed) is not bool:
        return None
    kind = type(out if like is None else like)
    if kind is _nothing:
        kind = np.ndarray
    elif kind not in plain_arrays:
        return None
    if out is None:
        form = None
    elif type(out) is not kind or out.dtype is not (BYTE if packed else BOOL):
        return None
    else:
        form = out.shape, out.strides
    if not (
        (noise_shape is None or _is_plain(noise_shape))
        and (type(offset) is int or _is_plain(offset))
        and (global_shape is None or _is_plain(global_shape))
    ):
        return None
    if type(shape) is not int and not _is_plain(shape):
        return None
    if not (p and p == p):
        p = _exactly(p)
    # Of packed masks, whether blocks begin where bytes do depends on the offset.
    where = type(offset) if kind is np.ndarray and not packed else offset
    return (
        _MASK, kind, shape, packed, form, chance, p, where, noise_shape, global_shape,
    )  # fmt: skip


def comes_again(known: Calls, what: Asked | None) -> bool:
    """Say whether a call has been made before and is not known yet.

    Preparing takes as long as some calls. So it waits for a second call: there may never be one,
    where a large array is treated part by part, say.
    """
    return what is not None and hash(what) in _seen and what not in known


def remember(known: Calls, what: Asked, again: Again | None) -> Again:
    """Return what does a call from now on; None goes the long way."""
    if len(known) >= _MOST_CALLS:
        known.clear()
    ready = known[what] = again or _not_again
    return ready


def succeeded(what: Asked | None) -> None:
    """Remember that a call was made."""
    if what is not None:
        if len(_seen) >= _MOST_CALLS:
            _seen.clear()
        _seen.add(hash(what))


def forget() -> None:
    """Forget all calls, those too that are being prepared: kernels may have changed."""
    global calls
    calls = {}
    _seen.clear()


def _exactly(number: Any) -> Any:
    """Return what is equal for numbers that are the same, of one type."""
    if isinstance(number, np.generic):
        return number.tobytes()
    return _bytes_of(number) if type(number) is float else number


def _is_plain(numbers: Any) -> bool:
    """Say whether these are Python's integers, of which equal ones are the same: True is 1."""
    if type(numbers) is not tuple:
        return False
    for number in numbers:
        if type(number) is not int and number is not None:
            return False
    return True


def _not_again(*arguments: Any) -> None:
    """Go the long way."""
