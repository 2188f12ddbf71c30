"""`Backward`, the backward of one forward as an object, and the check of a gradient's shape.

The functions of `vjp` and the layers' ``vjp`` methods return a `Backward` next to their result; it
calls the gradient function of that forward.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays.dispatch import backend_of
from .._call.coefficients import compute_type
from .._check.arguments import Array, ArrayLike


def check_gradient(dy: Any, shape: tuple[int, ...], forward: str, floats: bool = True) -> None:
    """Raise ValueError unless dy has the shape of a forward's result; errors call that `forward`.

    If `floats`, also raise TypeError for a dtype that `dropout` does not take.
    """
    array = backend_of(dy).array(dy, "dy")
    if array.shape != shape:
        raise ValueError(f"dy has shape {array.shape}, and {forward} had {shape}")
    if floats:
        compute_type(array.dtype, "dy")


class Backward:
    """The backward of one forward: ``backward(dy)`` returns the gradient; it can be called again.

    It holds the key and the settings of its forward, so it uses the same mask, whatever other
    forwards and backwards run in between.
    """

    __slots__ = ("_floats", "_gradient", "_shape")

    def __init__(self, gradient: Any, shape: tuple[int, ...], floats: bool = True) -> None:
        self._gradient, self._shape, self._floats = gradient, shape, floats

    def __call__(self, dy: ArrayLike, *, out: Any = None) -> Any:
        """Return the gradient with respect to x.

        Parameters
        ----------
        dy : array_like
            Gradient with respect to the forward's result, of its shape.
        out : ndarray, optional
            Output array, as in the function.

        Returns
        -------
        ndarray
            Gradient with respect to the forward's input. For `bias_act_dropout_add`, the tuple of
            the gradients with respect to x, bias and residual.

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
        """Show the shape of the result."""
        return f"<backward of a result of shape {self._shape}>"
