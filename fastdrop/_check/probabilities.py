"""Arrays of p: each number a probability, or an error that names the first that is none.

`_call.per_element` calls it, and each block of a Dask array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import arguments, detect, labels
from .arguments import Array


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise TypeError for a dtype of p that is not one of real numbers."""
    if dtype.kind not in "fiu" and not arguments.is_bfloat16(dtype):
        raise TypeError(f"p has dtype {dtype}: give floats, the probabilities of dropping")


def array_of_probabilities(p: Any) -> Array:
    """Return an array of probabilities, in [0, 1], in float64 or float32."""
    if detect.on_gpu(p):
        raise TypeError(
            f"p is {detect.a_kind_of(p)}, which lies on a GPU, and checking it would wait for "
            "that: give a numpy.ndarray, which is copied there"
        )
    if labels.has_labels(p):
        raise TypeError(f"p is {detect.a_kind_of(p)}, whose labels are not read: give p.to_numpy()")
    given = arguments.array(p, "p")
    check_dtype(given.dtype)
    with np.errstate(all="ignore"):  # a signalling NaN is an invalid operand
        result = given if given.dtype == np.float32 else given.astype(np.float64, copy=False)
    if not _are_probabilities(given):
        bad = tuple(int(k) for k in np.argwhere(~((result >= 0.0) & (result <= 1.0)))[0])
        where = f"p[{', '.join(map(str, bad))}]" if bad else "p"
        raise ValueError(
            f"{where}={float(result[bad])!r} is not in [0, 1]: p is the probability of dropping an "
            "element"
        )
    return result


def _are_probabilities(p: Array) -> bool:
    """Say whether all numbers are in [0, 1], which NaN is not."""
    if not p.size:
        return True
    if p.dtype in _BITS_OF_ONE:
        # As integers, numbers from +0.0 to 1 are those up to 1's, and one pass over them is enough.
        bits, one = _BITS_OF_ONE[p.dtype]
        if p.view(bits).max() <= one:
            return True
    return bool(p.min() >= 0 and p.max() <= 1)


_BITS_OF_ONE = {
    np.dtype(kind): (np.dtype(f"u{np.dtype(kind).itemsize}"), one)
    for kind, one in ((np.float64, 0x3FF0 << 48), (np.float32, 0x3F80 << 16), (np.float16, 0x3C00))
}
