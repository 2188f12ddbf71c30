"""Layers whose backward reads what their forward was given: softmax, and the epilogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np

from .._check import arguments
from .._check.arguments import Array, ArrayLike, Training
from .._check.key import RNG
from .._check.keywords import checks_keywords
from .._functions.backward import Backward
from .._functions.bias_act import (
    activation_name,
    bias_act_dropout_add,
    bias_act_dropout_add_backward,
    residual_gradient,
)
from .._functions.softmax import axis_number, softmax_dropout, softmax_dropout_backward
from .._functions.vjp import bias_act_dropout_add_vjp, softmax_dropout_vjp
from .base import PairedLayer
from .history import ForwardRun
from .settings import Setting

_T = TypeVar("_T")


class InputLayer(PairedLayer):
    """A layer that needs its forward's input in the backward: the caller's array, by reference.

    In training mode each forward is remembered until it goes back. In evaluation mode that would
    hold all that was ever evaluated, so that only the last one is, whether it drops or not.
    """

    __slots__ = ()

    def _go(
        self,
        function: Callable[..., Array],
        x: ArrayLike,
        training: Training | None,
        kept: tuple[Any, ...],
        more: Any = None,
        **others: Any,
    ) -> Array:
        """Return ``function(x, *, rng, training, **others, **settings)``, and remember the call."""
        history, settings = self._history.of_this_thread(), self._settings
        if not self._mode(training):
            y = function(x, rng=None, training=False, **others, **settings)
            history.last = ForwardRun(0, y.shape, None, settings, kept, more)
            return y
        forward_key = self._next_key(history)
        y = function(x, rng=forward_key, training=True, **others, **settings)
        history.last = None
        if self._training:
            self._record(history, forward_key, y.shape, settings, kept, more)
        else:
            forward_key.key()
            history.last = ForwardRun(
                forward_key.number,
                y.shape,
                forward_key.base,
                settings,
                kept,
                more,
                forward_key.step,
            )
        return y

    def _go_back(self, dy: ArrayLike, gradient: Callable[[ForwardRun], _T]) -> _T:
        """Return the gradient of a forward of this thread, and forget it."""
        history = self._history.of_this_thread()
        run = history.runs[-1] if history.runs else None
        if history.last is not None and (run is None or not self._training):
            run = history.last
        if run is None:
            raise RuntimeError(
                "backward without a forward: each goes back once, in the thread that it was made "
                "in, and in evaluation mode only the last one is remembered"
            )
        run.check(dy)
        result = gradient(run)
        if run is history.last:
            history.last = None
        else:
            history.pop_last()
        return result

    def _tied(
        self,
        function: Callable[..., tuple[Array, Backward]],
        x: ArrayLike,
        training: Training | None,
        **others: Any,
    ) -> tuple[Array, Backward]:
        """Return what a function's ``_vjp`` makes of the next forward."""
        mode = self._mode(training)
        rng = self._next_key(self._history.of_this_thread()) if mode else None
        return function(x, rng=rng, training=mode, **others, **self._settings)


class SoftmaxDropout(InputLayer):
    """Softmax and dropout as a layer: `softmax_dropout` of attention's scores, and its backward.

    Nothing is stored but a reference to the scores, from which the backward makes the softmax
    again: **do not write to them before that**. So there is no `inplace`.

    Parameters
    ----------
    p : float
        Probability of **dropping** an element, in [0, 1].
    axis : int
        Axis that the softmax adds up to 1 along.
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes.

    Notes
    -----
    Backwards go back through forwards in reverse order. In training mode every forward is
    remembered until it has gone back, and with it its scores. In evaluation mode, where the softmax
    is computed without dropout, only the last forward is remembered, until the next one: it can go
    back once, and no more than one array is held. So passes that never go back, as of Monte Carlo
    dropout, are best made in evaluation mode, by ``forward(x, training=True)``; in training mode
    `forget` lets go of what they hold. Evaluation between a training forward and its backward
    disturbs nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> layer = fd.SoftmaxDropout(0.5, rng=42)
    >>> layer(np.zeros((2, 4)))
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0. ]])
    >>> layer.backward(np.ones((2, 4)))
    array([[ 0.25 ,  0.25 , -0.25 , -0.25 ],
           [-0.125, -0.125,  0.375, -0.125]])
    """

    __slots__ = ()

    p = Setting(arguments.probability)
    axis = Setting(axis_number, default=-1)

    @checks_keywords
    def __init__(
        self, p: float = 0.5, *, axis: int = -1, rng: RNG = None, **unknown: NoReturn
    ) -> None:
        super().__init__(rng, unknown, p=p, axis=axis)

    def forward(self, x: ArrayLike, training: Training | None = None) -> Array:
        """Return the softmax of `x`, of which elements are dropped in training.

        Parameters
        ----------
        x : array_like
            Scores, as in `softmax_dropout`, on the CPU or a GPU.
        training : bool, optional
            Overrides the mode for this call.

        Returns
        -------
        ndarray
            A new array of the shape and dtype of `x`.
        """
        return self._go(softmax_dropout, x, training, (x,))

    __call__ = forward

    def vjp(self, x: ArrayLike, training: Training | None = None) -> tuple[Array, Backward]:
        """Return what `forward` returns, and the backward of this very call, which holds `x`.

        As `Dropout.vjp`, for backwards in any order.
        """
        return self._tied(softmax_dropout_vjp, x, training)

    def backward(self, dy: ArrayLike) -> Array:
        """Return the gradient of the last forward that has not gone back, by its scores.

        In training mode, that is the last one in this mode, if any is left.

        Parameters
        ----------
        dy : array_like
            Gradient of the forward's output: of its shape and dtype.

        Returns
        -------
        ndarray
            Gradient of its input.

        Raises
        ------
        RuntimeError
            If no forward is remembered.
        ValueError, TypeError
            If `dy` has another shape or dtype than that forward's output.
        """

        def gradient(run: ForwardRun) -> Array:
            key = run.key_of_last()
            (x,) = run.kept
            return softmax_dropout_backward(
                dy, x, rng=key, training=key is not None, **run.settings
            )

        return self._go_back(dy, gradient)


