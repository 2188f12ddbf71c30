"""Calls like earlier ones: training loops come with arrays of the same few layouts again and again.

What a call needs beside the arrays and the key does not depend on them: it is prepared once, by
whose arrays they are. Only what may differ between equal arguments is looked at again.
"""

from __future__ import annotations

from typing import Any

from . import _arguments as arguments
from ._arguments import Array, NoiseShape, Offset, ShapeLike
from ._backend import Again
from ._backends import plain_arrays
from ._laws import law_of
from .cuda import AnyRNG

_calls: dict[tuple[Any, ...], Again] = {}
_MOST_CALLS = 256


def dropped_again(
    x: Any,
    p: float,
    rng: AnyRNG,
    scale: float | None,
    noise_shape: NoiseShape,
    offset: Offset,
    global_shape: ShapeLike | None,
    out: Any,
) -> Array | None:
    """Do what `dropout` does, if the call is one of those; else return None.

    Raises what `dropout` raises.
    """
    kind = type(x)
    if kind not in plain_arrays:
        return None
    if out is None:
        strides = None
    elif type(out) is not kind or out.dtype is not x.dtype or out.shape != x.shape:
        return None
    else:
        strides = out.strides
    # Equal numbers may be of other types, which are refused: True is 1.
    if not (
        (noise_shape is None or _is_plain(noise_shape))
        and (global_shape is None or _is_plain(global_shape))
        and (type(offset) is int or _is_plain(offset))
    ):
        return None
    what = (
        kind, x.shape, x.strides, strides, x.dtype, p, scale, noise_shape, offset, global_shape
    )  # fmt: skip
    call = _calls.get(what) or _prepared(x, out, p, scale, noise_shape, offset, global_shape, what)
    return call(x, out, rng)


def forget() -> None:
    """Forget all calls: kernels may have changed."""
    _calls.clear()


def _is_plain(numbers: Any) -> bool:
    if type(numbers) is not tuple:
        return False
    for number in numbers:
        if type(number) is not int and number is not None:
            return False
    return True


def _prepared(
    x: Array,
    out: Array | None,
    p: float,
    scale: float | None,
    noise_shape: NoiseShape,
    offset: Offset,
    global_shape: ShapeLike | None,
    what: tuple[Any, ...],
) -> Again:
    law = law_of(arguments.probability(p), x.dtype, scale)
    place = arguments.place(x.shape, noise_shape, offset, global_shape)
    dtype, call = x.dtype, None
    if scale != 0.0:  # 0.0 and -0.0 are equal, but not as factors
        backend = plain_arrays[type(x)]
        call = backend.repeatable(lambda driver: driver.dropping(dtype), x, out, place, *law)
    if len(_calls) >= _MOST_CALLS:
        _calls.clear()
    _calls[what] = call or _not_again
    return _calls[what]


def _not_again(x: Array, out: Array | None, rng: AnyRNG) -> None:
    """Go the long way."""
