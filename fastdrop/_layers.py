"""Layers: dropout with a mode and a memory of its forwards."""

from __future__ import annotations

from typing import Any

from . import _arguments as arguments
from ._arguments import Array, ArrayLike, NoiseShape
from ._backends import backend_of
from ._functions import dropout
from ._key import RNG, Key, _integer, as_key


class Dropout:
    """Dropout as a layer: it counts its forwards and draws each one's mask again in the backward.

    Between forward and backward nothing is kept but numbers, of arrays on a GPU too. Several
    forwards may come before the backwards, which then go back in reverse order, as in
    backpropagation through time.

    Parameters
    ----------
    p : float
        Probability of **dropping** an element, in [0, 1].
    rng : Key, int, Generator, BitGenerator, SeedSequence or None
        What the masks are drawn from, see `as_key`; resolved once, here. **Two layers given the
        same int draw the same masks**: give them one `numpy.random.Generator`, or
        ``key.fold_in(0)``, ``key.fold_in(1)`` and so on.
    noise_shape : tuple of int and None, optional
        As in `dropout`.

    Attributes
    ----------
    p : float
        May be changed between forwards; a backward uses its forward's. So may the key.
    key : Key
        What the masks are drawn from.
    forwards : int
        Training forwards so far. The n-th, from 0, uses ``Key(seed, (stream + n) mod 2**64)``.
    training : bool
        The mode; True in a new layer.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> rng = np.random.default_rng(0)
    >>> first, second = fd.Dropout(0.2, rng=rng), fd.Dropout(0.5, rng=rng)
    >>> x = np.ones((2, 3), np.float32)
    >>> y = second(first(x))
    >>> dx = first.backward(second.backward(np.ones_like(y)))
    >>> bool((dx == y).all())
    True
    """

    def __init__(self, p: float = 0.5, *, rng: RNG = None, noise_shape: NoiseShape = None) -> None:
        self.p = p
        self.key = as_key(rng)
        self.noise_shape = noise_shape
        self.training = True
        self.forwards = 0
        # Training forwards that have not gone back: runs of consecutive ones that are alike, so
        # that a layer does not grow when its forwards never go back (Monte Carlo dropout, say).
        self._pending: list[_Run] = []

    @property
    def p(self) -> float:
        """Probability of dropping an element."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p = arguments.probability(value)

    def __call__(self, x: ArrayLike) -> Array:
        """Return ``forward(x)``."""
        return self.forward(x)

    def forward(self, x: ArrayLike, training: bool | None = None) -> Array:
        """Drop elements of `x` in training; return `x` itself in evaluation.

        Parameters
        ----------
        x : array_like
            As in `dropout`, on the CPU or a GPU; never written to.
        training : bool, optional
            Overrides the mode for this call.

        Returns
        -------
        ndarray
            A new array of the shape and dtype of `x`; in evaluation, `x`.
        """
        mode = self.training if training is None else arguments.flag("training", training)
        n = self.forwards
        y = dropout(
            x,
            self.p,
            rng=self.key.advanced(n) if mode else None,
            training=mode,
            noise_shape=self.noise_shape,
        )
        if mode:
            last = self._pending[-1] if self._pending else None
            run = _Run(n, y.shape, self.p, self.key, self.noise_shape)
            if last is not None and last.goes_on_as(run):
                last.stop = n + 1
            else:
                self._pending.append(run)
            self.forwards = n + 1
        return y

    def backward(self, dy: ArrayLike) -> Array:
        """Return the gradient of the last training forward that has not yet gone back.

        Forwards in evaluation do not count. In evaluation mode, where no training forward is left,
        this returns `dy` itself.

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
        if not self._pending:
            if not self.training:
                return dropout(dy, self.p, training=False)
            raise RuntimeError(
                "backward without a forward: every training forward of this layer has already "
                "gone back"
            )
        run = self._pending[-1]
        shape = backend_of(dy).array(dy).shape
        if shape != run.shape:
            raise ValueError(
                f"dy has shape {shape}, and the last forward that has not gone back had {run.shape}"
            )
        dx = dropout(dy, run.p, rng=run.key.advanced(run.stop - 1), noise_shape=run.noise_shape)
        run.stop -= 1
        if run.start == run.stop:
            self._pending.pop()
        return dx

    def train(self, mode: bool = True) -> Dropout:
        """Set training mode (or evaluation, if `mode` is False), and return the layer."""
        self.training = arguments.flag("mode", mode)
        return self

    def eval(self) -> Dropout:
        """Set evaluation mode, in which the layer does nothing, and return the layer."""
        return self.train(False)

    def state_dict(self) -> dict[str, int]:
        """Return what has to be saved so that a resumed run draws the same masks.

        Returns
        -------
        dict
            The integers ``seed``, ``stream`` and ``forwards``; JSON holds them exactly.
        """
        return {"seed": self.key.seed, "stream": self.key.stream, "forwards": self.forwards}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a state that `state_dict` returned; forwards not gone back are forgotten.

        Raises
        ------
        ValueError
            If the entries are not those of `state_dict`, or out of range.
        TypeError
            If they are no integers.
        """
        expected = {"seed", "stream", "forwards"}
        if not isinstance(state, dict) or set(state) != expected:
            given = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise ValueError(f"state has {given}, and a state_dict has {sorted(expected)}")
        forwards = _integer("forwards", state["forwards"])
        if forwards < 0:
            raise ValueError(f"forwards={forwards} is negative")
        self.key = Key(state["seed"], state["stream"])
        self.forwards = forwards
        self._pending.clear()

    def __repr__(self) -> str:
        """Show the layer as it can be written in code."""
        shared = "" if self.noise_shape is None else f", noise_shape={self.noise_shape}"
        return f"{type(self).__name__}(p={self.p}, rng={self.key}{shared})"


class _Run:
    """Consecutive training forwards that are alike, from start to stop - 1."""

    __slots__ = ("key", "noise_shape", "p", "shape", "start", "stop")

    def __init__(self, n: int, shape: Any, p: float, key: Key, noise_shape: NoiseShape) -> None:
        self.start, self.stop = n, n + 1
        self.shape, self.p, self.key, self.noise_shape = shape, p, key, noise_shape

    def goes_on_as(self, other: _Run) -> bool:
        mine = self.stop, self.shape, self.p, self.key, self.noise_shape
        return mine == (other.start, other.shape, other.p, other.key, other.noise_shape)
