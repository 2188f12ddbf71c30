"""Calls like earlier ones: training loops come with arrays of the same few layouts again and again.

What a call needs beside the arrays and the key does not depend on them: it is prepared once, for
small NumPy arrays of any layout. Only what may differ between equal arguments is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _arguments as arguments
from ._arguments import Array, NoiseShape, Offset, ShapeLike
from ._backends import cpu_driver
from ._key import Key
from ._laws import law_of

_Call = Callable[[Array, Array, int, int], None]
_calls: dict[tuple[Any, ...], _Call] = {}
_MOST_CALLS = 256
_ndarray, _empty_like = np.ndarray, np.empty_like


def dropped_again(
    x: Array,
    p: float,
    key: Key,
    scale: float | None,
    noise_shape: NoiseShape,
    offset: Offset,
    global_shape: ShapeLike | None,
    out: Any,
) -> Array | None:
    """Do what `dropout` does, if the call is one of those; else return None.

    Raises what `dropout` raises.
    """
    if out is None:
        y = _empty_like(x)
    else:
        if type(out) is not _ndarray or out.dtype is not x.dtype or out.shape != x.shape:
            return None
        flags = out.flags
        if not (flags.writeable and flags.forc and flags.owndata):
            return None
        # Of arrays that own their memory it is known that they do not overlap, or are one.
        if not x.flags.owndata:
            owner = x.base
            if type(owner) is not _ndarray or owner is out or not owner.flags.owndata:
                return None
        y = out
    # Equal numbers may be of other types, which are refused: True is 1.
    if not (
        (noise_shape is None or _is_plain(noise_shape))
        and (global_shape is None or _is_plain(global_shape))
        and (type(offset) is int or _is_plain(offset))
    ):
        return None
    what = x.shape, x.strides, y.strides, x.dtype, p, scale, noise_shape, offset, global_shape
    call = _calls.get(what) or _prepared(x, y, p, scale, noise_shape, offset, global_shape, what)
    if call is None:
        return None
    call(x, y, *key)
    return y


def _is_plain(numbers: Any) -> bool:
    if type(numbers) is not tuple:
        return False
    for number in numbers:
        if type(number) is not int and number is not None:
            return False
    return True


def _prepared(
    x: Array,
    y: Array,
    p: float,
    scale: float | None,
    noise_shape: NoiseShape,
    offset: Offset,
    global_shape: ShapeLike | None,
    what: tuple[Any, ...],
) -> _Call | None:
    threshold, factor = law_of(arguments.probability(p), x.dtype, scale)
    place = arguments.place(x.shape, noise_shape, offset, global_shape)
    driver = cpu_driver()
    # 0.0 and -0.0 are equal, but not as factors.
    if scale == 0.0 or not driver.LAYOUT_IS_KNOWN:
        return None
    if not 0 < x.size < driver.PARALLEL_FROM:
        return None
    if len(_calls) >= _MOST_CALLS:
        _calls.clear()
    strides = x.strides, y.strides
    operation = driver.dropping(x.dtype)
    call: _Call = driver.repeatable(operation, x.shape, *strides, *place, threshold, factor)
    _calls[what] = call
    return call
