"""Layers of functions: forward and backward are calls of a function, with a key for each forward.

`_layers` says which function each layer is of. A plain call of `dropout` goes to compiled code from
here, as it does from `dropout` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from .._call.coefficients import EXPRESS
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Training
from .._check.key import Deferred, Key
from .._functions.backward import Backward
from .base import PairedLayer
from .history import Memory, Run, Turn
from .settings import Prepared, Setting, Settings, keep_prepared

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

    def forward(self, x: ArrayLike, training: Training | None = None) -> Array:
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
        if training and type(x) is _ndarray and memory.fixed is None:
            y = self._quickly(x, memory, settings)
            if y is not None:
                return y
        if not training:
            return self._function(x, rng=None, training=False, **settings.arguments)
        return self._drop(x, memory, self._turn(memory))

    __call__ = forward

    def _quickly(self, x: Any, memory: Memory, settings: Settings) -> Array | None:
        """Make a call like an earlier one; None for what has to go the long way.

        A plain call of `dropout` goes straight to compiled code, as it does from there, and others
        to what was prepared for them.
        """
        law, key = settings.laws.get(x.dtype), self._key
        y: Array | None = None
        if law is not None and x.flags.c_contiguous:
            run = law.kernel(x.nbytes)
            if run is None:
                return None
            y, n = _empty(x.shape, law.dtype), next(self._numbers)
            if not run(id(x), id(y), law.record_at, 0, key[0], (key[1] + n) & _WORD):
                y = None
        else:
            again = settings.forwards.get((x.shape, x.strides, x.dtype))
            out = x if settings["inplace"] else None
            if again is None or not (out is None or x.flags.writeable):
                return None
            n = next(self._numbers)
            y = again(x, out, key.advanced(n), 0)
        if y is None:
            return self._drop(x, memory, Turn(key, iter((n,))))
        memory.remember_plain(n, y.shape, key, settings)
        return y

    def _drop(self, x: ArrayLike, memory: Memory, turn: Turn) -> Array:
        """Apply the function in training, and remember that."""
        settings = self._settings
        out = {}
        if settings["inplace"]:
            if not (isinstance(x, _ndarray) or detect.on_gpu(x)):
                raise TypeError(
                    f"x is a {detect.kind_of(x)}, and a layer with inplace=True writes to it: "
                    "give a numpy.ndarray, or make the layer without inplace"
                )
            out = {"out": x}
        y = self._function(x, rng=turn, training=True, **settings.arguments, **out)
        self._remember(memory, turn, y.shape, settings)
        self._learn(x, turn, settings, settings.forwards)
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
        if type(dy) is _ndarray and run.step and dy.shape == run.shape:
            dx = self._quickly_back(dy, run)
            if dx is not None:
                memory.went_back()
                return dx
        run.check(dy)
        last = run.last_key()
        turn = Deferred(lambda: last)  # type: ignore[arg-type,return-value]
        dx = self._gradient(run.settings)(dy, rng=turn)
        memory.went_back()
        self._learn(dy, turn, run.settings, run.settings.backwards)
        return dx

    def _quickly_back(self, dy: Array, run: Run) -> Array | None:
        """Make a backward like an earlier one; None for what has to go the long way."""
        settings, key, n = run.settings, run.key, run.stop - 1
        assert key is not None, "a training forward has a key"
        law = settings.laws.get(dy.dtype)
        if law is not None and dy.flags.c_contiguous:
            if (kernel := law.kernel(dy.nbytes)) is not None:
                dx = _empty(run.shape, law.dtype)
                words = key[0], (key[1] + n) & _WORD
                if kernel(id(dy), id(dx), law.record_at, 0, *words):
                    return dx
        elif settings.backwards:
            again = settings.backwards.get((dy.shape, dy.strides, dy.dtype))
            if again is not None:
                made: Array | None = again(dy, None, key.advanced(n), 0)
                return made
        return None

    def _learn(self, x: Any, turn: Deferred, settings: Settings, calls: Prepared) -> None:
        """Remember, of a call that went the long way, how the next one like it may go."""
        if type(x) is not _ndarray:
            return
        if turn.prepared is not None:
            keep_prepared(calls, (x.shape, x.strides, x.dtype), turn.prepared)
        elif (plain := self._plain(settings)) is not None:
            law = EXPRESS.get((*plain, x.dtype))
            if law is not None:
                settings.laws[x.dtype] = law

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

    def vjp(self, x: ArrayLike, training: Training | None = None) -> tuple[Array, Backward]:
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
        if type(self).forward is not FunctionLayer.forward:
            raise TypeError(
                f"{type(self).__name__} has a forward of its own, and the vjp of "
                f"{self._public_name()} would not make it: give it a vjp too"
            )
        memory, settings, mode = self._memories.own(), self._settings, self._mode(training)
        y = self.forward(x, mode)
        key: Key | None = None
        if mode:
            run = memory.runs[-1]
            key, settings = run.last_key(), run.settings
            memory.went_back()  # so that `backward` does not meet it
        gradient = self._gradient(settings)

        def back(dy: ArrayLike, **out: Any) -> Array:
            return gradient(dy, rng=key, training=key is not None, **out)

        return y, Backward(back, np.shape(y))
