"""Laws: a threshold and a value for each p of an array, where p is the same along whole lines.

Such lines are a plain call's, each by a law of its own: the kernels of `box` walk through the laws
as they walk through the elements. Of a p for every line, 4,096 lines of 4,096 float32 take 0.74 ns
an element on one thread, where joint calls take 1.75 and one p for all 0.69; 1,024 of 1,024 take
0.86, 1.82 and 0.49, and 8,000 of 128 no less than joint calls.
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ... import probabilities as chances
from ...contract import ALWAYS
from ...layout import AXES, LINE, Plan, c_strides, line_plan
from ..elements.operations import Operation

Array: TypeAlias = npt.NDArray[Any]

# Elements that lines must have at least to be treated one by one.
_LONG = 128


def laws_of(
    operation: Operation,
    p: Array,
    value: Array,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    index_strides: tuple[int, ...],
) -> tuple[Plan, Array] | None:
    """Return how to walk through an array, and threshold and value of each p side by side.

    p is a view of the array's shape. None if lines of one p are short.
    """
    kind = _kind(value.dtype)
    own, steps = own_numbers(p, kind.itemsize)
    layout = line_plan(shape, steps, input_strides, output_strides, index_strides)
    if layout is None:
        return None
    if math.prod([axis[0] for axis in layout.axes[-AXES[layout.form] :]]) < _LONG:
        return None
    thresholds = chances.thresholds(own)
    # Only lines know how to drop all.
    if layout.form != LINE and int(thresholds.max()) == ALWAYS:
        return None
    laws = np.empty(own.shape, kind)
    laws["threshold"] = thresholds
    laws["value"] = chances.factors(own, None, value.dtype) if operation.inverse else value
    return layout, laws


def own_numbers(p: Array, size: int) -> tuple[Array, tuple[int, ...]]:
    """Return a view without what it repeats, and its steps where its numbers lie in C order.

    There each takes so many bytes, or whatever steps count.
    """
    own: Array = p[tuple([slice(None) if step else slice(1) for step in p.strides])]
    lengths = zip(c_strides(own.shape), own.shape, strict=True)
    return own, tuple([step * size * (n > 1) for step, n in lengths])


@functools.cache
def _kind(value: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(
        {
            "names": ["threshold", "value"],
            "formats": [np.uint64, value],
            "offsets": [0, 8],
            "itemsize": 8 + max(8, value.itemsize),
        }
    )