class BiasActDropoutAdd(InputLayer):
    """What follows a matrix product, as a layer: `bias_act_dropout_add` and its backward.

    Nothing is stored but references to `x` (with the activation "identity" not even that) and to
    the bias: **do not write to them before the backward**. So there is no `inplace`.

    Parameters
    ----------
    act : {"identity", "relu", "gelu", "gelu_tanh", "silu", "tanh"}
        The activation, as in `bias_act_dropout_add`.
    p : float
        Probability of **dropping** an element, in [0, 1].
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes.
    SoftmaxDropout : for which forwards are remembered, and how long.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> layer = fd.BiasActDropoutAdd("relu", 0.5, rng=42)
    >>> x, bias = np.arange(8.0).reshape(2, 4), np.ones(4)
    >>> layer(x, bias, residual=-x)
    array([[ 2.,  3., -2., -3.],
           [-4., -5.,  8., -7.]])
    >>> dx, dbias, dresidual = layer.backward(np.ones((2, 4)))
    >>> dbias
    array([2., 2., 2., 0.])
    """

    __slots__ = ()

    act = Setting(activation_name)
    p = Setting(arguments.probability)

    @checks_keywords
    def __init__(
        self, act: str = "identity", p: float = 0.5, *, rng: RNG = None, **unknown: NoReturn
    ) -> None:
        super().__init__(rng, unknown, act=act, p=p)

    def forward(
        self,
        x: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        residual: ArrayLike | None = None,
        training: Training | None = None,
    ) -> Array:
        """Return ``dropout(act(x + bias), p) + residual``; in evaluation without the dropout.

        Parameters
        ----------
        x, bias, residual : array_like
            As in `bias_act_dropout_add`, on the CPU or a GPU; never written to.
        training : bool, optional
            Overrides the mode for this call.

        Returns
        -------
        ndarray
            A new array of the shape and dtype of `x`.
        """
        return self._go(
            bias_act_dropout_add,
            x,
            training,
            # Its derivative is 1 everywhere.
            (None if self.act == "identity" else x, bias),
            None if residual is None else tuple(np.shape(residual)),  # type: ignore[arg-type]
            bias=bias,
            residual=residual,
        )

    __call__ = forward

    def vjp(
        self,
        x: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        residual: ArrayLike | None = None,
        training: Training | None = None,
    ) -> tuple[Array, Backward]:
        """Return what `forward` returns, and the backward of this very call.

        As `Dropout.vjp`, for backwards in any order; ``backward(dy)`` returns what `backward`
        returns, and holds `x` and `bias`.
        """
        return self._tied(bias_act_dropout_add_vjp, x, training, bias=bias, residual=residual)

    def backward(self, dy: ArrayLike) -> tuple[Array, Array | None, Any]:
        """Return the gradients of the last forward that has not gone back.

        In training mode, that is the last one in this mode, if any is left.

        Parameters
        ----------
        dy : array_like
            Gradient of the forward's output: of its shape and dtype.

        Returns
        -------
        dx : ndarray
            Gradient of the forward's `x`.
        dbias : ndarray or None
            Of the shape of its bias; None without one.
        dresidual : array_like or None
            Of the shape of its residual: `dy` itself, or its sums over what the residual was
            broadcast along. None without one.

        Raises
        ------
        RuntimeError
            If no forward is remembered.
        ValueError, TypeError
            If `dy` has another shape or dtype than that forward's output.
        """

        def gradients(run: ForwardRun) -> tuple[Array, Array | None, Any]:
            key = run.key_of_last()
            x, bias = run.kept
            dx, dbias, _ = bias_act_dropout_add_backward(
                dy, dy if x is None else x, bias, rng=key, training=key is not None, **run.settings
            )
            return dx, dbias, None if run.more is None else residual_gradient(dy, run.more)

        return self._go_back(dy, gradients)
