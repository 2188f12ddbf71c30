"""The long way of the element-wise functions: all arguments checked, any array, any layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _arguments as arguments
from ._arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike
from ._backends import backend_of
from .cuda import AnyRNG


def element_wise(
    x: ArrayLike,
    p: float,
    operation: Callable[[Any, np.dtype[Any]], Any],
    law: Callable[[float, np.dtype[Any]], tuple[int, Array]],
    *,
    rng: AnyRNG,
    training: bool,
    noise_shape: NoiseShape,
    offset: Offset,
    global_shape: ShapeLike | None,
    out: Output,
    checked: Callable[[Any], float] = arguments.probability,
    name: str = "x",
) -> Array:
    """Decide each element of x by p, and put an operation to it.

    ``operation(driver, dtype)`` gives the driver's operation, ``law(p, dtype)`` the threshold and
    the operation's parameters as kernels read them; it raises where the dtype is none that the
    function takes. ``checked(p)`` returns p, or raises: p may be another number than a probability.
    `name` is what errors call x.
    """
    backend = backend_of(x)
    xs = backend.array(x, name)
    p = checked(p)
    threshold, value = law(p, xs.dtype)
    place = arguments.place(xs.shape, noise_shape, offset, global_shape, name)
    if not arguments.in_training(training):
        return backend.untouched(x, xs, out)
    return backend.apply(
        lambda driver: operation(driver, xs.dtype), xs, out, place, rng, threshold, value
    )
