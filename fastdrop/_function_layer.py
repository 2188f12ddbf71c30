"""Layers of functions: forward and backward are calls of a function, with a key for each forward.

`_layers` says which function each layer is of. A plain call of `dropout` goes to compiled code from
here, as it does from `dropout` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from . import _arguments as arguments
from ._arguments import Array, ArrayLike
from ._forwards import Backward, Memory, Turn
from ._key import Key
from ._laws import EXPRESS
from ._layer_base import PairedLayer
from ._settings import Setting, Settings

_WORD = (1 << 64) - 1
_ndarray, _empty = np.ndarray, np.empty


class FunctionLayer(PairedLayer):
    """A function as a layer: each forward draws a new mask, and its backward the same one again.

    A subclass says which function, ``function(x, *, rng, training, **settings)``, and which its
    backward is where that is another, ``function(dy, *, rng, training, **settings)``.
    """

    __slots__ = ()

    _function: ClassVar[Callable[..., Array]]
    _backward_function: ClassVar[Callable[..., Array] | None] = None

    inplace = Setting(lambda value: arguments.flag("inplace", value), default=False)

    def forward(self, x: ArrayLike, training: bool | None = None) -> Array:
        """Apply the layer to `x` in training; return `x` itself in evaluation.

        Parameters
        ----------
        x : array_like
            As in the layer's function, on the CPU or a GPU; written to only if the layer is
            `inplace`.
        training : bool, optional
            Overrides the mode for this call.

        Returns
        -------
        ndarray
            A new array of the shape and dtype of `x`; `x` if the layer is `inplace`, and in
            evaluation.
        """
        settings, memory = self._settings, self._memories.own()
        training = self._training if training is None else arguments.in_training(training)
        # The usual call of `Dropout` goes straight to compiled code, as that of `dropout` does.
        if training and type(x) is _ndarray and memory.fixed is None:
            law = settings.laws.get(x.dtype)
            if law is not None and (run := law.kernel(x.nbytes)) is not None:
                y, key, n = _empty(x.shape, x.dtype), self._key, next(self._numbers)
                words = key[0], (key[1] + n) & _WORD
                if run(id(x), id(y), law.record_at, 0, *words):
                    memory.remember_plain(n, y.shape, key, settings, law)
                    return y
                return self._drop(x, memory, Turn(key, iter((n,))))
        if not training:
            return self._function(x, rng=None, training=False, **settings.arguments)
        return self._drop(x, memory, self._turn(memory))

    __call__ = forward

    def _drop(self, x: ArrayLike, memory: Memory, turn: Turn) -> Array:
        """Apply the function in training, and remember that."""
        settings = self._settings
        out = {"out": x} if settings["inplace"] else {}
        y = self._function(x, rng=turn, training=True, **settings.arguments, **out)
        self._remember(memory, turn, y.shape, settings)
        if (plain := self._plain(settings)) is not None and type(x) is _ndarray:
            law = EXPRESS.get((*plain, x.dtype))
            if law is not None:
                settings.laws[x.dtype] = law
        return y

    def _plain(self, settings: Settings) -> tuple[float, float | None] | None:
        """Return p and scale where forward and backward are plain calls of `dropout`."""
        return None

    def backward(self, dy: ArrayLike) -> Array:
        """Return the gradient of this thread's last training forward that has not yet gone back.

        Forwards in evaluation do not count. In evaluation mode, where no training forward is left,
        this returns `dy` itself; after training forwards that are not to go back, as in Monte Carlo
        dropout, call `forget` first. Where backwards come in another order than the reverse of the
        forwards, as of the two batches of a GAN's step, use `vjp`.

        Parameters
        ----------
        dy : array_like
            Gradient of the forward's output, of its shape.

        Returns
        -------
        ndarray
            Gradient of its input: the same mask, drawn again, and the same scale.

        Raises
        ------
        RuntimeError
            If no training forward is left, in training mode.
        ValueError
            If `dy` has another shape than that forward's output.
        """
        memory = self._memories.own()
        if not memory.runs:
            return self._in_evaluation(dy)
        run = memory.runs[-1]
        law = run.law
        if law is not None and type(dy) is _ndarray and dy.dtype is law.dtype:
            if dy.shape == run.shape and (kernel := law.kernel(dy.nbytes)) is not None:
                dx, key = _empty(run.shape, law.dtype), run.key
                words = key[0], (key[1] + run.stop - 1) & _WORD  # type: ignore[index]
                if kernel(id(dy), id(dx), law.record_at, 0, *words):
                    memory.went_back()
                    return dx
        run.check(dy)
        dx = self._gradient(run.settings)(dy, rng=run.last_key())
        memory.went_back()
        return dx

    def _in_evaluation(self, dy: ArrayLike) -> Array:
        if not self._training:
            return self._gradient(self._settings)(dy, rng=None, training=False)
        raise RuntimeError(
            "backward without a forward: every training forward of this layer in this thread has "
            "already gone back"
        )

    def _gradient(self, settings: Settings) -> Callable[..., Array]:
        """Return ``gradient(dy, *, rng)`` of forwards with some settings."""
        function = self._backward_function or type(self)._function
        return lambda dy, **call: function(dy, **{"training": True, **settings.arguments, **call})

    def vjp(self, x: ArrayLike, training: bool | None = None) -> tuple[Array, Backward]:
        """Return what `forward` returns, and the backward of this very call.

        For backwards that come in any order, more than once, or from another thread. A forward of
        `vjp` takes its number from the count as any other, and `backward` knows nothing of it.

        Parameters
        ----------
        x, training
            As in `forward`.

        Returns
        -------
        y : ndarray
            The result.
        backward : callable
            ``backward(dy)``, the gradient by x of a gradient by y; it holds 16 bytes of key and no
            array.

        Examples
        --------
        >>> import numpy as np
        >>> import fastdrop as fd
        >>> layer = fd.Dropout(0.5, rng=1)
        >>> real, back_from_real = layer.vjp(np.ones(4))
        >>> fake, back_from_fake = layer.vjp(np.ones(4))
        >>> bool((back_from_real(np.ones(4)) == real).all())
        True
        """
        memory, settings = self._memories.own(), self._settings
        y = self.forward(x, training)
        key: Key | None = None
        if self._mode(training):
            run = memory.runs[-1]
            key, settings = run.last_key(), run.settings
            memory.went_back()  # so that `backward` does not meet it
        gradient = self._gradient(settings)

        def back(dy: ArrayLike, **out: Any) -> Array:
            return gradient(dy, rng=key, training=key is not None, **out)

        return y, Backward(back, np.shape(y))
