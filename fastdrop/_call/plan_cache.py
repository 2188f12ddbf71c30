"""The cache of call plans: training loops come with arrays of the same few layouts again and again.

What a call needs beside the arrays and the key does not depend on them. It is planned once, by the
adapter of the arrays' library, and cached under all that it depends on. A call that succeeded had
no argument that is refused, so that of equal calls nothing is checked again but what may differ.
`elementwise`, `repeated`, `Mask`, `dropout_mask` and functions on batches look plans up here, and
add new ones; layers keep the plans that served them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from .._arrays.adapter import BOOL, BYTE, DOUBLE, FLOAT, Plan
from .._arrays.dispatch import plain_arrays

PlanKey: TypeAlias = tuple[Any, ...]
Plans: TypeAlias = dict[PlanKey, Plan]

plans: Plans = {}  # another one after `forget`
_MOST_PLANS = 512
_EVICTED = 64  # at once, the oldest

# Of these types, numbers of one type and value are the same argument. A bool is refused as p.
PROBABILITIES = frozenset({float, int, np.float64, np.float32, np.float16})
NUMBERS = frozenset(
    {
        type(None), float, int, bool, np.bool_, np.float16, np.float32, np.float64,
        *(np.dtype(f"{sign}{size}").type for sign in "iu" for size in (1, 2, 4, 8)),
    }
)  # fmt: skip
_MASK = "mask"
_nothing, _ndarray = type(None), np.ndarray
_bytes_of = struct.Struct("d").pack


def contiguous_key(function: Any, x: Any, p: Any, parameter: Any, out: Any) -> PlanKey | None:
    """Return the key of calls of an element-wise function on contiguous arrays of any shape.

    None where `out` or the parameter is of a kind that has none. p is of `PROBABILITIES`.
    """
    if out is not None and type(out) is not _ndarray:
        return None
    if not p:  # zeros of both signs are equal, but two deviations
        p = _exactly(p)
    if parameter is None:
        return function, p, x.dtype
    kind = type(parameter)
    if kind not in NUMBERS:
        return None
    if not (parameter and parameter == parameter):  # a NaN is no number's equal
        parameter = _exactly(parameter)
    return function, p, x.dtype, kind, parameter


def layout_key(
    function: Any,
    x: Any,
    p: Any,
    parameter: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
) -> PlanKey | None:
    """Return the key of calls of an element-wise function on arrays of one layout; None if none."""
    kind, chance, more = type(x), type(p), type(parameter)
    if kind not in plain_arrays or chance not in NUMBERS or more not in NUMBERS:
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
    if not (p and p == p):
        p = _exactly(p)
    if parameter is not None and not (parameter and parameter == parameter):
        parameter = _exactly(parameter)
    # A plan for NumPy's arrays serves any offset, see `shard_offsets`.
    where = type(offset) if kind is _ndarray else offset
    return (
        function, kind, shape, dtype, x.strides, strides, chance, p, more, parameter, where,
        noise_shape, global_shape,
    )  # fmt: skip


def per_element_key(
    function: Any,
    x: Any,
    p: Any,
    parameter: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
) -> PlanKey | None:
    """Return the key of calls by arrays of p of one layout, and on arrays of one; None if none."""
    if type(p) is not _ndarray or type(x) is not _ndarray:
        return None
    dtype = p.dtype
    if not p.size or (dtype is not DOUBLE and dtype is not FLOAT):
        return None
    key = layout_key(function, x, 0.5, parameter, noise_shape, offset, global_shape, out)
    return key and (key, dtype, p.shape, p.strides)


def operands_key(
    function: Any,
    x: Any,
    operands: Sequence[Any],
    p: Any,
    parameter: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
) -> PlanKey | None:
    """Return the key of calls that read arrays of one layout beside x; None if there is none."""
    if type(x) is not _ndarray:
        return None
    forms: list[Any] = []
    for a in operands:
        if a is None:
            forms.append(None)
        elif type(a) is _ndarray:
            forms += a.dtype, a.shape, a.strides
        else:
            return None
    key = layout_key(function, x, p, parameter, noise_shape, offset, global_shape, out)
    return key and (key, *forms)


def mask_key(
    shape: Any,
    p: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    packed: Any,
    out: Any,
    like: Any,
) -> PlanKey | None:
    """Return the key of calls of `dropout_mask`; None if there is none."""
    chance = type(p)
    if chance not in NUMBERS or type(packed) is not bool:
        return None
    kind = type(out if like is None else like)
    if kind is _nothing:
        kind = _ndarray
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
    # Whether blocks of a packed mask begin where bytes do depends on the offset.
    where = type(offset) if kind is _ndarray and not packed else offset
    return (
        _MASK, kind, shape, packed, form, chance, p, where, noise_shape, global_shape,
    )  # fmt: skip


def remember(known: Plans, key: PlanKey, plan: Plan | None) -> Plan:
    """Cache a plan, and return it; None is a plan that no call fits.

    `known` is what `plans` was when the call began: what is planned while `forget` is called is
    forgotten, too.
    """
    if len(known) >= _MOST_PLANS:
        for old in list(known)[:_EVICTED]:
            known.pop(old, None)
    added = known[key] = plan or _fits_none
    return added


def forget() -> None:
    """Forget all plans, those too that are being made: kernels may have changed."""
    global plans
    plans = {}


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


def _fits_none(*arguments: Any) -> None:
    """Leave a call to the general path."""
