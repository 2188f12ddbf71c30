"""Express: whole calls on plain arrays, checked and computed in one step of compiled code.

Asking an array in Python for its dtype, shape, flags and bounds takes longer than drawing the mask
of a few thousand elements. This kernel reads them where NumPy keeps them, and does nothing, and
says so, if the arrays are not of the plainest kind: then the long way looks again. A call at 1 Ki
float32 takes 2.1 us, the long way 5.5, np.multiply 1.1. It reads without the GIL, as NumPy's loops
do: nobody may give an array another shape while it is in a call.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from ...shielded import made_apart
from ..codegen.compiler import device, kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, pointer_at, pointer_in
from ..codegen.ndarray_layout import AXES, DATA, DTYPE, DTYPE_WORD, FLAGS, LENGTHS, dtype_word
from ..elements.operations import Operation
from ..elements.sampler import U64, load32, load64
from ..loops.call_descriptor import call_state, set_key, set_law
from ..loops.contiguous import span_loop

_DATA, _AXES, _LENGTHS = np.uint64(DATA), np.uint64(AXES), np.uint64(LENGTHS)
_DTYPE, _FLAGS = np.uint64(DTYPE), np.uint64(FLAGS)
_DTYPE_WORD = np.uint64(DTYPE_WORD)
_C_CONTIGUOUS, _WRITEABLE = np.uint32(0x1), np.uint32(0x400)  # NumPy's flags
_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)
_LOOK = np.uint64(1 << 63)
_THRESHOLD, _VALUE = np.uint64(8), np.uint64(16)  # bytes in a record


@device
def _dtype(x: Any) -> Any:
    return load64(pointer_at(load64(x, _DTYPE)), _DTYPE_WORD)


@device
def _elements(x: Any, y: Any, dtype: Any) -> Any:
    """Return how many elements two plain arrays have, or 0 if they are not so plain."""
    flags = load32(x, _FLAGS) & load32(y, _FLAGS)
    axes = load32(x, _AXES)
    if not flags & _C_CONTIGUOUS or not load32(y, _FLAGS) & _WRITEABLE:
        return _ZERO
    if load32(y, _AXES) != axes or _dtype(x) != dtype or _dtype(y) != dtype:
        return _ZERO
    n = _ONE
    mine, its = pointer_in(address_of(x) + _LENGTHS), pointer_in(address_of(y) + _LENGTHS)
    for axis in range(U64(axes)):
        length = load64(mine, _EIGHT * axis)
        if load64(its, _EIGHT * axis) != length:
            return _ZERO
        n *= length
    return n


@functools.cache
@made_apart
def express(operation: Operation, way: str) -> Any:
    """Kernel ``(x, y, record, index, seed, stream) -> done`` over whole arrays, C order.

    x and y are the id() of two arrays, `record` the address of an `express_record`. Arrays that are
    not both contiguous, alike, of the record's dtype, and apart or one and the same, are left
    alone, and so are those whose indices would reach 2**63: then 0 is returned. So is 1 for the
    index 2**63, if the arrays are, and nothing is done.
    """
    span = span_loop(operation, way)
    itemsize = np.uint64(operation.target.itemsize)

    def run(x_id: Any, y_id: Any, record_at: Any, index: Any, seed: Any, stream: Any) -> Any:
        x, y, record = pointer_at(x_id), pointer_at(y_id), pointer_at(record_at)
        n = _elements(x, y, load64(record, _ZERO))
        nbytes = n * itemsize
        if n == _ZERO or (index >> np.uint64(62) and index != _LOOK):
            return _ZERO
        source, target = pointer_in(x_id + _DATA), pointer_in(y_id + _DATA)
        distance = address_of(target) - address_of(source)
        if distance and (distance < nbytes or _ZERO - distance < nbytes):
            return _ZERO
        if index == _LOOK:
            return _ONE
        rounding, call = round_by_default(), call_state()
        set_key(call, seed, stream)
        set_law(call, load64(record, _THRESHOLD), record_at + _VALUE)
        span(source, target, n, index, call)
        round_as_before(rounding)
        return _ONE

    return kernel(f"{operation.name}-{way}-express", run, U64(*[U64] * 6))


def express_record(
    dtype: np.dtype[Any], threshold: int, value: npt.NDArray[Any]
) -> npt.NDArray[np.uint64]:
    """Return what `express` must know beside arrays and key; its data must outlive the calls."""
    words = np.zeros(4, np.uint64)
    words[0], words[1] = dtype_word(dtype), threshold
    words[2:].view(np.uint8)[: value.nbytes] = np.frombuffer(value.tobytes(), np.uint8)
    return words
