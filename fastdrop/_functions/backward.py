"""The backward of one forward as an object, and the check of the gradient that it is given.

`vjp` returns it beside a function's result, and layers' own ``vjp`` do, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays.dispatch import backend_of
from .._call.coefficients import compute_type
from .._check.arguments import Array, ArrayLike


def check_gradient(dy: Any, shape: tuple[int, ...], forward: str, floats: bool = True) -> None:
    """Refuse a gradient of another shape than the result of a forward, so called in the error.

    If `floats`, refuse one of a dtype that is not computed with, too.
    """
    given = backend_of(dy).array(dy, "dy")
    if given.shape != shape:
        raise ValueError(f"dy has shape {given.shape}, and {forward} had {shape}")
    if floats:
        compute_type(given.dtype, "dy")


class Backward:
    """The backward of one forward: ``backward(dy)`` returns the gradient, as often as it is asked.

    It holds the key and the settings of its forward, and so meets its mask, whatever other forwards
    and backwards come between.
    """

    __slots__ = ("_floats", "_gradient", "_shape")

    def __init__(self, gradient: Any, shape: tuple[int, ...], floats: bool = True) -> None:
        self._gradient, self._shape, self._floats = gradient, shape, floats

    def __call__(self, dy: ArrayLike, *, out: Any = None) -> Any:
        """Return the gradient by x.

        Parameters
        ----------
        dy : array_like
            Gradient of the forward's result: of its shape.
        out : ndarray, optional
            Where to write, as in the function.

        Returns
        -------
        ndarray
            Gradient of the forward's input. Of `bias_act_dropout_add`, the tuple of the gradients
            of x, bias and residual.

        Raises
        ------
        ValueError
            If `dy` has another shape than the forward's result.
        """
        if type(dy) is not np.ndarray or dy.shape != self._shape or dy.dtype.kind != "f":
            check_gradient(dy, self._shape, "the result of its forward", self._floats)
        gradient: Array = self._gradient(dy, **({} if out is None else {"out": out}))
        return gradient

    def __repr__(self) -> str:
        """Show the shape that it takes."""
        return f"<backward of a result of shape {self._shape}>"
