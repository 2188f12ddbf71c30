"""Layers of functions: forward and backward are calls of a function, with a key for each forward.

`_layers` says which function each layer is of. A plain call of `dropout` goes to compiled code from
here, as it does from `dropout` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Training
from .._check.key import Key, LazyKey
from .._functions.backward import Backward
from .base import PairedLayer
from .history import ForwardKey, ForwardRun, ThreadHistory
from .settings import Plans, Setting, Settings, keep_plan

_ndarray = np.ndarray


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
        settings, memory = self._settings, self._history.of_this_thread()
        training = self._training if training is None else arguments.in_training(training)
        if training and type(x) is _ndarray and memory.fixed is None:
            y = self._by_plan(x, memory, settings)
            if y is not None:
                return y
        if not training:
            return self._function(x, rng=None, training=False, **settings.arguments)
        return self._drop(x, memory, self._next_key(memory))

    __call__ = forward

    def _by_plan(self, x: Array, memory: ThreadHistory, settings: Settings) -> Array | None:
        """Make a call whose plan is known; None if there is none."""
        plans, key = settings.forward_plans, self._key
        plan = plans.get(x.dtype) or plans.get((x.shape, x.strides, x.dtype))
        out = x if settings.inplace else None
        if plan is None or not (out is None or x.flags.writeable):
            return None
        n = next(self._numbers)
        y: Array | None = plan(x, out, key, 0, n)
        if y is None and (plan := plans.get((x.shape, x.strides, x.dtype))) is not None:
            y = plan(x, out, key, 0, n)
        if y is None:
            return self._drop(x, memory, ForwardKey(key, iter((n,))))
        memory.record_plain(n, y.shape, key, settings)
        return y

    def _drop(self, x: ArrayLike, memory: ThreadHistory, turn: ForwardKey) -> Array:
        """Apply the function in training, and remember that."""
        settings = self._settings
        out = {}
        if settings.inplace:
            if not (isinstance(x, _ndarray) or detect.on_gpu(x)):
                raise TypeError(
                    f"x is {detect.a_kind_of(x)}, and a layer with inplace=True writes to it: "
                    "give a numpy.ndarray, or make the layer without inplace"
                )
            out = {"out": x}
        y = self._function(x, rng=turn, training=True, **settings.arguments, **out)
        self._record(memory, turn, y.shape, settings)
        self._learn(x, turn, settings.forward_plans)
        return y

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
        memory = self._history.of_this_thread()
        if not memory.runs:
            return self._in_evaluation(dy)
        run = memory.runs[-1]
        if type(dy) is _ndarray and run.step and dy.shape == run.shape:
            dx = self._back_by_plan(dy, run)
            if dx is not None:
                memory.pop_last()
                return dx
        run.check(dy)
        last = run.key_of_last()
        turn = LazyKey(lambda: last)  # type: ignore[arg-type,return-value]
        dx = self._gradient(run.settings)(dy, rng=turn)
        memory.pop_last()
        self._learn(dy, turn, run.settings.backward_plans)
        return dx

    def _back_by_plan(self, dy: Array, run: ForwardRun) -> Array | None:
        """Make a backward whose plan is known; None if there is none."""
        plans, n = run.settings.backward_plans, run.stop - 1
        made: Array | None = None
        if (plan := plans.get(dy.dtype)) is not None:
            made = plan(dy, None, run.key, 0, n)
        if made is None and (plan := plans.get((dy.shape, dy.strides, dy.dtype))) is not None:
            made = plan(dy, None, run.key, 0, n)
        return made

    def _learn(self, x: Any, key: LazyKey, plans: Plans) -> None:
        """Keep the plan that served a call, for the next one like it."""
        if type(x) is not _ndarray:
            return
        if key.contiguous_plan is not None:
            keep_plan(plans, x.dtype, key.contiguous_plan)
        elif key.plan is not None:
            keep_plan(plans, (x.shape, x.strides, x.dtype), key.plan)

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
        memory, settings, mode = (
            self._history.of_this_thread(),
            self._settings,
            self._mode(training),
        )
        y = self.forward(x, mode)
        key: Key | None = None
        if mode:
            run = memory.runs[-1]
            key, settings = run.key_of_last(), run.settings
            memory.pop_last()  # so that `backward` does not meet it
        gradient = self._gradient(settings)

        def back(dy: ArrayLike, **out: Any) -> Array:
            return gradient(dy, rng=key, training=key is not None, **out)

        return y, Backward(back, np.shape(y))
